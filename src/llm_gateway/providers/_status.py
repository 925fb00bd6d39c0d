"""What a vendor's refusal means: one table for all, since their codes do not collide.

Sources: the error references of OpenAI and Anthropic, and what their gateways were seen to send. A refusal is read
from its machine-readable code first, then from known phrases of its message, then from its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from llm_gateway._core.faults import ERROR_OF
from llm_gateway._core.retry_after import retry_after
from llm_gateway._facts import Fault, Masked, Sent
from llm_gateway.errors import ErrorInfo, LLMGatewayError, PayloadTooLarge
from llm_gateway.providers._json import object_at, text_at

__all__ = ["Refusal", "fault_of", "refused"]

TOO_LARGE: Final = 413
LONGEST_CODE: Final = 64

CODES: Final[Mapping[str, Fault]] = {
    # Money.
    "insufficient_quota": Fault.QUOTA,
    "credit_balance_exhausted": Fault.QUOTA,
    "organization_spend_limit_exceeded": Fault.QUOTA,
    "project_spend_limit_exceeded": Fault.QUOTA,
    "organization_usage_limit_exceeded": Fault.QUOTA,
    "enforced_spend_limit_reached": Fault.QUOTA,
    "contract_spend_limit_reached": Fault.QUOTA,
    "linked_organization_spend_limit_reached": Fault.QUOTA,
    "billing_hard_limit_reached": Fault.QUOTA,
    "billing_not_active": Fault.QUOTA,
    "billing_error": Fault.QUOTA,
    # Keys.
    "invalid_api_key": Fault.KEY,
    "authentication_error": Fault.KEY,
    "permission_error": Fault.KEY,
    "account_deactivated": Fault.KEY,
    # Less, please.
    "rate_limit_exceeded": Fault.RATE_LIMITED,
    "rate_limit_error": Fault.RATE_LIMITED,
    "slow_down": Fault.ACCELERATION,
    "ramp_limit_exceeded": Fault.ACCELERATION,
    "resource_unavailable": Fault.ACCELERATION,
    # Out of order.
    "server_is_overloaded": Fault.OVERLOADED,
    "service_unavailable_error": Fault.OVERLOADED,
    "overloaded_error": Fault.OVERLOADED,
    "timeout_error": Fault.OVERLOADED,
    "server_error": Fault.SERVER_ERROR,
    "api_error": Fault.SERVER_ERROR,
    # The request.
    "model_not_found": Fault.MODEL_NOT_FOUND,
    "not_found_error": Fault.MODEL_NOT_FOUND,
    "context_length_exceeded": Fault.CONTEXT_TOO_LONG,
    "request_too_large": Fault.BAD_REQUEST,
}
# Looked for only where the code says no more than that the request is invalid, or that a limit was met.
PHRASES: Final[Mapping[str, Fault]] = {
    "credit balance is too low": Fault.QUOTA,
    "usage limits": Fault.QUOTA,
    "spend limit": Fault.QUOTA,
    "acceleration limit": Fault.ACCELERATION,
    "prompt is too long": Fault.CONTEXT_TOO_LONG,
    "maximum context length": Fault.CONTEXT_TOO_LONG,
    "exceed context limit": Fault.CONTEXT_TOO_LONG,
}
VAGUE: Final = frozenset({"", "invalid_request_error", "rate_limit_error", "rate_limit_exceeded"})
STATUSES: Final[Mapping[int, Fault]] = {
    400: Fault.BAD_REQUEST,
    401: Fault.KEY,
    402: Fault.QUOTA,
    403: Fault.KEY,
    404: Fault.MODEL_NOT_FOUND,
    408: Fault.CONFLICT,
    409: Fault.CONFLICT,
    TOO_LARGE: Fault.BAD_REQUEST,
    422: Fault.BAD_REQUEST,
    429: Fault.RATE_LIMITED,
    500: Fault.SERVER_ERROR,
    502: Fault.OVERLOADED,
    503: Fault.OVERLOADED,
    504: Fault.OVERLOADED,
    529: Fault.OVERLOADED,
}
GATEWAY_TROUBLE: Final = range(520, 528)
WORDS: Final[Mapping[Fault, str]] = {
    Fault.SERVER_ERROR: "had an internal error",
    Fault.OVERLOADED: "is overloaded",
    Fault.CONFLICT: "could not take the request just now",
    Fault.RATE_LIMITED: "limits the rate of requests",
    Fault.ACCELERATION: "asks for a slower increase of requests",
    Fault.QUOTA: "has no money or quota left on this account",
    Fault.KEY: "refuses the API key",
    Fault.MODEL_NOT_FOUND: "does not serve this model to this key",
    Fault.CONTEXT_TOO_LONG: "says that the prompt exceeds the context window",
    Fault.BAD_REQUEST: "refuses the request as invalid",
    Fault.MALFORMED: "redirected the request, which is never followed",
    Fault.UNKNOWN: "answered in a way that is not known",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A reply that is no answer.

    Attributes:
        status: HTTP status; 200 when the error came in its place.
        headers: Response headers, names in lower case.
        body: The parsed body; ``None`` when it was not JSON.
        text: The body as text, for whoever asks.
        request_id: The vendor's id of the request.
        at: UTC time of the response.
    """

    status: int
    headers: Mapping[str, str]
    body: JsonValue
    text: str
    request_id: str | None
    at: datetime

    @property
    def error(self) -> dict[str, JsonValue]:
        """The vendor's error object, or an empty one."""
        return object_at(self.body, "error")

    @property
    def codes(self) -> tuple[str, ...]:
        """Its machine-readable codes, the most specific first."""
        details = object_at(self.error, "details")
        found = (text_at(details, "error_code"), text_at(self.error, "code"), text_at(self.error, "type"))
        return tuple(code for code in found if code)


def fault_of(refusal: Refusal) -> Fault:
    """Tell which fault a refusal is."""
    known = next((CODES[code] for code in refusal.codes if code in CODES), None)
    vague = set(refusal.codes) <= VAGUE
    if vague:
        message = (text_at(refusal.error, "message") or "").lower()
        known = next((fault for phrase, fault in PHRASES.items() if phrase in message), known)
    return known if known is not None else _by_status(refusal.status)


def refused(refusal: Refusal, info: ErrorInfo) -> LLMGatewayError:
    """Make the typed error of a refusal; *info* says whose it is."""
    fault = fault_of(refusal)
    kind = PayloadTooLarge if refusal.status == TOO_LARGE else ERROR_OF[fault]
    hint = retry_after(refusal.headers, refusal.body, now=refusal.at, limited=fault is Fault.RATE_LIMITED)
    code = next(iter(refusal.codes), "")
    filled = ErrorInfo(
        fault=fault,
        provider=info.provider,
        endpoint=info.endpoint,
        model=info.model,
        key_id=info.key_id,
        status=refusal.status,
        # A code is a short word; anything else could be somebody's text.
        code=code if code.replace("_", "").isalnum() and len(code) <= LONGEST_CODE else None,
        provider_request_id=refusal.request_id,
        sent=Sent.YES,
        detail=Masked(text_at(refusal.error, "message") or refusal.text),
    )
    return kind(f"{info.provider} {WORDS[fault]}.", retry_after=hint, info=filled)


def _by_status(status: int) -> Fault:
    if status in STATUSES:
        return STATUSES[status]
    if status in GATEWAY_TROUBLE:
        return Fault.OVERLOADED
    families = {2: Fault.UNKNOWN, 3: Fault.MALFORMED, 4: Fault.BAD_REQUEST, 5: Fault.SERVER_ERROR}
    return families.get(status // 100, Fault.UNKNOWN)
