"""One blocking reader of a shard's streams, for as long as somebody needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from llm_gateway.queues.redis.rows import integer, items, raw

__all__ = ["BLOCK_SECONDS", "Entry", "Place", "Read", "Reader"]

BLOCK_SECONDS: Final = 5.0
# How long the reader goes on when nobody waits: workers wait again and again.
LINGER: Final = 30.0
# Even if the server should forget what it told, nobody waits longer than this for another look.
RECONCILE: Final = 15.0
PAUSE: Final = 0.5
MOST_READ: Final = 2_000
Place = tuple[int, int]
Read = Callable[[str, Place, int], Awaitable[Sequence[object]]]


class Entry(NamedTuple):
    """What a stream told.

    Attributes:
        number: Of the transition, or of the nudge.
        fact: The transition's names and values; ``None`` for a nudge.
    """

    number: int
    fact: Sequence[object] | None


class Reader:
    """Reads one stream of transitions, and the nudges, from where the shard stands when somebody needs it.

    Args:
        name: Of the stream.
        read: Waits for what comes after an event and a nudge, given by their numbers, up to so many of each.
        stands: Where the shard stands.
        told: Called with each entry, in order.
        lost: Called when entries may have been missed, also before the first is read.
    """

    def __init__(
        self,
        name: str,
        read: Read,
        *,
        stands: Callable[[], Place],
        told: Callable[[Entry], None],
        lost: Callable[[], None],
    ) -> None:
        self._name = name
        self._read = read
        self._stands = stands
        self._told = told
        self._lost = lost
        self._place: Place = (0, 0)
        self._needed = 0
        self._left_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether all that happens now will be told."""
        return self._task is not None and not self._task.done()

    @contextmanager
    def needed(self) -> Generator[None]:
        """Have the stream read meanwhile."""
        self._needed += 1
        if not self.running:
            self._place = self._stands()
            self._lost()
            self._task = asyncio.create_task(self._keep_reading(), name="llm_gateway redis reader")
        try:
            yield
        finally:
            self._needed -= 1
            self._left_at = asyncio.get_running_loop().time()

    async def aclose(self) -> None:
        """Read no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _keep_reading(self) -> None:
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while self._needed > 0 or loop.time() - self._left_at < LINGER:
            try:
                told = await self._read(self._name, self._place, MOST_READ)
            except Exception:
                # The queue's own calls tell what is wrong; whoever waits is woken to make one.
                self._lost()
                await asyncio.sleep(PAUSE)
                continue
            full = [self._take(items(stream)) for stream in told]
            # So many had come that the oldest may be gone.
            if loop.time() - looked >= RECONCILE or any(full):
                looked = loop.time()
                self._lost()

    def _take(self, stream: list[object]) -> bool:
        """Tell what a stream brought; True when there may have been more."""
        nudge, entries = raw(stream[0]).endswith(b"nudge"), items(stream[1])
        for entry in entries:
            name, fact = items(entry)
            number = integer(raw(name).partition(b"-")[0])
            events, nudges = self._place
            self._place = (events, number) if nudge else (number, nudges)
            self._told(Entry(number, None if nudge else items(fact)))
        return len(entries) >= MOST_READ
