"""What happened, in order: for those who watch, and for the relay."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from llm_gateway._core.jobs import JobEvent, JobView
from llm_gateway._core.journal import LOG_LENGTH, event_of, number_of, scrubbed
from llm_gateway.queues._signal import Signal

__all__ = ["Journal", "Lead"]


@dataclass(frozen=True, slots=True)
class Lead:
    """Who may relay the outbox, until a monotonic time."""

    token: str
    ends: float


class Journal:
    """The latest events for watchers, and the outbox for the relay."""

    def __init__(self) -> None:
        self.latest = 0
        self.outbox: deque[JobEvent] = deque()
        self.lead: Lead | None = None
        self.written = Signal()
        self._log: dict[int, JobEvent] = {}
        self._tickets: dict[str, Signal] = {}

    @property
    def first(self) -> int:
        """Number of the oldest event that is still in the log."""
        return self.latest - len(self._log) + 1

    def write(self, view: JobView, result: bytes | None, *, relay: bool) -> int:
        """Note one transition, wake who waits for it, and return its number."""
        self.latest += 1
        event = event_of(view, result, self.latest)
        self._log[self.latest] = event
        self._log.pop(self.latest - LOG_LENGTH, None)
        if relay:
            self.outbox.append(event)
        self.written.fire()
        self.touch(view.ticket_id)
        return self.latest

    def after(self, number: int) -> Iterator[JobEvent]:
        """Give the logged events that follow *number*."""
        return (self._log[place] for place in range(max(number + 1, self.first), self.latest + 1))

    def unrelayed(self, limit: int) -> list[JobEvent]:
        """Return the oldest events of the outbox."""
        return list(islice(self.outbox, limit))

    def relayed(self, number: int) -> list[JobEvent]:
        """Drop the events up to a number from the outbox, and return them."""
        gone = list[JobEvent]()
        while self.outbox and number_of(self.outbox[0].cursor) <= number:
            gone.append(self.outbox.popleft())
        return gone

    def scrub(self, tickets: Collection[str]) -> None:
        """Take the content out of the events of these tickets.

        An event that still has to leave keeps its echo, which names whom to tell; its result goes.
        """
        for number, event in self._log.items():
            if event.ticket_id in tickets:
                self._log[number] = replace(event, view=scrubbed(event.view), result=None)
        self.outbox = deque(
            replace(event, result=None) if event.ticket_id in tickets else event for event in self.outbox
        )

    def of_ticket(self, ticket_id: str) -> Signal:
        """Return the signal of a ticket's next change."""
        return self._tickets.setdefault(ticket_id, Signal())

    def touch(self, ticket_id: str) -> None:
        """Wake who waits for a ticket."""
        if (signal := self._tickets.pop(ticket_id, None)) is not None:
            signal.fire()

    def wake_all(self) -> None:
        """Wake everybody."""
        self.written.fire()
        for ticket_id in list(self._tickets):
            self.touch(ticket_id)
