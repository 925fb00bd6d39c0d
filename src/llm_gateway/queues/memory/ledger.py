"""All jobs of the queue and the one place where they change.

Everything here is synchronous: between two awaits of a caller, state, counters, result and event agree.
"""

from __future__ import annotations

from collections import defaultdict

from llm_gateway._core.intake import first_view
from llm_gateway._core.jobs import JobView, Lane, Lease, NewJob
from llm_gateway._core.journal import scrubbed
from llm_gateway._core.lifecycle import TRANSITIONS, TicketState, Trigger
from llm_gateway._core.settlement import lost_attempt, remember
from llm_gateway._facts import Attempt, Fault
from llm_gateway.errors import ErrorInfo, QueueUnavailable, TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock
from llm_gateway.queues._signal import Signal
from llm_gateway.queues.memory.index import SortedIndex
from llm_gateway.queues.memory.journal import Journal
from llm_gateway.queues.memory.lanes import Hold, LaneBook, Record

__all__ = ["Ledger", "OnLedger"]


class Ledger:
    """The state of a queue: records, their indices, the journal.

    Args:
        options: Bounds and retention.
        clock: Time.
    """

    def __init__(self, options: QueueOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        self.closed = False
        self.relaying = False
        self.records: dict[str, Record] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.groups: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self.subjects: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
        self.lanes: dict[Lane, LaneBook] = {}
        self.tenant_keys: dict[str, bytes] = {}
        self.pins: dict[tuple[str, str, Lane], str] = {}
        self.parked_groups: dict[tuple[str, str, Lane], str] = {}
        self.claims: dict[str, dict[str, str]] = {}
        self.expiry = SortedIndex()
        self.leases = SortedIndex()
        self.retention = SortedIndex()
        self.depth = 0
        self.bytes = 0
        self.journal = Journal()
        self.ready = Signal()

    def check_open(self) -> None:
        """Refuse work once closed.

        Raises:
            QueueUnavailable: when it is.
        """
        if self.closed:
            message = "The queue is closed."
            raise QueueUnavailable(message)

    def book(self, lane: Lane) -> LaneBook:
        """Return the book of a lane, new if need be."""
        found = self.lanes.get(lane)
        if found is None:
            found = self.lanes[lane] = LaneBook(lane, self.records)
        return found

    def visible(self, tenant: str, ticket_id: str) -> Record:
        """Return a job as its tenant may see it.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        record = self.records.get(ticket_id)
        if record is None or record.buried or record.view.tenant != tenant:
            message = "There is no such ticket."
            raise TicketNotFound(message, info=ErrorInfo(ticket_id=ticket_id))
        return record

    def shown(self, record: Record) -> JobView:
        """Return a job with its place in the lane; ``None`` unless it is among the ready, whose order is known."""
        place = self.book(record.view.lane).ready.rank(record.view.ticket_id)
        return record.view if place is None else record.view._replace(position=place)

    def insert(self, job: NewJob) -> Record:
        """Store a job as queued."""
        now = self.clock.now()
        record = Record(first_view(job, now), job.payload, len(job.payload))
        self.records[job.ticket_id] = record
        self.keys[job.tenant, job.idempotency_key] = job.ticket_id
        if job.group is not None:
            self.groups[job.tenant, job.group][job.ticket_id] = None
        for subject in job.subjects:
            self.subjects[job.tenant, subject][job.ticket_id] = None
        self.depth += 1
        self.bytes += record.size
        self.expiry.put(job.ticket_id, job.expires_at.timestamp())
        book = self.book(job.lane)
        book.oldest.put(job.ticket_id, job.created_at.timestamp())
        self._place(record, book)
        self._note(record)
        return record

    def apply(self, record: Record, trigger: Trigger, draft: JobView, *, hold: Hold | None = None) -> None:
        """Make one transition: state, version, counters, indices and event. The only place that moves a state."""
        before, book = record.view, self.book(record.view.lane)
        state = TRANSITIONS[before.state, trigger]
        record.view = draft._replace(state=state, version=before.version + 1, updated_at=self.clock.now())
        book.lift(before.ticket_id)
        self._drop_hold(record)
        record.hold = hold
        self._place(record, book, parked=trigger is Trigger.PARKED)
        self._note(record)

    def end(self, record: Record, trigger: Trigger, fault: Fault) -> None:
        """Expire or cancel a job; a call that was under way may be billed, and the history says so."""
        view = record.view._replace(reason=None, not_before=None)
        self.apply(record, trigger, remember(view, self.lost(record, fault)))

    def lost(self, record: Record, fault: Fault) -> Attempt | None:
        """Return the attempt that nobody will report, if a call was under way."""
        since = None if record.hold is None else record.hold.since
        return lost_attempt(record.view, since, fault, self.clock.now())

    def retain(self, record: Record) -> None:
        """Start the retention of a job that has ended."""
        failed = record.view.state is TicketState.FAILED
        kept = self.options.dead_letter_retention if failed else self.options.result_retention
        self.retention.put(record.view.ticket_id, (self.clock.now() + kept).timestamp())

    def bury(self, record: Record) -> None:
        """Remove all content of a job that has ended; its id and key stay taken for as long as the key must live."""
        view = record.view
        record.view, record.payload, record.result, record.buried = scrubbed(view), None, None, True
        self.book(view.lane).dead.discard(view.ticket_id)
        if view.group is not None:
            unlink(self.groups, (view.tenant, view.group), view.ticket_id)
        for subject in view.subjects:
            unlink(self.subjects, (view.tenant, subject), view.ticket_id)
        key_ends = view.expires_at + self.options.result_retention
        self.retention.put(view.ticket_id, key_ends.timestamp())
        self.journal.touch(view.ticket_id)

    def forget(self, record: Record) -> None:
        """Remove the last of a buried job: its id and its key."""
        view = record.view
        self.retention.discard(view.ticket_id)
        del self.records[view.ticket_id]
        del self.keys[view.tenant, view.idempotency_key]

    def lease(self, record: Record, hold: Hold) -> Lease:
        """Return the lease that a hold stands for."""
        return Lease(
            job=record.view,
            payload=record.payload or b"",
            token=hold.token,
            deadline=hold.deadline,
            worker=hold.worker,
        )

    def _place(self, record: Record, book: LaneBook, *, parked: bool = False) -> None:
        ticket_id, state = record.view.ticket_id, record.view.state
        if state.terminal:
            self._close(record, book)
        elif record.hold is not None:
            book.running.add(ticket_id)
            self.leases.put(ticket_id, record.hold.ends)
            self.claims.setdefault(record.hold.claim_id, {})[ticket_id] = record.hold.token
        elif parked:
            book.parked[ticket_id] = None
        else:
            book.wait(record, self.clock.now())
            self.ready.fire()

    def _close(self, record: Record, book: LaneBook) -> None:
        ticket_id = record.view.ticket_id
        self.depth -= 1
        self.bytes -= record.size
        self.expiry.discard(ticket_id)
        book.oldest.discard(ticket_id)
        if record.view.state is TicketState.FAILED:
            book.dead.add(ticket_id)
        else:
            record.payload = None
        if not self.relaying:
            self.retain(record)

    def _drop_hold(self, record: Record) -> None:
        if record.hold is None:
            return
        self.leases.discard(record.view.ticket_id)
        granted = self.claims[record.hold.claim_id]
        del granted[record.view.ticket_id]
        if not granted:
            del self.claims[record.hold.claim_id]

    def _note(self, record: Record) -> None:
        record.event = self.journal.write(record.view, record.result, relay=self.relaying)


class OnLedger:
    """A face of the queue that works on a ledger shared with the other faces."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger


def unlink(index: defaultdict[tuple[str, str], dict[str, None]], key: tuple[str, str], ticket_id: str) -> None:
    """Take a ticket out of a membership index, and the entry with its last ticket."""
    members = index[key]
    members.pop(ticket_id, None)
    if not members:
        del index[key]
