"""Events that leave, and events that are watched, in memory."""

from __future__ import annotations

from llm_gateway._core.jobs import JobEvent, JobView
from llm_gateway._core.journal import concerns, event_of, number_of
from llm_gateway.protocols import Outbox, Watch
from llm_gateway.queues.memory.journal import Lead
from llm_gateway.queues.memory.lanes import Record
from llm_gateway.queues.memory.ledger import OnLedger

__all__ = ["MemoryOutbox", "MemoryWatch"]


class MemoryOutbox(OnLedger, Outbox):
    """Events that still have to leave."""

    @property
    def outbox_shards(self) -> int:
        """One."""
        return 1

    async def lead(self, shard: int, token: str, seconds: float) -> bool:
        """Take, or renew, the right to relay for *seconds*; False while another token holds it."""
        lead, now = self._ledger.journal.lead, self._ledger.clock.monotonic()
        if lead is not None and lead.token != token and lead.ends > now:
            return False
        self._ledger.journal.lead = Lead(token, now + seconds)
        return True

    async def yield_lead(self, shard: int, token: str) -> None:
        """Give the right back, if it is still this token's."""
        if self._leads(token):
            self._ledger.journal.lead = None

    async def unrelayed(self, shard: int, limit: int = 100) -> list[JobEvent]:
        """Return the oldest events that nobody acknowledged."""
        return self._ledger.journal.unrelayed(limit)

    async def relayed(self, shard: int, cursor: str, token: str) -> bool:
        """Acknowledge all events up to this one; retention starts for jobs whose terminal event was among them.

        False when the token no longer leads: then nothing changes.

        Raises:
            InvalidRequest: the cursor is none of this queue's.
        """
        number = number_of(cursor)
        if not self._leads(token):
            return False
        for event in self._ledger.journal.relayed(number):
            record = self._ledger.records.get(event.ticket_id)
            if event.state.terminal and record is not None and not record.buried:
                self._ledger.retain(record)
        return True

    async def close_outbox(self, shard: int, token: str) -> bool:
        """Write no more events for a relay; False unless this token leads and all events have left."""
        if not self._leads(token) or self._ledger.journal.outbox:
            return False
        self._ledger.relaying = False
        return True

    async def wait_unrelayed(self, shard: int) -> None:
        """Return when there is an event to relay.

        Raises:
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        self._ledger.check_open()
        while not self._ledger.journal.outbox:
            await self._ledger.journal.written.wait()
            self._ledger.check_open()

    def _leads(self, token: str) -> bool:
        lead = self._ledger.journal.lead
        return lead is not None and lead.token == token and lead.ends > self._ledger.clock.monotonic()


class MemoryWatch(OnLedger, Watch):
    """Being told of changes."""

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        """Return the job once its version exceeds *beyond*.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's; also when it goes meanwhile.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        self._ledger.check_open()
        while (record := self._ledger.visible(tenant, ticket_id)).view.version <= beyond:
            await self._ledger.journal.of_ticket(ticket_id).wait()
            self._ledger.check_open()
        return self._ledger.shown(record)

    async def events(self, tenant: str, *, group: str | None, after: str | None, limit: int = 100) -> list[JobEvent]:
        """Wait for events after a cursor (from now on when ``None``).

        The log keeps the latest 10 000. Past a gap come first the current states of the jobs that changed within it,
        in the order of their latest change, each with the cursor of that change: going on from any loses nothing.

        Raises:
            InvalidRequest: the cursor is none of this queue's.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        self._ledger.check_open()
        journal = self._ledger.journal
        place = journal.latest if after is None else number_of(after)
        if place > journal.latest:
            place = 0
        while True:
            batch = self._missed(tenant, group, place, limit) or self._logged(tenant, group, place, limit)
            if batch:
                return batch
            place = journal.latest
            await journal.written.wait()
            self._ledger.check_open()

    def _logged(self, tenant: str, group: str | None, place: int, limit: int) -> list[JobEvent]:
        batch = list[JobEvent]()
        for event in self._ledger.journal.after(place):
            if concerns(event, tenant, group) and len(batch) < limit:
                batch.append(event)
        return batch

    def _missed(self, tenant: str, group: str | None, place: int, limit: int) -> list[JobEvent]:
        first = self._ledger.journal.first
        if place >= first - 1:
            return []
        changed = (record for record in self._ledger.records.values() if place < record.event < first)
        missed = [record for record in changed if not record.buried and concerns(record.view, tenant, group)]
        return [told(record) for record in sorted(missed, key=lambda record: record.event)[:limit]]


def told(record: Record) -> JobEvent:
    """Return where a job stands as the event that brought it there."""
    return event_of(record.view, record.result, record.event)
