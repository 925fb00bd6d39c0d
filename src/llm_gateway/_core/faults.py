"""Which error class a fault is raised as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llm_gateway._facts import Fault
from llm_gateway.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ContextTooLong,
    DeadlineExceeded,
    InvalidOutput,
    InvalidRequest,
    LLMGatewayError,
    MalformedResponse,
    ModelMismatch,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    QueueUnavailable,
    QuotaExhausted,
    RateLimited,
    ResponseTooLarge,
    StaleResponse,
    TicketCancelled,
    TicketFailed,
)

__all__ = ["ERROR_OF"]

ERROR_OF: Final[Mapping[Fault, type[LLMGatewayError]]] = {
    Fault.CIRCUIT_OPEN: ProviderUnavailable,
    Fault.PROBE_BUSY: ProviderUnavailable,
    Fault.LIMITED: RateLimited,
    # The latch itself keeps the narrower class of the error that closed it.
    Fault.LATCHED: ProviderError,
    Fault.LOCAL_BUSY: ProviderUnavailable,
    Fault.BROKEN_PART: ConfigurationError,
    Fault.BUDGET_EMPTY: ProviderUnavailable,
    Fault.CONNECT: ProviderUnavailable,
    Fault.TLS: ProviderUnavailable,
    Fault.STALE_CONNECTION: ProviderUnavailable,
    Fault.DISCONNECTED: ProviderUnavailable,
    Fault.READ_TIMEOUT: ProviderUnavailable,
    Fault.DEADLINE: DeadlineExceeded,
    Fault.NO_ANSWER: DeadlineExceeded,
    Fault.SERVER_ERROR: ProviderUnavailable,
    Fault.OVERLOADED: ProviderUnavailable,
    Fault.CONFLICT: ProviderUnavailable,
    Fault.RATE_LIMITED: RateLimited,
    Fault.ACCELERATION: RateLimited,
    Fault.QUOTA: QuotaExhausted,
    Fault.KEY: AuthenticationFailed,
    Fault.FORBIDDEN: ProviderError,
    Fault.MODEL_NOT_FOUND: ModelNotFound,
    Fault.CONTEXT_TOO_LONG: ContextTooLong,
    Fault.BAD_REQUEST: InvalidRequest,
    Fault.MALFORMED: MalformedResponse,
    Fault.RESPONSE_TOO_LARGE: ResponseTooLarge,
    Fault.MODEL_MISMATCH: ModelMismatch,
    Fault.MODEL_UNCHECKED: QueueUnavailable,
    Fault.STALE_RESPONSE: StaleResponse,
    Fault.INVALID_OUTPUT: InvalidOutput,
    Fault.CANCELLED: TicketCancelled,
    Fault.WORKER_LOST: TicketFailed,
    Fault.UNKNOWN: ProviderError,
}
