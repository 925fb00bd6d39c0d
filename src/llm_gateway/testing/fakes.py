"""Doubles for the protocols: scripted, recording, without I/O."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable
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
from llm_gateway._core.environments import WORKSHOP, Environment
from llm_gateway._core.jobs import Lane
from llm_gateway._core.observations import Observation
from llm_gateway._core.outcomes import TicketEvent
from llm_gateway._core.responses import Receipt
from llm_gateway.errors import QueueError
from llm_gateway.protocols import (
    CircuitBreaker,
    EventPublisher,
    Observer,
    PayloadCodec,
    RateLimiter,
    ReceiptSink,
    ResponseCache,
)
from llm_gateway.testing._fake_provider import Fake, FakeProvider

__all__ = [
    "FakeBreaker",
    "FakeCache",
    "FakeCodec",
    "FakeLimiter",
    "FakeObserver",
    "FakeProvider",
    "FakePublisher",
    "FakeSink",
]

SEAL_LENGTH: Final = 32


class FakeBreaker(Fake, CircuitBreaker):
    """Lets every call through unless scripted, and records what it is told.

    Attributes:
        state: What `snapshot` tells.
        acquired: Keys asked for.
        successes: Permits given back as successes.
        failures: Permits given back as failures, with level and Retry-After.
        ignored: Permits given back as neither.
        forced: Lanes forced open.
        resets: Lanes reset; ``None`` for all.
        out: Permits not given back yet.
    """

    def __init__(self) -> None:
        super().__init__()
        self._script: deque[Permit | Rejection] = deque()
        self._listeners: list[Callable[[CircuitChange], None]] = []
        self.state = CircuitSnapshot(state=CircuitState.CLOSED)
        self.acquired: list[CircuitKey] = []
        self.successes: list[Permit] = []
        self.failures: list[tuple[Permit, Level, float | None]] = []
        self.ignored: list[Permit] = []
        self.forced: list[Lane] = []
        self.resets: list[Lane | None] = []
        self.out = 0

    def script(self, *replies: Permit | Rejection) -> None:
        """Reply so to the next who ask, in order."""
        self._script.extend(replies)

    def announce(self, change: CircuitChange) -> None:
        """Tell the listeners of a transition."""
        for listener in self._listeners:
            listener(change)

    def acquire(self, key: CircuitKey) -> Permit | Rejection:
        """Reply as scripted, else with a permit."""
        self.acquired.append(key)
        reply = self._script.popleft() if self._script else Permit(key=key, model_epoch=0, endpoint_epoch=0)
        self.out += isinstance(reply, Permit)
        return reply

    def success(self, permit: Permit) -> None:
        """Record it."""
        self.successes.append(permit)
        self.out -= 1

    def failure(self, permit: Permit, level: Level, *, retry_after: float | None = None) -> None:
        """Record it."""
        self.failures.append((permit, level, retry_after))
        self.out -= 1

    def ignore(self, permit: Permit) -> None:
        """Record it."""
        self.ignored.append(permit)
        self.out -= 1

    def snapshot(self, key: CircuitKey) -> CircuitSnapshot:
        """Tell ``state``."""
        return self.state

    def force_open(self, lane: Lane) -> None:
        """Record it."""
        self.forced.append(lane)

    def reset(self, lane: Lane | None = None) -> None:
        """Record it."""
        self.resets.append(lane)

    def subscribe(self, listener: Callable[[CircuitChange], None]) -> None:
        """Keep the listener for `announce`."""
        self._listeners.append(listener)


class FakeLimiter(Fake, RateLimiter):
    """Delays as scripted, else not.

    Attributes:
        asked: Keys asked for.
        penalties: What providers asked to wait.
    """

    def __init__(self) -> None:
        super().__init__()
        self._script: deque[float] = deque()
        self.asked: list[CircuitKey] = []
        self.penalties: list[tuple[CircuitKey, float]] = []

    def script(self, *delays: float) -> None:
        """Give these delays to the next who ask, in order."""
        self._script.extend(delays)

    def delay(self, key: CircuitKey) -> float:
        """Reply as scripted, else 0."""
        self.asked.append(key)
        return self._script.popleft() if self._script else 0.0

    def penalise(self, key: CircuitKey, seconds: float) -> None:
        """Record it."""
        self.penalties.append((key, seconds))


class FakeCache(Fake, ResponseCache):
    """A cache in memory.

    Attributes:
        entries: What it holds.
    """

    def __init__(self, *, allowed_in: frozenset[Environment] = WORKSHOP) -> None:
        super().__init__(allowed_in)
        self.entries: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes | None:
        """Return what was put."""
        return self.entries.get(key)

    async def put(self, key: str, entry: bytes) -> None:
        """Keep it."""
        self.entries[key] = entry

    async def clear(self) -> int:
        """Forget everything and return how many there were."""
        count = len(self.entries)
        self.entries.clear()
        return count


class FakePublisher(Fake, EventPublisher):
    """Records what it acknowledges, and fails as often as asked.

    Attributes:
        events: Acknowledged events.
        refused: Events it failed on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._failures: deque[Exception] = deque()
        self.events: list[TicketEvent] = []
        self.refused: list[TicketEvent] = []

    def fail(self, times: int, error: Exception | None = None) -> None:
        """Fail the next *times* deliveries with *error*, a `ConnectionError` by default."""
        self._failures.extend([error or ConnectionError("scripted")] * times)

    async def publish(self, event: TicketEvent) -> None:
        """Record it.

        Raises:
            Exception: as `fail` was told.
        """
        if self._failures:
            self.refused.append(event)
            raise self._failures.popleft()
        self.events.append(event)


class FakeSink(Fake, ReceiptSink):
    """Records receipts.

    Attributes:
        receipts: What was written.
        error: Raised by every write while set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.receipts: list[Receipt] = []
        self.error: Exception | None = None

    async def write(self, receipt: Receipt) -> None:
        """Record it.

        Raises:
            Exception: ``error``, while set.
        """
        if self.error is not None:
            raise self.error
        self.receipts.append(receipt)


class FakeObserver(Fake, Observer):
    """Records observations.

    Attributes:
        observations: What it was told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.observations: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        """Record it."""
        self.observations.append(observation)


class FakeCodec(Fake, PayloadCodec):
    """Scrambles, so that tests see what is sealed, and binds to the ticket. Not encryption."""

    @property
    def sealed(self) -> bool:
        """True: it stands in for a codec that seals."""
        return True

    async def seal(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Return a digest of the ticket and the scrambled *data*."""
        return _binding(tenant, ticket_id, kind) + _scrambled(data)

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Undo `seal`.

        Raises:
            QueueError: the bytes belong to another ticket.
        """
        if data[:SEAL_LENGTH] != _binding(tenant, ticket_id, kind):
            message = "The stored bytes do not belong to this ticket."
            raise QueueError(message)
        return _scrambled(data[SEAL_LENGTH:])

    async def digest(self, data: bytes, *, tenant: str) -> str:
        """Return a digest of the tenant and *data*."""
        return hashlib.sha256(tenant.encode() + b"\0" + data).hexdigest()

    async def shred(self, tenant: str) -> bool:
        """Return False: there is no key to forget."""
        return False


def _binding(tenant: str, ticket_id: str, kind: str) -> bytes:
    return hashlib.sha256(json.dumps([tenant, ticket_id, kind]).encode()).digest()


def _scrambled(data: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in data)
