"""How long a provider asks to wait."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from llm_gateway._core.retry_after import LONGEST_HINT, retry_after

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
DATE = "Tue, 24 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("99999999999", LONGEST_HINT),
        ("9" * 400, LONGEST_HINT),
        ("Tue, 24 Nov 2026 12:01:00 GMT", 60.0),
        ("Tuesday, 24-Nov-26 12:01:00 GMT", 60.0),
        ("Tue Nov 24 12:01:00 2026", 60.0),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_HINT),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e3", None),
        ("0x10", None),
        ("\uff11\uff12", None),
        ("5, 10", None),
        ("2026-11-24T12:01:00Z", None),
        ("Tue, 99 Nov 2026 12:01:00 GMT", None),
    ],
)
def test_every_form_of_retry_after(value: str, seconds: float | None) -> None:
    """A number or a date is a wait of up to a day, and anything else is no hint."""
    assert seconds == retry_after({"retry-after": value}, now=NOW)


def test_a_date_counts_from_the_clock_of_the_sender() -> None:
    """A date is relative to the Date of the response and not to the clock of this machine."""
    headers = {"retry-after": "Tue, 24 Nov 2026 12:00:30 GMT", "date": DATE}
    assert 30.0 == retry_after(headers, now=datetime(2020, 1, 1, tzinfo=UTC))


def test_a_date_without_a_clock_is_no_hint() -> None:
    """Where no time is known, a date says nothing."""
    assert retry_after({"retry-after": DATE}) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"x-ms-retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "20", "x-ms-retry-after-ms": "1500"}, 0.02),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
    ],
)
def test_milliseconds_come_first(headers: dict[str, str], seconds: float) -> None:
    """The finer forms win over Retry-After, unless they are garbage."""
    assert seconds == retry_after(headers, now=NOW)


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("46s", 46.0),
        ("34.07s", 34.07),
        ("10h17m5.7s", 37_025.7),
        ("-5s", 0.0),
        ("1d", 86_400.0),
        ("s", None),
        ("1.2.3s", None),
        ("", None),
        (46, None),
    ],
)
def test_retry_info_in_the_body(delay: JsonValue, seconds: float | None) -> None:
    """Google's RetryInfo is read from the details of the error."""
    detail: JsonValue = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    body: JsonValue = {"error": {"details": [{"@type": "other"}, 5, detail]}}
    found = retry_after({}, body, now=NOW)
    assert seconds == (found if found is None else pytest.approx(found))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}, 360.0),
        ({"x-ratelimit-reset-tokens": "20ms", "x-ratelimit-remaining-tokens": "0"}, 0.02),
        (
            {
                "x-ratelimit-reset-tokens": "20ms",
                "x-ratelimit-remaining-tokens": "5",
                "x-ratelimit-reset-requests": "1m30s",
                "x-ratelimit-remaining-requests": "0",
            },
            90.0,
        ),
        ({"x-ratelimit-reset-tokens": "2s", "x-ratelimit-reset-requests": "1h"}, 2.0),
        (
            {
                "anthropic-ratelimit-input-tokens-reset": "2026-11-24T12:00:45Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "date": DATE,
            },
            45.0,
        ),
        ({"anthropic-ratelimit-tokens-reset": "never", "anthropic-ratelimit-tokens-remaining": "0"}, None),
        ({"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0", "retry-after": "3"}, 3.0),
    ],
)
def test_reset_times_of_limits(headers: dict[str, str], seconds: float | None) -> None:
    """After a rate limit the latest reset of what is used up counts, else the soonest, and both after Retry-After."""
    assert seconds == retry_after(headers, now=NOW, limited=True)


def test_reset_times_say_nothing_without_a_rate_limit() -> None:
    """The same headers on an overload are no hint."""
    headers = {"x-ratelimit-reset-requests": "6m0s", "x-ratelimit-remaining-requests": "0"}
    assert retry_after(headers, now=NOW) is None


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"]
)
VALUES = st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,6} [0-9:]{1,9} [A-Z]*")


@given(st.dictionaries(NAMES, VALUES))
def test_no_header_does_harm(headers: dict[str, str]) -> None:
    """Whatever the headers say, the hint is nothing or from 0 to a day."""
    hint = retry_after(headers, now=NOW, limited=True)
    assert hint is None or 0.0 <= hint <= LONGEST_HINT
