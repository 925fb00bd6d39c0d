"""Waits between attempts, and the budget of retries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway._core.retry import RetryBudget, backoff, wait_for

DRAWS = st.floats(0.0, 1.0)


@pytest.mark.parametrize(("attempt", "expected"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 20.0), (5_000, 20.0)])
def test_backoff_doubles_up_to_its_cap(attempt: int, expected: float) -> None:
    """The upper bound of the wait doubles with each failed attempt and stays at the cap."""
    assert expected == backoff(attempt, base=0.5, cap=20.0, draw=1.0)


@given(st.integers(1, 100), DRAWS)
def test_backoff_is_drawn_from_zero_to_its_bound(attempt: int, draw: float) -> None:
    """Full jitter: the wait is the drawn share of the bound."""
    assert draw * backoff(attempt, base=0.5, cap=20.0, draw=1.0) == backoff(attempt, base=0.5, cap=20.0, draw=draw)


def test_without_a_hint_the_backoff_is_the_wait() -> None:
    """No hint adds nothing."""
    assert wait_for(None, 3.0, 1.0) == 3.0


@pytest.mark.parametrize(
    ("hint", "computed", "draw", "expected"),
    [
        (10.0, 2.0, 0.0, 10.0),
        (10.0, 2.0, 1.0, 11.0),
        (100.0, 2.0, 1.0, 102.0),
        (1.0, 5.0, 1.0, 5.1),
        (0.0, 5.0, 1.0, 5.0),
    ],
)
def test_a_hint_is_a_lower_bound(hint: float, computed: float, draw: float, expected: float) -> None:
    """The wait is the longer of hint and backoff, plus up to a tenth of the hint, at most 2 s."""
    assert expected == wait_for(hint, computed, draw)


@given(st.floats(0.0, 86_400.0), st.floats(0.0, 20.0), DRAWS)
def test_nobody_returns_before_the_hint(hint: float, computed: float, draw: float) -> None:
    """Whatever is drawn, the wait is at least hint and backoff, and exceeds them by 2 s at most."""
    longest = max(hint, computed)
    assert longest <= wait_for(hint, computed, draw) <= longest + 2.0


def spent(budget: RetryBudget, now: float, tries: int = 100) -> int:
    return sum(budget.spend(now) for _ in range(tries))


def test_the_budget_starts_full() -> None:
    """Ten retries are free; the eleventh is refused."""
    assert spent(RetryBudget(tokens=10.0, ratio=0.1, refill=10.0), now=5.0) == 10


def test_ten_first_attempts_pay_for_one_retry() -> None:
    """First attempts put back a tenth each, and ten of them make exactly one token in spite of binary fractions."""
    budget = RetryBudget(tokens=10.0, ratio=0.1, refill=10.0)
    spent(budget, now=5.0)
    for _ in range(9):
        budget.first(5.0)
    after_nine = budget.spend(5.0)
    budget.first(5.0)
    assert [after_nine, budget.spend(5.0), budget.spend(5.0)] == [False, True, False]


def test_time_puts_a_token_back() -> None:
    """One token comes back in each refill time, so that an idle client can retry."""
    budget = RetryBudget(tokens=10.0, ratio=0.1, refill=10.0)
    spent(budget, now=5.0)
    assert [spent(budget, 14.9), spent(budget, 35.0), spent(budget, 35.0)] == [0, 3, 0]


def test_the_budget_never_holds_more_than_its_tokens() -> None:
    """Neither time nor first attempts fill it beyond its size."""
    budget = RetryBudget(tokens=2.0, ratio=1.0, refill=1.0)
    for _ in range(50):
        budget.first(1_000.0)
    assert spent(budget, 1_000.0) == 2


def test_a_number_that_goes_back_gives_nothing() -> None:
    """An earlier time neither adds nor takes tokens, nor is the span counted twice."""
    budget = RetryBudget(tokens=5.0, ratio=0.0, refill=1.0)
    budget.spend(100.0)
    assert [spent(budget, 50.0), spent(budget, 100.0)] == [4, 0]


@given(st.integers(0, 400), st.floats(0.0, 1.0))
def test_retries_stay_a_small_share(first_attempts: int, ratio: float) -> None:
    """At one moment, retries never exceed the starting tokens plus the share of the first attempts."""
    budget = RetryBudget(tokens=10.0, ratio=ratio, refill=10.0)
    retries = 0
    for _ in range(first_attempts):
        budget.first(1.0)
        retries += budget.spend(1.0) + budget.spend(1.0)
    assert retries <= 10.0 + ratio * first_attempts + 1e-6
