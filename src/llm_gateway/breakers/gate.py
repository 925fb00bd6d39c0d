"""The circuit breaker: a two-step gate, ``acquire`` and then ``success``, ``failure`` or ``ignore``.

Every call passes two circuits, its endpoint's and its lane's at that endpoint. What an outcome counts:

=====================  ==================  ===============
outcome                endpoint's circuit  lane's circuit
=====================  ==================  ===============
``success``            success             success
``failure(MODEL)``     success (*)         failure
``failure(ENDPOINT)``  failure             nothing
``ignore``             nothing             nothing
=====================  ==================  ===============

(*) A model that fails was reached: for the endpoint, that is an answer.

"Nothing" gives a probe's slot back. One event loop uses a gate; nothing in it is awaited, so each step is whole.
"""

from __future__ import annotations

import itertools
import logging
import random as randomness
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final

from llm_gateway._core.circuit import (
    CircuitChange,
    CircuitKey,
    CircuitSnapshot,
    CircuitState,
    Level,
    Permit,
    Rejection,
)
from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._core.jobs import Lane
from llm_gateway._null import SystemClock
from llm_gateway.breakers._circuit import Circuit
from llm_gateway.options import BreakerOptions
from llm_gateway.protocols import CircuitBreaker, Clock

__all__ = ["MANY_CIRCUITS", "CircuitGate"]

MANY_CIRCUITS: Final = 1_024
DEFAULTS: Final = BreakerOptions()
SYSTEM_CLOCK: Final = SystemClock()
CLOSED: Final = CircuitSnapshot(state=CircuitState.CLOSED)
STRICTNESS: Final = {CircuitState.CLOSED: 0, CircuitState.HALF_OPEN: 1, CircuitState.OPEN: 2}

logger = logging.getLogger(__name__)


class CircuitGate(CircuitBreaker):
    """Opens when an endpoint or a model on it is out; lets few probes through until it has recovered.

    Beyond `MANY_CIRCUITS` lanes, circuits that are closed and have counted nothing for a window are forgotten,
    with the outcomes of calls that they still had under way.

    Args:
        options: When circuits trip and close.
        clock: Where (monotonic) time comes from.
        random: Draws evenly from 0 to 1; spreads open times.
    """

    def __init__(
        self,
        options: BreakerOptions = DEFAULTS,
        *,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        self._options = options
        self._clock = clock
        self._random = random
        self._epochs = itertools.count(1)
        self._tokens = itertools.count(1)
        self._endpoints: dict[str, Circuit] = {}
        self._pairs: dict[CircuitKey, tuple[Circuit, Circuit]] = {}  # the endpoint's, the lane's
        self._forced: set[Lane] = set()
        self._forget_at = MANY_CIRCUITS
        self._listeners: list[Callable[[CircuitChange], None]] = []
        self._changes: deque[CircuitChange] = deque()
        self._telling = False

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    @property
    def probe_lease(self) -> float:
        """As the options say."""
        return self._options.probe_lease

    def acquire(self, key: CircuitKey) -> Permit | Rejection:
        """Ask for one call.

        The stricter refusal is returned; a refused call takes no slot and begins no probing at either circuit.
        """
        endpoint, model = self._pairs.get(key) or self._add(key)
        if endpoint.state is model.state is CircuitState.CLOSED:
            return Permit(key=key, model_epoch=model.epoch, endpoint_epoch=endpoint.epoch)
        now = self._clock.monotonic()
        refusals = [refusal for circuit in (endpoint, model) if (refusal := circuit.refusal(now))]
        if refusals:
            return max(refusals, key=lambda refusal: (STRICTNESS[refusal.state], refusal.retry_in))
        token = str(next(self._tokens))
        # A list, not a generator: both circuits must be entered.
        probe = any([endpoint.admit(token, now), model.admit(token, now)])
        permit = Permit(key=key, model_epoch=model.epoch, endpoint_epoch=endpoint.epoch, probe=token if probe else "")
        self._tell()
        return permit

    def success(self, permit: Permit) -> None:
        """The provider answered: a success for both circuits."""
        pair = self._pairs.get(permit.key)
        if pair is None:
            return
        now = self._clock.monotonic()
        endpoint, model = pair
        endpoint.succeeded(permit.endpoint_epoch, permit.probe, now)
        model.succeeded(permit.model_epoch, permit.probe, now)
        self._tell()

    def failure(self, permit: Permit, level: Level, *, retry_after: float | None = None) -> None:
        """The provider is out; *retry_after* (seconds, at most a day) is a lower bound for the open time."""
        pair = self._pairs.get(permit.key)
        if pair is None:
            return
        now = self._clock.monotonic()
        endpoint, model = pair
        if level is Level.ENDPOINT:
            model.ignored(permit.probe)
            endpoint.failed(permit.endpoint_epoch, permit.probe, now, retry_after)
        else:
            endpoint.succeeded(permit.endpoint_epoch, permit.probe, now)
            model.failed(permit.model_epoch, permit.probe, now, retry_after)
        self._tell()

    def ignore(self, permit: Permit) -> None:
        """Neither: cancelled, refused for the caller's own fault, limited. Probe slots come back."""
        for circuit in self._pairs.get(permit.key, ()):
            circuit.ignored(permit.probe)

    def snapshot(self, key: CircuitKey) -> CircuitSnapshot:
        """Tell the state of the stricter circuit without changing it.

        An open circuit whose time has passed stays ``OPEN``, with ``retry_in`` 0, until a call asks for it.
        While forced, ``retry_in`` is the longest open time.
        """
        now = self._clock.monotonic()
        pair = self._pairs.get(key)
        circuits = [self._endpoints.get(key.endpoint)] if pair is None else pair
        seen = [circuit.snapshot(now) for circuit in circuits if circuit is not None]
        if pair is None and key.lane in self._forced:
            seen.append(CircuitSnapshot(state=CircuitState.OPEN, retry_in=self._options.open_time_cap, forced=True))
        return max(seen, key=lambda one: (STRICTNESS[one.state], one.forced, one.retry_in), default=CLOSED)

    def force_open(self, lane: Lane) -> None:
        """Hold a lane open at every endpoint, also those it is first used at later, until it is reset."""
        self._forced.add(lane)
        now = self._clock.monotonic()
        for model in self._models(lane):
            model.force_open(now)
        self._tell()

    def reset(self, lane: Lane | None = None) -> None:
        """Close a lane's circuits, or with ``None`` all, endpoints included. Calls under way count nothing there."""
        now = self._clock.monotonic()
        circuits = self._models(lane)
        if lane is None:
            self._forced.clear()
            circuits += self._endpoints.values()
        else:
            self._forced.discard(lane)
        for circuit in circuits:
            circuit.reset(now)
        self._tell()

    def subscribe(self, listener: Callable[[CircuitChange], None]) -> None:
        """Be told of every transition, in order, once it is whole.

        A listener may use the gate. One that raises disturbs nobody: a warning names the class of its error.
        """
        self._listeners.append(listener)

    def _models(self, lane: Lane | None) -> list[Circuit]:
        return [model for key, (_, model) in self._pairs.items() if lane is None or key.lane == lane]

    def _add(self, key: CircuitKey) -> tuple[Circuit, Circuit]:
        now = self._clock.monotonic()
        if len(self._pairs) >= self._forget_at:
            self._forget(now)
        endpoint = self._endpoints.get(key.endpoint)
        if endpoint is None:
            endpoint = self._endpoints[key.endpoint] = self._circuit(key.endpoint, None)
        model = self._circuit(key.endpoint, key.lane)
        pair = self._pairs[key] = (endpoint, model)
        if key.lane in self._forced:
            model.force_open(now)
            self._tell()
        return pair

    def _circuit(self, endpoint: str, lane: Lane | None) -> Circuit:
        return Circuit(
            endpoint,
            lane,
            options=self._options,
            random=self._random,
            epochs=self._epochs,
            report=self._changes.append,
        )

    def _forget(self, now: float) -> None:
        """Drop circuits that a new one would equal, and look again only when their number has doubled."""
        self._pairs = {key: pair for key, pair in self._pairs.items() if not pair[1].forgettable(now)}
        used = {key.endpoint for key in self._pairs}
        self._endpoints = {
            name: circuit for name, circuit in self._endpoints.items() if name in used or not circuit.forgettable(now)
        }
        self._forget_at = max(MANY_CIRCUITS, 2 * len(self._pairs))

    def _tell(self) -> None:
        """Tell the listeners what changed. A change made by a listener waits until all know of the earlier one."""
        if self._telling or not self._changes:
            return
        self._telling = True
        try:
            while self._changes:
                change = self._changes.popleft()
                for listener in tuple(self._listeners):
                    with Isolated():
                        listener(change)
        finally:
            self._telling = False

    def __repr__(self) -> str:
        unwell = sum(model.state is not CircuitState.CLOSED for _, model in self._pairs.values())
        return f"CircuitGate({len(self._endpoints)} endpoints, {len(self._pairs)} lanes, {unwell} not closed)"


class Isolated:
    """Turns a listener's error into a warning that quotes nothing of it. Cancellation and exit pass."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        logger.warning("A listener of the circuit breaker raised %s; it is told of further changes.", kind.__name__)
        return True
