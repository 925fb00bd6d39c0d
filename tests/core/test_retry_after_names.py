"""Which headers tell of a reset, and which only look as if."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llm_gateway._core.retry_after import LONGEST_HINT, retry_after

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("anthropic-ratelimit-tokens-limit", "20991231"),
        ("anthropic-ratelimit-tokens-remaining", "20991231"),
        ("vendor-ratelimit-tokens-reset", "6m0s"),
        ("x-ratelimit-limit-requests", "6m0s"),
    ],
)
def test_a_limit_is_no_reset(name: str, value: str) -> None:
    """A number of tokens that could be read as a date is none, nor is a header of nobody that is known."""
    assert retry_after({name: value}, now=NOW, limited=True) is None


@pytest.mark.parametrize(("days", "seconds"), [(1, 86_400.0), (2, LONGEST_HINT)])
def test_a_day_at_most(days: int, seconds: float) -> None:
    """A wait of more than a day is a wait of a day: by then somebody has looked."""
    headers = {"x-ratelimit-reset-requests": f"{days}d", "x-ratelimit-remaining-requests": "0"}
    assert (86_400.0, seconds) == (LONGEST_HINT, retry_after(headers, now=NOW, limited=True))
