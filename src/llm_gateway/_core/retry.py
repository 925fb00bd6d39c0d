"""How long to wait before another attempt, and whether one may be made. Time and chance are numbers passed in."""

from __future__ import annotations

from typing import Final

__all__ = ["RetryBudget", "backoff", "wait_for"]

HINT_SPREAD: Final = 0.1
HINT_SPREAD_CAP: Final = 2.0
# Ten deposits of a tenth must make one token, whatever binary fractions add up to.
ROUNDING: Final = 1e-9
MOST_DOUBLINGS: Final = 60


def backoff(attempt: int, *, base: float, cap: float, draw: float) -> float:
    """Return the seconds to wait after the failure of attempt number *attempt* (1 is the first).

    Full jitter: evenly drawn below ``base`` doubled for each earlier failure, and never above *cap*.

    Args:
        attempt: Number of the attempt that failed, from 1.
        base: Upper bound of the first wait, in seconds.
        cap: Upper bound of every wait, in seconds.
        draw: A number from 0 to 1, evenly drawn.
    """
    doublings = min(max(attempt - 1, 0), MOST_DOUBLINGS)
    return draw * min(cap, base * 2.0**doublings)


def wait_for(hint: float | None, backoff: float, draw: float) -> float:
    """Return the seconds to wait, given the provider's hint.

    Never less than either; a hint is exceeded by up to a tenth of it (at most 2 s), so that those who got
    the same hint do not return at once.

    Args:
        hint: Retry-After in seconds; ``None`` when there was none.
        backoff: Seconds that `backoff` gave.
        draw: A number from 0 to 1, evenly drawn.
    """
    if hint is None:
        return backoff
    return max(backoff, hint) + draw * min(HINT_SPREAD * hint, HINT_SPREAD_CAP)


class RetryBudget:
    """Keeps retries a small share of the first attempts, so that an outage is not multiplied.

    It starts full. First attempts put a fraction back, time does too, and a retry takes one token.

    Args:
        tokens: Most tokens it holds.
        ratio: Tokens that each first attempt puts back.
        refill: Seconds in which one token comes back by itself.
    """

    __slots__ = ("_at", "_most", "_ratio", "_refill", "_tokens")

    def __init__(self, *, tokens: float, ratio: float, refill: float) -> None:
        self._most = tokens
        self._ratio = ratio
        self._refill = refill
        self._tokens = tokens
        self._at = 0.0

    def first(self, now: float) -> None:
        """Note a first attempt at *now* (seconds)."""
        self._pass_time(now)
        self._tokens = min(self._most, self._tokens + self._ratio)

    def spend(self, now: float) -> bool:
        """Take a token for a retry at *now*; False when there is none."""
        self._pass_time(now)
        if self._tokens < 1.0 - ROUNDING:
            return False
        self._tokens -= 1.0
        return True

    def _pass_time(self, now: float) -> None:
        passed = max(0.0, now - self._at)
        self._at = max(self._at, now)
        self._tokens = min(self._most, self._tokens + passed / self._refill)
