"""Time that moves only when a test says so."""

from __future__ import annotations

import math
from bisect import insort
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from llm_gateway.protocols import Clock

__all__ = ["START", "FakeClock"]

START: Final = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SETTLING_ROUNDS: Final = 25
MICROSECONDS: Final = 1_000_000


class FakeClock(Clock):
    """A clock for tests: deterministic, exact to the microsecond, and never really asleep.

    Args:
        start: What `now` tells at first; 2030-01-01 12:00 UTC by default.
    """

    def __init__(self, start: datetime = START) -> None:
        self._start = start
        self._elapsed = 0
        self._skew = timedelta()
        self._asleep: list[tuple[int, int, anyio.Event]] = []
        self._order = count()

    def __repr__(self) -> str:
        return f"<FakeClock {self.now().isoformat()} sleepers={self.sleepers}>"

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep by this clock."""
        return len(self._asleep)

    def monotonic(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed / MICROSECONDS

    def now(self) -> datetime:
        """UTC wall-clock time."""
        return self._start + timedelta(microseconds=self._elapsed) + self._skew

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been advanced that far."""
        if seconds <= 0:
            await checkpoint()
            return
        entry = (self._elapsed + math.ceil(seconds * MICROSECONDS), next(self._order), anyio.Event())
        insort(self._asleep, entry, key=lambda sleeper: sleeper[:2])
        try:
            await entry[2].wait()
        finally:
            if entry in self._asleep:
                self._asleep.remove(entry)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward and wake whoever has slept long enough. Woken tasks run once the loop does."""
        self._move_to(self._elapsed + round(seconds * MICROSECONDS))

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, either way; nobody wakes."""
        self._skew += timedelta(seconds=seconds)

    async def run_for(self, seconds: float) -> None:
        """Move forward from one sleeper's hour to the next, and let each woken task run before going on."""
        end = self._elapsed + round(seconds * MICROSECONDS)
        await settle()
        while self._asleep and self._asleep[0][0] <= end:
            self._move_to(self._asleep[0][0])
            await settle()
        self._move_to(end)
        await settle()

    def _move_to(self, elapsed: int) -> None:
        self._elapsed = max(self._elapsed, elapsed)
        while self._asleep and self._asleep[0][0] <= self._elapsed:
            self._asleep.pop(0)[2].set()


async def settle() -> None:
    """Let the tasks that can run do so. Tasks that wait for real input or output are not waited for."""
    for _ in range(SETTLING_ROUNDS):
        await checkpoint()
