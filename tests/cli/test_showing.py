"""Tables and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from llm_gateway.cli.showing import Table, age, plain

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (119, "119s"), (120, "2m"), (7_200, "2h"), (172_800, "2d"), (-5, "0s")]
)
def test_age(seconds: float, shown: str) -> None:
    """An age is told in the largest unit of which there are at least two; clocks that differ make none negative."""
    assert shown == age(NOW - timedelta(seconds=seconds), NOW)


def test_nothing_is_a_dash() -> None:
    """What is not known is a dash, also as an age."""
    assert ("-", "-", "-") == (plain(None), plain(""), age(None))


def test_columns_are_aligned() -> None:
    """Columns are as wide as their widest cell, and lines end without blanks."""
    table = Table(("lane", "why"), [("openai/gpt-4o", None), ("x", "paused")])
    assert ["lane           why", "openai/gpt-4o  -", "x              paused"] == table.lines
