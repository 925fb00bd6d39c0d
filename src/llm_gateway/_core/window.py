"""How many of the latest calls failed, in a window of six time buckets. Time is a number that the caller passes in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

__all__ = ["FailureWindow"]

BUCKETS: Final = 6


@dataclass(slots=True)
class Bucket:
    """One sixth of the window. ``run`` counts the failures since its last success."""

    number: int
    calls: int = 0
    failures: int = 0
    run: int = 0


class FailureWindow:
    """Counts calls and failures of the last *seconds*.

    The oldest bucket leaves as a whole, so between five sixths and all of *seconds* are counted.
    """

    __slots__ = ("_buckets", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._buckets: deque[Bucket] = deque(maxlen=BUCKETS)

    def record(self, now: float, *, failed: bool) -> None:
        """Count one call that ended at *now* (seconds)."""
        number = int(now // self._width)
        buckets = self._buckets
        if not buckets or buckets[-1].number < number:
            buckets.append(Bucket(number))
        bucket = buckets[-1]
        bucket.calls += 1
        if failed:
            bucket.failures += 1
            bucket.run += 1
        else:
            bucket.run = 0

    def tripped(self, now: float, *, consecutive_failures: int, minimum_calls: int, failure_rate: float) -> bool:
        """Whether the calls counted at *now* call for opening the circuit.

        They do after *consecutive_failures* in a row, or when at least the share *failure_rate* of at least
        *minimum_calls* failed.
        """
        live = self._live(now)
        if consecutive(live) >= consecutive_failures:
            return True
        calls = sum(bucket.calls for bucket in live)
        failures = sum(bucket.failures for bucket in live)
        return calls >= minimum_calls and failures >= failure_rate * calls

    def empty(self, now: float) -> bool:
        """Whether nothing is counted at *now*."""
        return not self._live(now)

    def clear(self) -> None:
        """Forget all calls."""
        self._buckets.clear()

    def _live(self, now: float) -> list[Bucket]:
        oldest = int(now // self._width) - BUCKETS + 1
        return [bucket for bucket in self._buckets if bucket.number >= oldest]


def consecutive(buckets: list[Bucket]) -> int:
    """Count the failures since the last success, across *buckets* in order of time."""
    total = 0
    for bucket in reversed(buckets):
        total += bucket.run
        if bucket.run < bucket.calls:
            break
    return total
