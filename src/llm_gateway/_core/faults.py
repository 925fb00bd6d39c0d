"""Which error class a fault is raised as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llm_gateway._facts import Fault
from llm_gateway.errors import (
    AuthenticationFailed,
    ContextTooLong,
    InvalidRequest,
    LLMGatewayError,
    MalformedResponse,
    ModelNotFound,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
)

__all__ = ["ERROR_OF"]

ERROR_OF: Final[Mapping[Fault, type[LLMGatewayError]]] = {
    Fault.SERVER_ERROR: ProviderUnavailable,
    Fault.OVERLOADED: ProviderUnavailable,
    Fault.CONFLICT: ProviderUnavailable,
    Fault.RATE_LIMITED: RateLimited,
    Fault.ACCELERATION: RateLimited,
    Fault.QUOTA: QuotaExhausted,
    Fault.KEY: AuthenticationFailed,
    Fault.MODEL_NOT_FOUND: ModelNotFound,
    Fault.CONTEXT_TOO_LONG: ContextTooLong,
    Fault.BAD_REQUEST: InvalidRequest,
    Fault.MALFORMED: MalformedResponse,
    Fault.UNKNOWN: ProviderError,
}
