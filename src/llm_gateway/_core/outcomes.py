"""The ways a call can end that are not errors, and what a ticket tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, Generic, Literal, TypeVar

from pydantic import JsonValue

from llm_gateway._core.jobs import JobError
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import LLMResponse, Receipt, Usage
from llm_gateway.errors import LLMGatewayError

__all__ = ["Completed", "Item", "Pending", "Ticket", "TicketEvent", "TicketStatus", "WaitReason"]

T = TypeVar("T")
CoarseStatus = Literal["processing", "completed", "failed", "expired", "cancelled"]
COARSE: Final[Mapping[TicketState, CoarseStatus]] = {
    TicketState.QUEUED: "processing",
    TicketState.PROCESSING: "processing",
    TicketState.COMPLETED: "completed",
    TicketState.FAILED: "failed",
    TicketState.EXPIRED: "expired",
    TicketState.CANCELLED: "cancelled",
}


class WaitReason(StrEnum):
    """Why a request waits."""

    SUBMITTED = "submitted"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    CIRCUIT_OPEN = "circuit_open"
    RATE_LIMITED = "rate_limited"
    DEADLINE = "deadline"
    NEEDS_OPERATOR = "needs_operator"
    MODEL_CHANGED = "model_changed"
    LOCAL_BUSY = "local_busy"
    RETRYING = "retrying"
    WORKER_LOST = "worker_lost"
    UNKNOWN_KEY = "unknown_key"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A durable promise: this request will end in exactly one terminal state by ``expires_at``.

    Attributes:
        id: What to ask for later.
        reason: Why it waits.
        created_at: UTC time of the submission.
        expires_at: UTC time at which waiting ends.
        not_before: UTC time before which it will not be tried.
        position: Requests ahead of it in its lane; ``None`` when not known.
        estimated_wait: Seconds until an answer; ``None`` when there is no honest estimate.
        idempotency_key: The key under which it is stored.
        group: The batch it belongs to.
        correlation_id: The caller's own id.
        metadata: Echoed untouched.
    """

    id: str
    reason: str | None
    created_at: datetime
    expires_at: datetime
    idempotency_key: str
    not_before: datetime | None = None
    position: int | None = None
    estimated_wait: float | None = None
    group: str | None = None
    correlation_id: str | None = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue], repr=False)


@dataclass(frozen=True, slots=True)
class Completed(Generic[T]):
    """A fresh result."""

    response: LLMResponse[T]
    metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue], repr=False)
    correlation_id: str | None = None

    @property
    def status(self) -> Literal["completed"]:
        """The coarse status, as HTTP contracts spell it."""
        return "completed"


@dataclass(frozen=True, slots=True)
class Pending:
    """The request is stored and will be answered; ask again by the ticket's id."""

    ticket: Ticket

    @property
    def status(self) -> Literal["processing"]:
        """The coarse status, as HTTP contracts spell it."""
        return "processing"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketStatus:
    """Where a ticket stands now.

    Attributes:
        ticket: The ticket as it stands now.
        state: Fine state.
        version: Rises by one with each transition.
        attempts: Attempts spent; waiting out an outage spends none.
        error: Why it failed.
        updated_at: UTC time of the latest transition.
    """

    ticket: Ticket
    state: TicketState
    version: int
    attempts: int
    updated_at: datetime
    error: JobError | None = None

    @property
    def status(self) -> CoarseStatus:
        """The coarse status: a queued ticket is ``processing`` too."""
        return COARSE[self.state]


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEvent:
    """One status change of one ticket, with all that a consumer needs to act on it.

    Attributes:
        event_id: Same for every delivery of this change; terminal changes of one ticket share one.
        cursor: Place in the stream: pass it as ``after`` to go on from here.
        trace_context: The trace of the request, as headers.
        error: Why it failed.
        receipt: Where the answer came from, once completed.
    """

    event_id: str
    cursor: str
    ticket_id: str
    tenant: str
    version: int
    state: TicketState
    reason: str | None
    at: datetime
    idempotency_key: str
    group: str | None = None
    correlation_id: str | None = None
    callback_topic: str | None = None
    trace_context: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue], repr=False)
    error: JobError | None = None
    receipt: Receipt | None = None

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer, once completed."""
        return self.receipt.usage if self.receipt else None

    @property
    def cost(self) -> Decimal | None:
        """Price of the answer in US dollars, once completed and where a price is known."""
        return self.receipt.cost if self.receipt else None


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One outcome of ``LLMClient.map``.

    Attributes:
        index: Place of the request in what was given.
        sample: Which draw this is.
        request: The request as asked, its sample set.
        outcome: A result, a ticket, or the typed error.
    """

    index: int
    sample: int
    request: LLMRequest
    outcome: Completed[T] | Pending | LLMGatewayError
