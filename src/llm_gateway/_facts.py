"""The values that errors, receipts and events share. This module imports nothing of the package."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

__all__ = ["Attempt", "ErrorInfo", "Fault", "Masked", "Sent"]


class Fault(StrEnum):
    """What went wrong with one attempt: the row it takes in the admission table."""

    CIRCUIT_OPEN = "circuit_open"
    PROBE_BUSY = "probe_busy"
    LIMITED = "limited"
    LATCHED = "latched"
    LOCAL_BUSY = "local_busy"
    BROKEN_PART = "broken_part"
    CONNECT = "connect"
    TLS = "tls"
    STALE_CONNECTION = "stale_connection"
    DISCONNECTED = "disconnected"
    READ_TIMEOUT = "read_timeout"
    DEADLINE = "deadline"
    NO_ANSWER = "no_answer"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    ACCELERATION = "acceleration"
    QUOTA = "quota"
    KEY = "key"
    FORBIDDEN = "forbidden"
    BAD_REQUEST = "bad_request"
    CONTEXT_TOO_LONG = "context_too_long"
    MODEL_NOT_FOUND = "model_not_found"
    CONFLICT = "conflict"
    MALFORMED = "malformed"
    RESPONSE_TOO_LARGE = "response_too_large"
    MODEL_MISMATCH = "model_mismatch"
    MODEL_UNCHECKED = "model_unchecked"
    STALE_RESPONSE = "stale_response"
    INVALID_OUTPUT = "invalid_output"
    CANCELLED = "cancelled"
    BUDGET_EMPTY = "budget_empty"
    WORKER_LOST = "worker_lost"
    UNKNOWN = "unknown"


class Sent(StrEnum):
    """How much of the request had left this process when the attempt ended."""

    NO = "no"
    PARTIAL = "partial"
    YES = "yes"


MASK: Final = "<masked>"


class Masked:
    """Text that may quote a prompt or a key: kept for whoever asks, shown to nobody by accident.

    ``str``, ``repr``, ``format`` and ``pickle`` give the mask; `reveal` gives the text.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself. The caller answers for where it goes."""
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Masked({MASK})"

    def __reduce__(self) -> tuple[type[Masked], tuple[str]]:
        return Masked, (MASK,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try at the provider.

    Attributes:
        id: Unique within the process that made it.
        started_at: UTC time at which the attempt began.
        ended_at: UTC time at which its outcome was known.
        fault: Why it gave no answer; ``None`` when it did.
        provider_request_id: The vendor's id for it, when one came back.
        sent: How much of the request had left this process.
        possibly_billed: True when the vendor may charge for it although no answer was used.
    """

    id: str
    started_at: datetime
    ended_at: datetime
    fault: Fault | None = None
    provider_request_id: str | None = None
    sent: Sent = Sent.NO
    possibly_billed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """What is known about an error beside its class.

    Attributes:
        fault: The row of the admission table it takes.
        provider: The provider's name.
        endpoint: Host the call went to.
        model: The model asked for.
        key_id: Short digest that tells keys apart without showing one.
        status: HTTP status.
        code: The vendor's own machine-readable code.
        provider_request_id: The vendor's id of the request.
        ticket_id: The ticket concerned.
        correlation_id: The caller's correlation id.
        sent: How much of the request had left this process.
        no_retry: Whether the vendor said that trying again at once does not help.
        attempts: What was tried, oldest first.
        detail: The vendor's text, masked because it may quote the prompt.
    """

    fault: Fault | None = None
    provider: str | None = None
    endpoint: str | None = None
    model: str | None = None
    key_id: str | None = None
    status: int | None = None
    code: str | None = None
    provider_request_id: str | None = None
    ticket_id: str | None = None
    correlation_id: str | None = None
    sent: Sent = Sent.NO
    no_retry: bool = False
    attempts: tuple[Attempt, ...] = ()
    detail: Masked | None = field(default=None, compare=False)
