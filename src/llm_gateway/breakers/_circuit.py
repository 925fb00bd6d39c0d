"""One circuit: window, epoch, probes and open time. It knows of no other circuit and awaits nothing.

Two rules hold it together:

1. Every transition begins an epoch. An outcome of another epoch, or of a probe whose slot is gone, has no effect.
2. An outcome that is ignored touches the slot it gives back and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Protocol

from llm_gateway._core.circuit import CircuitChange, CircuitSnapshot, CircuitState, Rejection
from llm_gateway._core.jobs import Lane
from llm_gateway._core.window import FailureWindow
from llm_gateway.options import BreakerOptions

__all__ = ["LONGEST_OPEN", "Circuit", "open_seconds"]

LONGEST_OPEN: Final = 86_400.0
MOST_DOUBLINGS: Final = 60


class Transitions(Protocol):
    """Which state follows which; see `Machine`, which is imported when the first circuit trips."""

    def open(self) -> CircuitState:
        """Trip, or hold open."""
        ...

    def half_open(self) -> CircuitState:
        """Begin to probe."""
        ...

    def close(self) -> CircuitState:
        """Close without a probe."""
        ...

    def probe_succeeded(self) -> CircuitState:
        """Count a probe that was answered."""
        ...

    def probe_failed(self) -> CircuitState:
        """Count a probe that was not."""
        ...


class Circuit:
    """One circuit, of an endpoint or of a lane at one.

    Args:
        endpoint: Host.
        lane: Provider and model; ``None`` for the endpoint's own circuit.
        options: When it trips and closes.
        random: Draws evenly from 0 to 1.
        epochs: Numbers that no other epoch of the gate has.
        report: Takes each transition; must not raise.
    """

    __slots__ = (
        "_closed_at",
        "_endpoint",
        "_epochs",
        "_hint",
        "_lane",
        "_options",
        "_probes",
        "_random",
        "_report",
        "_streak",
        "_transitions",
        "_until",
        "_window",
        "epoch",
        "forced",
        "state",
    )

    def __init__(
        self,
        endpoint: str,
        lane: Lane | None,
        *,
        options: BreakerOptions,
        random: Callable[[], float],
        epochs: Iterator[int],
        report: Callable[[CircuitChange], None],
    ) -> None:
        self._endpoint = endpoint
        self._lane = lane
        self._options = options
        self._random = random
        self._epochs = epochs
        self._report = report
        self.state = CircuitState.CLOSED
        self.epoch = next(epochs)
        self.forced = False
        self._transitions: Transitions | None = None
        self._window = FailureWindow(options.window)
        self._probes: dict[str, float] = {}  # token -> when its lease ends
        self._until = 0.0  # when an open circuit lets a probe through
        self._hint = 0.0  # the time before which the provider asked not to be called
        self._streak = 0  # trips since the last full recovery
        self._closed_at = 0.0

    def refusal(self, now: float) -> Rejection | None:
        """Say why no call may be made, or ``None`` when one may. Changes nothing."""
        if self.state is CircuitState.OPEN:
            left = self.retry_in(now)
            return Rejection(self.state, left) if left > 0.0 else None
        if self.state is CircuitState.HALF_OPEN:
            leases = self._leases(now)
            if len(leases) >= self._options.max_probes:
                wait = min(self._options.open_time, min(leases) - now)
                return Rejection(self.state, wait, probes_busy=True)
        return None

    def admit(self, token: str, now: float) -> bool:
        """Let one call through that `refusal` did not refuse; True when it takes a probe slot, under *token*."""
        if self.state is CircuitState.CLOSED:
            return False
        if self.state is CircuitState.OPEN:
            self._enter(self._machine().half_open(), now)
        self._probes = {other: end for other, end in self._probes.items() if end > now}
        self._probes[token] = now + self._options.probe_lease
        return True

    def succeeded(self, epoch: int, token: str, now: float) -> None:
        """Count a call that was answered."""
        if epoch != self.epoch:
            return
        if self.state is CircuitState.CLOSED:
            self._hint = 0.0
            self._window.record(now, failed=False)
        elif self._takes_back(token, now):
            self._enter(self._machine().probe_succeeded(), now)

    def failed(self, epoch: int, token: str, now: float, retry_after: float | None) -> None:
        """Count a call that was not answered. *retry_after* (seconds) is a lower bound of the open time."""
        if epoch != self.epoch:
            return
        if self.state is CircuitState.CLOSED:
            self._note_hint(now, retry_after)
            self._window.record(now, failed=True)
            if self._tripped(now):
                self._enter(self._machine().open(), now)
        elif self._takes_back(token, now):
            self._note_hint(now, retry_after)
            self._enter(self._machine().probe_failed(), now)

    def ignored(self, token: str) -> None:
        """Take a probe slot back and count nothing."""
        self._probes.pop(token, None)

    def force_open(self, now: float) -> None:
        """Hold it open until `reset`."""
        self.forced = True
        if self.state is not CircuitState.OPEN:
            self._enter(self._machine().open(), now)

    def reset(self, now: float) -> None:
        """Close it as if it had never failed. What was admitted before counts nothing."""
        self.forced = False
        if self.state is CircuitState.CLOSED:
            self._begin_epoch()
        else:
            self._enter(self._machine().close(), now)
        self._streak = 0

    def retry_in(self, now: float) -> float:
        """Seconds until a probe is allowed; 0 unless open; the longest open time while forced."""
        if self.state is not CircuitState.OPEN:
            return 0.0
        if self.forced:
            return self._options.open_time_cap
        return max(0.0, self._until - now)

    def snapshot(self, now: float) -> CircuitSnapshot:
        """Tell the state. Changes nothing."""
        probes = len(self._leases(now))
        return CircuitSnapshot(state=self.state, retry_in=self.retry_in(now), probes=probes, forced=self.forced)

    def forgettable(self, now: float) -> bool:
        """Whether a new circuit would behave the same: closed, nothing counted, fully recovered."""
        return self.state is CircuitState.CLOSED and self._window.empty(now) and not self._current_streak(now)

    def _machine(self) -> Transitions:
        if self._transitions is None:
            # pybreaker pulls in redis: 65 ms that a process without an outage never pays.
            from llm_gateway.breakers._machine import Machine

            self._transitions = Machine(self._options.success_threshold)
        return self._transitions

    def _enter(self, new: CircuitState, now: float) -> None:
        """Follow the machine. Staying in the same state (a probe that is not yet the last) begins no epoch."""
        old = self.state
        if new is old:
            return
        if new is CircuitState.OPEN:
            self._streak = self._current_streak(now)
            self._until = max(now + open_seconds(self._options, self._streak, self._random()), self._hint)
            self._streak += 1
        if new is CircuitState.CLOSED:
            self._closed_at = now
        self.state = new
        self._begin_epoch()
        self._report(CircuitChange(self._endpoint, self._lane, old, new, self.retry_in(now)))

    def _begin_epoch(self) -> None:
        self.epoch = next(self._epochs)
        self._hint = 0.0
        self._window.clear()
        self._probes.clear()

    def _current_streak(self, now: float) -> int:
        """Trips in a row. The row ends once the circuit has stayed closed for a whole window."""
        recovered = self.state is CircuitState.CLOSED and now - self._closed_at >= self._options.window
        return 0 if recovered else self._streak

    def _tripped(self, now: float) -> bool:
        options = self._options
        return self._window.tripped(
            now,
            consecutive_failures=options.consecutive_failures,
            minimum_calls=options.minimum_calls,
            failure_rate=options.failure_rate,
        )

    def _note_hint(self, now: float, retry_after: float | None) -> None:
        if retry_after is not None:
            self._hint = max(self._hint, now + min(retry_after, LONGEST_OPEN))

    def _takes_back(self, token: str, now: float) -> bool:
        """Free the slot of *token*; False when its lease had ended or it held none."""
        return self._probes.pop(token, now) > now

    def _leases(self, now: float) -> list[float]:
        return [end for end in self._probes.values() if end > now]


def open_seconds(options: BreakerOptions, streak: int, draw: float) -> float:
    """Return how long a circuit stays open after *streak* trips in a row before this one.

    It doubles with each trip up to the cap. The jitter is kept below the cap too: otherwise every process
    that waits longest would come back at the same moment.

    Args:
        options: First open time, cap and jitter.
        streak: Trips before this one.
        draw: A number from 0 to 1, evenly drawn.
    """
    middle = min(options.open_time * 2.0 ** min(streak, MOST_DOUBLINGS), options.open_time_cap / (1.0 + options.jitter))
    return middle * (1.0 + options.jitter * (2.0 * draw - 1.0))
