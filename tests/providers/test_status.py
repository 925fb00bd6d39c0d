"""What a vendor's refusal means."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from llm_gateway._core.faults import ERROR_OF
from llm_gateway._facts import Fault, Sent
from llm_gateway.errors import (
    AuthenticationFailed,
    ErrorInfo,
    InvalidRequest,
    LLMGatewayError,
    PayloadTooLarge,
    ProviderUnavailable,
    UnsupportedParameter,
    UnsupportedSchema,
)
from llm_gateway.providers._status import Refusal, fault_of, refused

NOW = datetime(2026, 11, 24, tzinfo=UTC)
WHOSE = ErrorInfo(provider="openai", endpoint="api.test", model="gpt-4o", key_id="k1")


def refusal(status: int, body: JsonValue = None, headers: dict[str, str] | None = None) -> Refusal:
    """Make the refusal that a reply is read as."""
    return Refusal(status=status, headers=headers or {}, body=body, text="page", request_id="req_1", at=NOW)


def openai(kind: str, code: str | None = None, message: str = "") -> JsonValue:
    """Write an error as OpenAI does."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, error_code: str | None = None, message: str = "") -> JsonValue:
    """Write an error as Anthropic does."""
    details: JsonValue = {"error_code": error_code} if error_code else None
    return {"type": "error", "error": {"type": kind, "message": message, "details": details}, "request_id": "req_1"}


LOW_CREDIT = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
USAGE_LIMIT = "You have reached your specified API usage limits. You will regain access on 2026-12-01."

CASES: list[tuple[Fault, int, JsonValue]] = [
    # OpenAI.
    (Fault.OVERLOADED, 503, openai("service_unavailable_error", "server_is_overloaded")),
    (Fault.OVERLOADED, 503, openai("server_error")),
    (Fault.SERVER_ERROR, 500, openai("server_error")),
    (Fault.RATE_LIMITED, 429, openai("requests", "rate_limit_exceeded")),
    (Fault.RATE_LIMITED, 429, openai("tokens", "rate_limit_exceeded")),
    (Fault.ACCELERATION, 429, openai("requests", "slow_down")),
    (Fault.ACCELERATION, 429, openai("requests", "resource_unavailable")),
    (Fault.QUOTA, 429, openai("insufficient_quota", "insufficient_quota")),
    (Fault.QUOTA, 429, openai("insufficient_quota")),
    (Fault.QUOTA, 429, openai("insufficient_quota", "credit_balance_exhausted")),
    (Fault.QUOTA, 429, openai("x", "organization_spend_limit_exceeded")),
    (Fault.QUOTA, 429, openai("x", "project_spend_limit_exceeded")),
    (Fault.QUOTA, 429, openai("x", "organization_usage_limit_exceeded")),
    (Fault.QUOTA, 400, openai("invalid_request_error", "billing_hard_limit_reached")),
    (Fault.KEY, 401, openai("invalid_request_error", "invalid_api_key")),
    (Fault.KEY, 403, openai("invalid_request_error", "unsupported_country_region_territory")),
    (Fault.FORBIDDEN, 403, {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["x"]}}}),
    (Fault.FORBIDDEN, 403, {"error": {"code": "403", "message": "Access denied due to firewall rules."}}),
    (Fault.MODEL_NOT_FOUND, 404, openai("invalid_request_error", "model_not_found")),
    (Fault.MODEL_NOT_FOUND, 403, openai("invalid_request_error", "model_not_found")),
    (Fault.CONTEXT_TOO_LONG, 400, openai("invalid_request_error", "context_length_exceeded")),
    (Fault.CONTEXT_TOO_LONG, 400, openai("invalid_request_error", None, "This model's maximum context length is 8192")),
    (Fault.BAD_REQUEST, 400, openai("invalid_request_error", "invalid_value")),
    # Anthropic.
    (Fault.OVERLOADED, 529, anthropic("overloaded_error")),
    (Fault.SERVER_ERROR, 500, anthropic("api_error")),
    (Fault.OVERLOADED, 504, anthropic("timeout_error")),
    (Fault.RATE_LIMITED, 429, anthropic("rate_limit_error")),
    (Fault.ACCELERATION, 429, anthropic("rate_limit_error", "ramp_limit_exceeded")),
    (Fault.ACCELERATION, 429, anthropic("rate_limit_error", None, "This exceeds the acceleration limit of usage.")),
    (Fault.QUOTA, 429, anthropic("rate_limit_error", "enforced_spend_limit_reached")),
    (Fault.QUOTA, 429, anthropic("rate_limit_error", "contract_spend_limit_reached")),
    (Fault.QUOTA, 429, anthropic("rate_limit_error", "contract_usage_limit_reached")),
    (Fault.QUOTA, 429, anthropic("rate_limit_error", "linked_organization_spend_limit_reached")),
    (Fault.QUOTA, 402, anthropic("billing_error")),
    (Fault.QUOTA, 400, anthropic("invalid_request_error", None, LOW_CREDIT)),
    (Fault.QUOTA, 400, anthropic("invalid_request_error", None, USAGE_LIMIT)),
    (Fault.KEY, 401, anthropic("authentication_error")),
    (Fault.KEY, 403, anthropic("permission_error")),
    (Fault.MODEL_NOT_FOUND, 404, anthropic("not_found_error")),
    (Fault.CONTEXT_TOO_LONG, 400, anthropic("invalid_request_error", None, "prompt is too long: 9 tokens > 8 maximum")),
    (Fault.BAD_REQUEST, 400, anthropic("invalid_request_error", None, f"messages: bad value '{LOW_CREDIT}'")),
    (Fault.BAD_REQUEST, 413, anthropic("request_too_large")),
    # Status alone.
    (Fault.CONFLICT, 408, None),
    (Fault.CONFLICT, 409, None),
    (Fault.KEY, 401, None),
    (Fault.FORBIDDEN, 403, None),
    (Fault.BAD_REQUEST, 422, None),
    (Fault.OVERLOADED, 502, None),
    (Fault.OVERLOADED, 520, None),
    (Fault.OVERLOADED, 527, None),
    (Fault.SERVER_ERROR, 507, None),
    (Fault.MALFORMED, 301, None),
    (Fault.MALFORMED, 307, None),
    (Fault.MALFORMED, 204, None),
    (Fault.UNKNOWN, 418, None),
    (Fault.UNKNOWN, 999, None),
    # In place of an answer, under status 200.
    (Fault.OVERLOADED, 200, openai("x", "server_is_overloaded")),
    (Fault.OVERLOADED, 200, anthropic("overloaded_error")),
    (Fault.SERVER_ERROR, 200, anthropic("api_error")),
    (Fault.RATE_LIMITED, 200, anthropic("rate_limit_error")),
    (Fault.KEY, 200, anthropic("authentication_error")),
    (Fault.MODEL_NOT_FOUND, 200, anthropic("not_found_error")),
    (Fault.BAD_REQUEST, 200, anthropic("invalid_request_error")),
    (Fault.OVERLOADED, 200, {"error": {"code": 502, "message": "upstream"}}),
    (Fault.UNKNOWN, 200, openai("odd", "odder")),
]


@pytest.mark.parametrize(("fault", "status", "body"), CASES)
def test_each_refusal_has_its_fault(fault: Fault, status: int, body: JsonValue) -> None:
    """Code, phrase and status together give the row of the admission table."""
    assert fault is fault_of(refusal(status, body))


def test_every_fault_has_an_error_class() -> None:
    """No fault is without a class to be raised as."""
    assert set(Fault) == set(ERROR_OF)


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        (AuthenticationFailed, 401, openai("invalid_request_error", "invalid_api_key")),
        (ProviderUnavailable, 529, anthropic("overloaded_error")),
        (PayloadTooLarge, 413, None),
        (PayloadTooLarge, 400, anthropic("request_too_large")),
        (UnsupportedParameter, 400, openai("invalid_request_error", "unsupported_parameter")),
        (UnsupportedParameter, 400, openai("invalid_request_error", "unsupported_value")),
        (UnsupportedSchema, 400, openai("invalid_request_error", "invalid_json_schema")),
        (InvalidRequest, 400, openai("invalid_request_error", "invalid_value")),
    ],
)
def test_the_class_is_the_narrowest_that_is_known(kind: type[LLMGatewayError], status: int, body: JsonValue) -> None:
    """The error is of the class that a caller would look for."""
    assert kind is type(refused(refusal(status, body), WHOSE))


def test_an_error_carries_what_is_known() -> None:
    """Provider, place, status, code, ids and the wait are data, and the vendor's text is masked."""
    body = openai("requests", "rate_limit_exceeded", "Slow down, you who wrote 'my secret essay'")
    error = refused(refusal(429, body, {"retry-after": "3", "x-should-retry": "false"}), WHOSE)

    assert 3.0 == error.retry_after
    assert (
        ErrorInfo(
            fault=Fault.RATE_LIMITED,
            provider="openai",
            endpoint="api.test",
            model="gpt-4o",
            key_id="k1",
            status=429,
            code="rate_limit_exceeded",
            provider_request_id="req_1",
            sent=Sent.YES,
            no_retry=True,
        )
        == error.info
    )
    assert "secret" not in f"{error} {error!r} {error.info!r}"
    assert error.info.detail is not None
    assert "secret" in error.info.detail.reveal()


def test_reset_times_count_after_a_rate_limit_only() -> None:
    """The reset of a used-up limit is the wait after a 429, and none after an overload."""
    headers = {"x-ratelimit-reset-requests": "8s", "x-ratelimit-remaining-requests": "0"}
    waits = [refused(refusal(status, None, headers), WHOSE).retry_after for status in (429, 503)]
    assert [8.0, None] == waits


@pytest.mark.parametrize("code", ["sk-live-0123456789", "AIzaSyD-secret", "Why, dear?", "x" * 65, "\u00e9t\u00e9"])
def test_a_code_that_is_no_code_is_not_shown(code: str) -> None:
    """Only a short word in lower case is taken for a code; anything else could be a key or a prompt."""
    error = refused(refusal(400, openai("", code)), WHOSE)
    assert error.info.code is None
    assert code not in str(error)


def test_a_long_page_is_cut() -> None:
    """No more than two thousand characters of a vendor's text are kept."""
    error = refused(refusal(502, openai("", None, "x" * 100_000)), WHOSE)
    assert error.info.detail is not None
    assert 2_000 == len(error.info.detail.reveal())


JSON: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "code", "type", "message", "details", "error_code"]), inner)
    ),
    max_leaves=12,
)


@given(st.integers(100, 999), st.fixed_dictionaries({"error": JSON}) | JSON)
def test_any_refusal_is_a_typed_error(status: int, body: JsonValue) -> None:
    """Whatever stands in the body, the refusal has a fault and an error with it."""
    assert refused(refusal(status, body), WHOSE).fault in ERROR_OF
