"""Who waits in this process, and for what: woken by one blocking reader for each shard. It never takes a job."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Final
from weakref import WeakValueDictionary

import anyio

from llm_gateway.queues._signal import Signal
from llm_gateway.queues.redis.rows import integer, items, raw, text

__all__ = ["BLOCK_SECONDS", "Wakes"]

BLOCK_SECONDS: Final = 5.0
# How long the reader goes on when nobody waits: workers wait again and again.
LINGER: Final = 30.0
# Even if the server should forget what it told, nobody waits longer than this for another look.
RECONCILE: Final = 15.0
PAUSE: Final = 0.5
MOST_READ: Final = 2_000
Read = Callable[[int, int, int], Awaitable[Sequence[object]]]


class Wakes:
    """The signals of one shard.

    Args:
        read: Waits for what comes after an event and a nudge, given by their numbers, up to so many of each.
    """

    def __init__(self, read: Read) -> None:
        self.written = Signal()
        self._read = read
        self._tickets: WeakValueDictionary[str, Signal] = WeakValueDictionary()
        self._ready: dict[anyio.Event, tuple[int, int]] = {}
        self._known = (0, 0)
        self._place = (0, 0)
        self._waiting = 0
        self._left_at = 0.0
        self._reader: asyncio.Task[None] | None = None

    def know(self, events: int, nudges: int) -> None:
        """Take note of where the shard stood when it last replied."""
        seen, nudged = self._known
        self._known = (max(seen, events), max(nudged, nudges))

    @contextmanager
    def watching(self) -> Generator[None]:
        """Have the shard read meanwhile."""
        self._waiting += 1
        if self._reader is None or self._reader.done():
            self._place = self._known
            self._reader = asyncio.create_task(self._keep_reading(), name="llm_gateway redis reader")
        try:
            yield
        finally:
            self._waiting -= 1
            self._left_at = asyncio.get_running_loop().time()

    def of_ticket(self, ticket_id: str) -> Signal:
        """Return the signal of a ticket's next change. It lives as long as somebody holds it."""
        signal = self._tickets.get(ticket_id)
        if signal is None:
            signal = self._tickets[ticket_id] = Signal()
        return signal

    @contextmanager
    def ready(self) -> Generator[anyio.Event]:
        """Give what is set when jobs have become claimable that this process has not been told of yet."""
        event = anyio.Event()
        self._ready[event] = self._known
        try:
            with self.watching():
                yield event
        finally:
            del self._ready[event]

    def fire_all(self) -> None:
        """Wake everybody."""
        self.written.fire()
        for event in self._ready:
            event.set()
        for signal in list(self._tickets.values()):
            signal.fire()

    async def aclose(self) -> None:
        """Read no more, and wake everybody."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})
        self.fire_all()

    async def _keep_reading(self) -> None:
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while self._waiting > 0 or loop.time() - self._left_at < LINGER:
            try:
                told = await self._read(*self._place, MOST_READ)
            except Exception:
                # The queue's own calls tell what is wrong; whoever waits is woken to make one.
                self.fire_all()
                await asyncio.sleep(PAUSE)
                continue
            for stream in told:
                self._take(items(stream))
            if loop.time() - looked >= RECONCILE or self._lost(told):
                looked = loop.time()
                self.fire_all()

    def _lost(self, told: Sequence[object]) -> bool:
        """Whether entries may have been missed: so many had come that the oldest may be gone."""
        return any(len(items(items(stream)[1])) >= MOST_READ for stream in told)

    def _take(self, stream: list[object]) -> None:
        name, entries = raw(stream[0]), items(stream[1])
        events, nudges = self._place
        if name.endswith(b"nudge"):
            nudges = max(number_of(entry) for entry in entries)
            self._place = (events, nudges)
            self.written.fire()
            for signal in list(self._tickets.values()):
                signal.fire()
            self._wake(events=0, nudges=nudges)
            return
        claimable = 0
        for entry in entries:
            fact = items(items(entry)[1])
            events = number_of(entry)
            if (waited := self._tickets.get(text(fact[1]))) is not None:
                waited.fire()
            claimable = events if fact[5] == b"Q" else claimable
        self._place = (events, nudges)
        self.written.fire()
        self._wake(events=claimable, nudges=0)

    def _wake(self, *, events: int, nudges: int) -> None:
        for event, (seen, nudged) in list(self._ready.items()):
            if events > seen or nudges > nudged:
                event.set()


def number_of(entry: object) -> int:
    """Return the number of an entry of a stream."""
    return integer(raw(items(entry)[0]).partition(b"-")[0])
