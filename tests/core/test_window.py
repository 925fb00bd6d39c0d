"""The failure window: when a circuit trips."""

from __future__ import annotations

from itertools import cycle, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway._core.window import FailureWindow


def trips(window: FailureWindow, now: float, *, run: int = 5, minimum: int = 20, rate: float = 0.5) -> bool:
    return window.tripped(now, consecutive_failures=run, minimum_calls=minimum, failure_rate=rate)


def tripping_call(pattern: str, *, seconds_between: float = 1.0, calls: int = 500) -> int | None:
    """Number of the call (from 1) at which *pattern*, repeated, trips a window of 60 s."""
    window = FailureWindow(60.0)
    for number, outcome in enumerate(islice(cycle(pattern), calls), start=1):
        now = number * seconds_between
        window.record(now, failed=outcome == "F")
        if outcome == "F" and trips(window, now):
            return number
    return None


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("F", 5),
        ("SF", 20),
        ("FFFFS", 21),
        ("SFF", 20),
        ("SSF", None),
        ("SSFSF", None),
        ("SSSSSSSSSF", None),
        ("S", None),
    ],
)
def test_trip_rules(pattern: str, expected: int | None) -> None:
    """Five failures in a row trip, or half of at least twenty calls; a third or a tenth of them never does."""
    assert expected == tripping_call(pattern)


def test_failures_in_a_row_must_lie_within_the_window() -> None:
    """One failure each 20 s never adds up to five within 60 s."""
    assert tripping_call("F", seconds_between=20.0) is None


def test_failures_in_a_row_are_counted_across_buckets() -> None:
    """Five failures spread over 48 s trip, although they lie in five buckets."""
    assert tripping_call("F", seconds_between=12.0) == 5


def test_a_success_in_an_earlier_bucket_ends_the_row() -> None:
    """Failures before the last success are not part of the row."""
    window = FailureWindow(60.0)
    for failed in (True, True, True, False, True, True):
        window.record(5.0, failed=failed)
    window.record(15.0, failed=True)
    assert [trips(window, 15.0, run=3), trips(window, 15.0, run=4)] == [True, False]


def test_no_rate_below_the_minimum_of_calls() -> None:
    """Nineteen calls, half of them failed, do not trip; the twentieth does."""
    window = FailureWindow(60.0)
    for number in range(19):
        window.record(1.0, failed=number % 2 == 0)
    before = trips(window, 1.0)
    window.record(1.0, failed=False)
    assert (before, trips(window, 1.0)) == (False, True)


def test_old_calls_leave_the_window() -> None:
    """After a whole window nothing is counted."""
    window = FailureWindow(60.0)
    window.record(0.0, failed=True)
    assert [window.empty(0.0), window.empty(49.9), window.empty(60.0)] == [False, False, True]


def test_clear_forgets_everything() -> None:
    """A cleared window counts from nothing."""
    window = FailureWindow(60.0)
    for _ in range(4):
        window.record(1.0, failed=True)
    window.clear()
    window.record(1.0, failed=True)
    assert not trips(window, 1.0)


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), max_size=60), st.integers(1, 6))
def test_row_equals_the_plain_definition(steps: list[tuple[float, bool]], needed: int) -> None:
    """The bucketed row equals the failures since the last success, counted one by one in the live buckets."""
    window = FailureWindow(60.0)
    now, calls = 0.0, list[tuple[int, bool]]()
    for wait, failed in steps:
        now += wait
        window.record(now, failed=failed)
        calls.append((int(now // 10.0), failed))
    row = 0
    for bucket, failed in reversed(calls):
        if not failed or bucket <= int(now // 10.0) - 6:
            break
        row += 1
    assert (row >= needed) == trips(window, now, run=needed, minimum=1_000)
