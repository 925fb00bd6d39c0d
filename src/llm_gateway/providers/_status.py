"""What a vendor's refusal means: one table for all, since their codes do not collide.

Sources: the error references of OpenAI and Anthropic, and what their gateways were seen to send. A refusal is read
from its machine-readable code first, then from known phrases of its message, then from its status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from pydantic import JsonValue

from llm_gateway._core.faults import ERROR_OF
from llm_gateway._core.retry_after import retry_after
from llm_gateway._facts import Fault, Masked, Sent
from llm_gateway.errors import (
    ErrorInfo,
    InvalidRequest,
    LLMGatewayError,
    PayloadTooLarge,
    UnsupportedParameter,
    UnsupportedSchema,
)
from llm_gateway.providers._json import object_at, text_at

__all__ = ["Refusal", "fault_of", "refused"]

OK: Final = 200
TOO_LARGE: Final = 413
LONGEST_DETAIL: Final = 2_000
CODE: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")

# These say more than the status they come with.
CODES: Final[Mapping[str, Fault]] = {
    # Money.
    "insufficient_quota": Fault.QUOTA,
    "credit_balance_exhausted": Fault.QUOTA,
    "billing_hard_limit_reached": Fault.QUOTA,
    "billing_not_active": Fault.QUOTA,
    "billing_error": Fault.QUOTA,
    # Keys.
    "invalid_api_key": Fault.KEY,
    "account_deactivated": Fault.KEY,
    "insufficient_permissions": Fault.KEY,
    "unsupported_country_region_territory": Fault.KEY,
    # Less, please.
    "slow_down": Fault.ACCELERATION,
    "ramp_limit_exceeded": Fault.ACCELERATION,
    "resource_unavailable": Fault.ACCELERATION,
    # Out of order.
    "server_is_overloaded": Fault.OVERLOADED,
    "service_unavailable_error": Fault.OVERLOADED,
    "overloaded_error": Fault.OVERLOADED,
    # The request.
    "model_not_found": Fault.MODEL_NOT_FOUND,
    "context_length_exceeded": Fault.CONTEXT_TOO_LONG,
}
# organization_spend_limit_exceeded, enforced_spend_limit_reached, contract_..., and their kin to come.
MONEY_CODE: Final = re.compile(r"(?:\w+_)?(?:spend|usage|contract)_(?:\w+_)?limit_(?:reached|exceeded)")
# These say no more than the status does, and count where there is none: in an error that came with status 200.
KINDS: Final[Mapping[str, Fault]] = {
    "authentication_error": Fault.KEY,
    "permission_error": Fault.KEY,
    "rate_limit_exceeded": Fault.RATE_LIMITED,
    "rate_limit_error": Fault.RATE_LIMITED,
    "timeout_error": Fault.OVERLOADED,
    "server_error": Fault.SERVER_ERROR,
    "api_error": Fault.SERVER_ERROR,
    "not_found_error": Fault.MODEL_NOT_FOUND,
    "request_too_large": Fault.BAD_REQUEST,
    "invalid_request_error": Fault.BAD_REQUEST,
}
# A vendor that refuses a key says so in its code; anybody on the way may answer with the bare status.
TOLD_APART: Final[Mapping[int, Mapping[str, Fault]]] = {OK: KINDS, 403: {"permission_error": Fault.KEY}}
# Read only where the code says no more than that the request is invalid, or that a limit was met. Those about money
# must begin the message: it may quote a prompt, and a prompt must not be able to latch the account.
PHRASES: Final[tuple[tuple[re.Pattern[str], Fault], ...]] = (
    (re.compile(r"^your credit balance is too low"), Fault.QUOTA),
    (re.compile(r"^you have (?:reached|exceeded) your (?:\w+ ){0,3}(?:usage|spend) limits?\b"), Fault.QUOTA),
    (re.compile(r"acceleration limit"), Fault.ACCELERATION),
    (re.compile(r"prompt is too long|maximum context length|exceeds? (?:the )?context"), Fault.CONTEXT_TOO_LONG),
)
READ_FOR_PHRASES: Final[Mapping[int, frozenset[Fault]]] = {
    400: frozenset({Fault.QUOTA, Fault.CONTEXT_TOO_LONG}),
    403: frozenset({Fault.QUOTA}),
    429: frozenset({Fault.QUOTA, Fault.ACCELERATION}),
}
VAGUE: Final = frozenset({"", "invalid_request_error", "permission_error", "rate_limit_error", "rate_limit_exceeded"})
STATUSES: Final[Mapping[int, Fault]] = {
    OK: Fault.UNKNOWN,
    400: Fault.BAD_REQUEST,
    401: Fault.KEY,
    402: Fault.QUOTA,
    403: Fault.FORBIDDEN,
    404: Fault.MODEL_NOT_FOUND,
    405: Fault.BAD_REQUEST,
    408: Fault.CONFLICT,
    409: Fault.CONFLICT,
    410: Fault.MODEL_NOT_FOUND,
    TOO_LARGE: Fault.BAD_REQUEST,
    415: Fault.BAD_REQUEST,
    422: Fault.BAD_REQUEST,
    429: Fault.RATE_LIMITED,
    500: Fault.SERVER_ERROR,
    502: Fault.OVERLOADED,
    503: Fault.OVERLOADED,
    504: Fault.OVERLOADED,
    529: Fault.OVERLOADED,
}
# Where the vendor's code tells of a narrower error than the fault does.
NARROWER: Final[Mapping[str, type[InvalidRequest]]] = {
    "unsupported_parameter": UnsupportedParameter,
    "unsupported_value": UnsupportedParameter,
    "invalid_json_schema": UnsupportedSchema,
    "request_too_large": PayloadTooLarge,
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
    Fault.FORBIDDEN: "or something on the way to it forbids the request",
    Fault.MODEL_NOT_FOUND: "does not serve this model to this key",
    Fault.CONTEXT_TOO_LONG: "says that the prompt exceeds the context window",
    Fault.BAD_REQUEST: "refuses the request as invalid",
    Fault.MALFORMED: "did not answer: what came instead is a redirect, which is never followed, or empty",
    Fault.UNKNOWN: "answered in a way that is not known",
}
STEPS: Final[Mapping[Fault, str]] = {
    Fault.FORBIDDEN: "If it meets this prompt only, it was moderated; if all, look at the firewall and the account.",
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
    body: JsonValue = field(repr=False)
    text: str = field(repr=False)
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

    @property
    def told_status(self) -> int:
        """The HTTP status, or the one that an error under status 200 carries as its code."""
        code = self.error.get("code")
        inner = self.status == OK and isinstance(code, int) and code not in {True, False}
        return code if inner and isinstance(code, int) else self.status


def fault_of(refusal: Refusal) -> Fault:
    """Tell which fault a refusal is."""
    for code in refusal.codes:
        if code in CODES:
            return CODES[code]
        if MONEY_CODE.fullmatch(code):
            return Fault.QUOTA
    phrased = _by_phrase(refusal) if VAGUE.issuperset(refusal.codes) else None
    if phrased is not None:
        return phrased
    told = TOLD_APART.get(refusal.told_status, {})
    return next((told[code] for code in refusal.codes if code in told), _by_status(refusal.told_status))


def refused(refusal: Refusal, info: ErrorInfo) -> LLMGatewayError:
    """Make the typed error of a refusal; *info* says whose it is."""
    fault = fault_of(refusal)
    kind = _kind(refusal, fault)
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
        code=code if CODE.fullmatch(code) else None,
        provider_request_id=refusal.request_id,
        sent=Sent.YES,
        no_retry=refusal.headers.get("x-should-retry", "").strip().lower() == "false",
        detail=Masked((text_at(refusal.error, "message") or refusal.text)[:LONGEST_DETAIL]),
    )
    return kind(f"{info.provider} {WORDS[fault]}.", retry_after=hint, next_step=STEPS.get(fault), info=filled)


def _by_phrase(refusal: Refusal) -> Fault | None:
    read = READ_FOR_PHRASES.get(400 if refusal.told_status == OK else refusal.told_status, frozenset())
    message = (text_at(refusal.error, "message") or "").lower()
    return next((fault for phrase, fault in PHRASES if fault in read and phrase.search(message)), None)


def _by_status(status: int) -> Fault:
    if status in STATUSES:
        return STATUSES[status]
    if status in GATEWAY_TROUBLE:
        return Fault.OVERLOADED
    families = {2: Fault.MALFORMED, 3: Fault.MALFORMED, 5: Fault.SERVER_ERROR}
    return families.get(status // 100, Fault.UNKNOWN)


def _kind(refusal: Refusal, fault: Fault) -> type[LLMGatewayError]:
    if refusal.told_status == TOO_LARGE:
        return PayloadTooLarge
    narrower = (NARROWER[code] for code in refusal.codes if code in NARROWER)
    return next(narrower, InvalidRequest) if fault is Fault.BAD_REQUEST else ERROR_OF[fault]
