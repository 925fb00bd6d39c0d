"""Who waits in this process, and for what."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakValueDictionary

from llm_gateway.queues._signal import Signal

__all__ = ["Changes", "Wakes"]


@dataclass(frozen=True, slots=True)
class Changes:
    """What was committed since the last look, by this process or another.

    Attributes:
        tickets: Whose version moved.
        ready: Whether jobs may have become claimable.
        everything: Too much to tell, or no ticket's own: whoever waits looks again.
    """

    tickets: Iterable[str] = ()
    ready: bool = False
    everything: bool = False


class Wakes:
    """Signals of one event loop. Only its thread calls these methods; `waiting` alone is read by others.

    Args:
        poke: Called when the first begins to wait, so that the file is watched for other processes' changes.
    """

    def __init__(self, poke: Callable[[], None]) -> None:
        self.waiting = 0
        self.ready = Signal()
        self.written = Signal()
        self._tickets: WeakValueDictionary[str, Signal] = WeakValueDictionary()
        self._poke = poke

    @contextmanager
    def watching(self) -> Generator[None]:
        """Have the file watched meanwhile."""
        self.waiting += 1
        try:
            if self.waiting == 1:
                self._poke()
            yield
        finally:
            self.waiting -= 1

    def of_ticket(self, ticket_id: str) -> Signal:
        """Return the signal of a ticket's next change. It lives as long as somebody holds it."""
        signal = self._tickets.get(ticket_id)
        if signal is None:
            signal = self._tickets[ticket_id] = Signal()
        return signal

    def fire(self, changes: Changes) -> None:
        """Wake whom the changes concern."""
        if changes.everything:
            self.fire_all()
            return
        told = False
        for ticket_id in changes.tickets:
            told = True
            if (signal := self._tickets.get(ticket_id)) is not None:
                signal.fire()
        if told:
            self.written.fire()
        if changes.ready:
            self.ready.fire()

    def fire_all(self) -> None:
        """Wake everybody."""
        self.written.fire()
        self.ready.fire()
        for signal in list(self._tickets.values()):
            signal.fire()
