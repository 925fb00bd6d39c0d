"""Who waits in this process, and for what: woken by blocking readers of each shard. They never take a job.

A shard tells in two streams what happens. The log has every transition; the turns have those alone after which a job
waits or has ended, which is what workers and waiters for results need: so a claim wakes none of them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final
from weakref import WeakValueDictionary

import anyio

from llm_gateway.queues._signal import Signal
from llm_gateway.queues.redis.reader import Entry, Place, Read, Reader
from llm_gateway.queues.redis.rows import integer, text

__all__ = ["LOG", "TURNS", "Signals", "Wakes"]

LOG: Final = "ev"
TURNS: Final = "wk"
# Most jobs of which is remembered that they were new a moment ago.
FRESH: Final = 4096


class Signals:
    """The signals of tickets, each of which lives as long as somebody holds it."""

    def __init__(self) -> None:
        self._of: WeakValueDictionary[str, Signal] = WeakValueDictionary()

    def of(self, ticket_id: str) -> Signal:
        """Return the signal of a ticket's next change."""
        signal = self._of.get(ticket_id)
        if signal is None:
            signal = self._of[ticket_id] = Signal()
        return signal

    def fire(self, ticket_id: str) -> None:
        """Wake who waits for a ticket."""
        if (signal := self._of.get(ticket_id)) is not None:
            signal.fire()

    def fire_all(self) -> None:
        """Wake who waits for any."""
        for signal in list(self._of.values()):
            signal.fire()


class Wakes:
    """The signals of one shard.

    Args:
        read: Waits for what comes after an event and a nudge in the log or in the turns.
        monotonic: The time that waits for what is due are measured by.

    Attributes:
        log: Has every transition read.
        turns: Has those read that leave a job waiting or ended.
        written: Fires after any transition, while the log is read.
        changes: Fire after any transition of a ticket, while the log is read.
        endings: Fire when a ticket waits again or has ended, while the turns are read.
    """

    def __init__(self, read: Read, monotonic: Callable[[], float]) -> None:
        self.written = Signal()
        self.changes = Signals()
        self.endings = Signals()
        self.log = Reader(LOG, read, stands=self.stands, told=self._told, lost=self._log_lost)
        self.turns = Reader(TURNS, read, stands=self.stands, told=self._turned, lost=self._turns_lost)
        self._monotonic = monotonic
        self._known: Place = (0, 0)
        self._ready: dict[anyio.Event, Place] = {}
        self._fresh: OrderedDict[str, str] = OrderedDict()
        self._due = math.inf
        self._looks = 0
        self._looked = False

    def stands(self) -> Place:
        """Return where the shard stood when it last replied."""
        return self._known

    def know(self, events: int, nudges: int) -> None:
        """Take note of where the shard stood when it replied."""
        seen, nudged = self._known
        self._known = (max(seen, events), max(nudged, nudges))

    def expect(self, ticket_id: str, tenant: str) -> None:
        """Take note that a ticket is about to be stored; said before it is, so that its end cannot be missed."""
        if self.turns.running:
            self._fresh[ticket_id] = tenant
            if len(self._fresh) > FRESH:
                self._fresh.popitem(last=False)

    def lasts(self, ticket_id: str, tenant: str) -> bool:
        """Whether what was stored here a moment ago has surely not ended yet, or its end is still to be told."""
        return self._fresh.get(ticket_id) == tenant

    def drop(self, ticket_id: str) -> None:
        """Forget that a ticket was about to be stored: it was not, or not by this call."""
        self._fresh.pop(ticket_id, None)

    @contextmanager
    def ready(self) -> Generator[anyio.Event]:
        """Give what is set when jobs have become claimable that this process has not been told of yet."""
        with self.turns.needed():
            event = anyio.Event()
            self._ready[event] = self._known
            try:
                yield event
            finally:
                del self._ready[event]

    @property
    def due(self) -> float:
        """When time alone makes something claimable, for all that is known; infinite for never."""
        return self._due

    def unsure(self) -> bool:
        """Whether only a look tells when something is due."""
        return not self._looked or self._due <= self._monotonic()

    def looking(self) -> int:
        """Begin to look when something is due; what is told from now on counts too."""
        self._looks, self._looked, self._due = self._looks + 1, False, math.inf
        return self._looks

    def looked(self, look: int, due: float) -> None:
        """Take what a look found, unless it has been overtaken."""
        if look == self._looks:
            self._looked, self._due = True, min(self._due, due)

    async def aclose(self) -> None:
        """Read no more, and wake everybody."""
        for reader in (self.log, self.turns):
            await reader.aclose()
        self._log_lost()
        self._turns_lost()

    def _told(self, entry: Entry) -> None:
        self.written.fire()
        if entry.fact is None:
            self.changes.fire_all()
        else:
            self.changes.fire(text(entry.fact[1]))

    def _log_lost(self) -> None:
        self.written.fire()
        self.changes.fire_all()

    def _turned(self, entry: Entry) -> None:
        if entry.fact is None:
            # Gates may have moved, and content may have gone.
            self.looking()
            self._fresh.clear()
            self.endings.fire_all()
            self._wake(events=0, nudges=entry.number)
            return
        _, ticket, _, state, _, delay = entry.fact
        self.endings.fire(text(ticket))
        if state != b"Q":
            self._fresh.pop(text(ticket), None)
            return
        if delay != b"":
            self._due = min(self._due, self._monotonic() + integer(delay) / 1e6)
        self._wake(events=entry.number, nudges=0)

    def _turns_lost(self) -> None:
        self.looking()
        self._fresh.clear()
        self.endings.fire_all()
        for event in self._ready:
            event.set()

    def _wake(self, *, events: int, nudges: int) -> None:
        for event, (seen, nudged) in list(self._ready.items()):
            if events > seen or nudges > nudged:
                event.set()
