"""The limiter that waits for what providers ask: one Retry-After for each endpoint and lane."""

from __future__ import annotations

from typing import Final

from llm_gateway._core.circuit import CircuitKey
from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._null import SystemClock
from llm_gateway.protocols import Clock, RateLimiter

__all__ = ["LONGEST_PENALTY", "MOST_PENALTIES", "RetryAfterLimiter"]

LONGEST_PENALTY: Final = 86_400.0
MOST_PENALTIES: Final = 1_024
SYSTEM_CLOCK: Final = SystemClock()


class RetryAfterLimiter(RateLimiter):
    """Keeps the latest time before which no call may go to a lane.

    It holds at most `MOST_PENALTIES` of them; beyond that, those that end first are forgotten.

    Args:
        clock: Where time comes from.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._clock = clock
        self._not_before: dict[CircuitKey, float] = {}

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    def delay(self, key: CircuitKey) -> float:
        """Seconds to wait before sending; 0 sends now."""
        until = self._not_before.get(key)
        if until is None:
            return 0.0
        left = until - self._clock.monotonic()
        if left > 0.0:
            return left
        del self._not_before[key]
        return 0.0

    def penalise(self, key: CircuitKey, seconds: float) -> None:
        """Hold *key* back for *seconds*, at most `LONGEST_PENALTY` (a day). It shortens no penalty that runs.

        What is not a number above 0 holds nothing back.
        """
        if not seconds > 0.0:
            return
        now = self._clock.monotonic()
        until = now + min(seconds, LONGEST_PENALTY)
        self._not_before[key] = max(until, self._not_before.get(key, until))
        if len(self._not_before) > MOST_PENALTIES:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop what has passed, else the one that ends first."""
        running = {key: until for key, until in self._not_before.items() if until > now}
        if len(running) > MOST_PENALTIES:
            del running[min(running, key=running.__getitem__)]
        self._not_before = running

    def __repr__(self) -> str:
        return f"RetryAfterLimiter({len(self._not_before)} penalties)"
