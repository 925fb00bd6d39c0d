"""The contract of every part but the queue."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, runtime_checkable

from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitSnapshot, Level, Permit, Rejection
from llm_gateway._core.environments import Environment
from llm_gateway._core.freshness import FreshnessProfile
from llm_gateway._core.jobs import Lane
from llm_gateway._core.observations import Observation
from llm_gateway._core.outcomes import TicketEvent
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import PreparedCall, ProviderAnswer, Receipt
from llm_gateway._core.schema import OutputSchema

__all__ = [
    "CircuitBreaker",
    "Clock",
    "EventPublisher",
    "Observer",
    "Part",
    "PayloadCodec",
    "Provider",
    "RateLimiter",
    "ReceiptSink",
    "ResponseCache",
]


@runtime_checkable
class Part(Protocol):
    """Whatever is wired into a client."""

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """The environments in which it may run."""
        ...


class Clock(Protocol):
    """Time, as the policies see it. I/O deadlines follow the event loop's own clock."""

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...

    def now(self) -> datetime:
        """UTC wall-clock time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long by this clock."""
        ...


class Provider(Part, Protocol):
    """One vendor under one name."""

    @property
    def name(self) -> str:
        """Name that requests use."""
        ...

    @property
    def endpoint(self) -> str:
        """Host that is asked."""
        ...

    @property
    def key_id(self) -> str:
        """Digest that tells the account's keys apart."""
        ...

    @property
    def freshness(self) -> FreshnessProfile:
        """Which suspicions are proof at this provider."""
        ...

    def prepare(self, request: LLMRequest, schema: OutputSchema) -> PreparedCall:
        """Turn a request into bytes, without I/O.

        Raises:
            InvalidRequest: `UnsupportedParameter`, `UnsupportedSchema` and kin, before anything is spent.
        """
        ...

    async def send(self, call: PreparedCall, *, timeout: float) -> ProviderAnswer:
        """Make one attempt, never more.

        Raises:
            ProviderError: with ``info.fault`` set; also `InvalidRequest` kin for the vendor's 400s.
        """
        ...

    def serves(self, call: PreparedCall, served_model: str) -> bool:
        """Whether *served_model* counts as the model that was asked for (dated snapshots of an alias do)."""
        ...

    async def aclose(self) -> None:
        """Close what it opened."""
        ...


class CircuitBreaker(Part, Protocol):
    """Decides whether a call may be made. Synchronous: nothing is awaited while state is half-changed."""

    @property
    def probe_lease(self) -> float:
        """Seconds after which a probe that was not given back is void; longer than any attempt, or never."""
        return math.inf

    def acquire(self, key: CircuitKey) -> Permit | Rejection:
        """Ask for one call."""
        ...

    def success(self, permit: Permit) -> None:
        """The provider answered."""
        ...

    def failure(self, permit: Permit, level: Level, *, retry_after: float | None = None) -> None:
        """The provider is out; *retry_after* is a lower bound for the open time."""
        ...

    def ignore(self, permit: Permit) -> None:
        """Neither: cancelled, refused for the caller's own fault, limited."""
        ...

    def snapshot(self, key: CircuitKey) -> CircuitSnapshot:
        """Tell the state without changing it."""
        ...

    def force_open(self, lane: Lane) -> None:
        """Hold a lane open until it is reset."""
        ...

    def reset(self, lane: Lane | None = None) -> None:
        """Close a lane's circuits, or all."""
        ...

    def subscribe(self, listener: Callable[[CircuitChange], None]) -> None:
        """Be told of every transition. A listener that raises disturbs nobody."""
        ...


class RateLimiter(Part, Protocol):
    """Decides how long a call must wait."""

    def delay(self, key: CircuitKey) -> float:
        """Seconds to wait before sending; 0 sends now."""
        ...

    def penalise(self, key: CircuitKey, seconds: float) -> None:
        """The provider asked to wait that long."""
        ...


class ResponseCache(Part, Protocol):
    """Development only. The null object, `NoCache`, is the one that production takes."""

    async def get(self, key: str) -> bytes | None:
        """Return what was stored under *key*."""
        ...

    async def put(self, key: str, entry: bytes) -> None:
        """Store *entry* under *key*."""
        ...

    async def clear(self) -> int:
        """Remove all entries and return how many there were."""
        ...


class PayloadCodec(Part, Protocol):
    """Seals what the queue stores."""

    @property
    def sealed(self) -> bool:
        """Whether the stored bytes are unreadable without a key."""
        ...

    async def seal(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Make *data* storable, bound to its ticket.

        Raises:
            UnknownKey: this process was not given the key.
            QueueUnavailable: the keys cannot be reached now.
        """
        ...

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Undo `seal`.

        Raises:
            QueueError: the bytes belong to another ticket, were changed, or can never be opened again.
            UnknownKey: a process that was given another key can open them.
            QueueUnavailable: the keys cannot be reached now.
        """
        ...

    async def digest(self, data: bytes, *, tenant: str) -> str:
        """Return the digest under which the queue knows a request's content: the same whenever it is asked.

        Raises:
            UnknownKey: this process was not given the key.
            QueueUnavailable: the keys cannot be reached now.
        """
        ...

    async def shred(self, tenant: str) -> bool:
        """Forget the key of a tenant, so that nothing sealed for it can be opened again; True when there was one.

        Raises:
            QueueUnavailable: the keys cannot be reached; nothing was forgotten.
            DurabilityUnknown: it may have been forgotten.
        """
        ...


class EventPublisher(Part, Protocol):
    """Where status events go."""

    async def publish(self, event: TicketEvent) -> None:
        """Deliver one event and return once it is acknowledged. Raising means: deliver it again later."""
        ...


class ReceiptSink(Part, Protocol):
    """Where receipts are kept for an audit."""

    async def write(self, receipt: Receipt) -> None:
        """Keep one receipt."""
        ...


class Observer(Part, Protocol):
    """Metrics and traces. Must neither block nor raise."""

    def observe(self, observation: Observation) -> None:
        """Take note."""
        ...
