"""How long a provider asks to wait, in every form in which they say it.

Sources: RFC 9110 §10.2.3 (Retry-After); the rate-limit headers of OpenAI (durations such as ``6m0s``) and Anthropic
(RFC 3339 times); Google's ``RetryInfo.retryDelay``. A form that is not understood is no hint at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from pydantic import JsonValue

__all__ = ["LONGEST_HINT", "retry_after"]

LONGEST_HINT: Final = 86_400.0
MILLISECONDS: Final = ("retry-after-ms", "x-ms-retry-after-ms")
NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
DURATION: Final = re.compile(r"(-?)(?:([0-9.]+)d)?(?:([0-9.]+)h)?(?:([0-9.]+)m(?!s))?(?:([0-9.]+)s)?(?:([0-9.]+)ms)?")
SECONDS_OF: Final = (86_400.0, 3600.0, 60.0, 1.0, 0.001)
WEEKDAY: Final = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? ")
RETRY_INFO: Final = "type.googleapis.com/google.rpc.RetryInfo"


def retry_after(
    headers: Mapping[str, str], body: JsonValue = None, *, now: datetime | None = None, limited: bool = False
) -> float | None:
    """Return the seconds to wait, from 0 to a day; ``None`` when nobody said.

    Args:
        headers: Response headers, names in lower case.
        body: The parsed error, where one came.
        now: UTC time of the response, used where it has no ``Date`` of its own; without either, a date is no hint.
        limited: Whether the response is a rate limit, so that the reset times of its limits count.
    """
    hint = _explicit(headers, now)
    if hint is None:
        hint = _in_details(body)
    if hint is None and limited:
        hint = _reset(headers, now)
    return None if hint is None else min(max(hint, 0.0), LONGEST_HINT)


def _explicit(headers: Mapping[str, str], now: datetime | None) -> float | None:
    for name in MILLISECONDS:
        milliseconds = _number(headers.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000.0
    value = headers.get("retry-after", "").strip()
    seconds = _number(value)
    return seconds if seconds is not None else _until(_http_date(value), headers, now)


def _in_details(body: JsonValue) -> float | None:
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and detail.get("@type") == RETRY_INFO:
            delay = detail.get("retryDelay")
            return _duration(delay) if isinstance(delay, str) else None
    return None


def _reset(headers: Mapping[str, str], now: datetime | None) -> float | None:
    """The latest reset of the limits that have nothing remaining; where none says so, the soonest of all."""
    exhausted: list[float] = []
    others: list[float] = []
    for name, value in headers.items():
        remaining = _remaining_of(name)
        wait = _reset_value(value, headers, now) if remaining is not None else None
        if remaining is not None and wait is not None:
            (exhausted if headers.get(remaining, "").strip() == "0" else others).append(wait)
    return max(exhausted) if exhausted else min(others, default=None)


def _remaining_of(name: str) -> str | None:
    if name.startswith("x-ratelimit-reset-"):
        return name.replace("-reset-", "-remaining-", 1)
    if name.startswith("anthropic-ratelimit-") and name.endswith("-reset"):
        return name.removesuffix("-reset") + "-remaining"
    return None


def _reset_value(value: str, headers: Mapping[str, str], now: datetime | None) -> float | None:
    duration = _duration(value.strip())
    return duration if duration is not None else _until(_rfc3339(value.strip()), headers, now)


def _number(text: str) -> float | None:
    return float(text) if NUMBER.fullmatch(text.strip()) else None


def _duration(text: str) -> float | None:
    match = DURATION.fullmatch(text)
    sign, *written = match.groups() if match is not None else ("",)
    if not any(written):
        return None
    parts = [_number(part) if part is not None else 0.0 for part in written]
    if None in parts:
        return None
    total = sum((part or 0.0) * seconds for part, seconds in zip(parts, SECONDS_OF, strict=True))
    return -total if sign else total


def _http_date(text: str) -> datetime | None:
    try:
        return _aware(parsedate_to_datetime(text)) if WEEKDAY.match(text) else None
    except (TypeError, ValueError, OverflowError):
        return None


def _rfc3339(text: str) -> datetime | None:
    try:
        return _aware(datetime.fromisoformat(text))
    except ValueError:
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _until(moment: datetime | None, headers: Mapping[str, str], now: datetime | None) -> float | None:
    # Relative to the sender's own clock, which need not agree with ours.
    since = _http_date(headers.get("date", "").strip()) or now
    return None if moment is None or since is None else (moment - since).total_seconds()
