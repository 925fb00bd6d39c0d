"""The limiter that waits for what providers ask."""

from __future__ import annotations

import math

import pytest

from llm_gateway._core.circuit import CircuitKey
from llm_gateway._core.environments import EVERYWHERE
from llm_gateway._core.jobs import Lane
from llm_gateway.limits.retry_after import LONGEST_PENALTY, MOST_PENALTIES, RetryAfterLimiter
from llm_gateway.testing.clock import FakeClock

KEY = CircuitKey("api.example.com", Lane("vendor", "large"))
SMALL = CircuitKey("api.example.com", Lane("vendor", "small"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limiter(clock: FakeClock) -> RetryAfterLimiter:
    return RetryAfterLimiter(clock=clock)


def test_a_lane_without_a_penalty_is_not_delayed(limiter: RetryAfterLimiter) -> None:
    """Nothing asked for, nothing waited for."""
    assert limiter.delay(KEY) == 0.0


def test_a_penalty_runs_down_and_ends(limiter: RetryAfterLimiter, clock: FakeClock) -> None:
    """The delay is what is left of it, and then 0."""
    limiter.penalise(KEY, 30.0)
    seen = [limiter.delay(KEY)]
    clock.advance(29.0)
    seen.append(limiter.delay(KEY))
    clock.advance(1.0)
    seen.append(limiter.delay(KEY))
    assert seen == [30.0, 1.0, 0.0]
    assert repr(limiter) == "RetryAfterLimiter(0 penalties)"


def test_other_lanes_are_not_delayed(limiter: RetryAfterLimiter) -> None:
    """A penalty holds for its endpoint and lane alone."""
    limiter.penalise(KEY, 30.0)
    other = CircuitKey("eu.example.com", KEY.lane)
    assert [limiter.delay(SMALL), limiter.delay(other)] == [0.0, 0.0]


def test_the_latest_end_is_kept(limiter: RetryAfterLimiter) -> None:
    """A shorter penalty does not shorten one that runs; a longer one prolongs it."""
    limiter.penalise(KEY, 30.0)
    limiter.penalise(KEY, 5.0)
    after_shorter = limiter.delay(KEY)
    limiter.penalise(KEY, 60.0)
    assert (after_shorter, limiter.delay(KEY)) == (30.0, 60.0)


@pytest.mark.parametrize("seconds", [0.0, -5.0, math.nan])
def test_what_is_no_duration_holds_nothing_back(limiter: RetryAfterLimiter, seconds: float) -> None:
    """Zero, a negative number and NaN leave the lane free."""
    limiter.penalise(KEY, seconds)
    assert limiter.delay(KEY) == 0.0


@pytest.mark.parametrize("seconds", [99_999_999_999.0, math.inf])
def test_a_penalty_is_clamped_to_a_day(limiter: RetryAfterLimiter, seconds: float) -> None:
    """A provider's absurd figure does not close a lane for ever."""
    limiter.penalise(KEY, seconds)
    assert limiter.delay(KEY) == LONGEST_PENALTY


def test_memory_is_bounded(limiter: RetryAfterLimiter) -> None:
    """Beyond the bound the penalty that ends first is forgotten, and the others stay."""
    keys = [CircuitKey("api.example.com", Lane("vendor", f"m{number}")) for number in range(MOST_PENALTIES + 10)]
    for number, key in enumerate(keys):
        limiter.penalise(key, 10.0 + number)
    held = [limiter.delay(key) > 0.0 for key in keys]
    assert held == [False] * 10 + [True] * MOST_PENALTIES


def test_penalties_that_have_passed_are_forgotten_first(limiter: RetryAfterLimiter, clock: FakeClock) -> None:
    """At the bound, room is made from those that are over."""
    for number in range(MOST_PENALTIES):
        limiter.penalise(CircuitKey("api.example.com", Lane("vendor", f"m{number}")), 10.0)
    clock.advance(10.0)
    limiter.penalise(KEY, 5.0)
    assert (limiter.delay(KEY), repr(limiter)) == (5.0, "RetryAfterLimiter(1 penalties)")


def test_it_may_run_everywhere(limiter: RetryAfterLimiter) -> None:
    """It holds no answer, so every environment allows it; without a clock it takes the system's."""
    default = RetryAfterLimiter()
    default.penalise(KEY, 50.0)
    assert limiter.allowed_in == EVERYWHERE
    assert 0.0 < default.delay(KEY) <= 50.0
