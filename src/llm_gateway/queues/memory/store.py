"""Tickets by id and by idempotency key, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from llm_gateway._core.intake import check_content, check_erasure, check_times
from llm_gateway._core.jobs import (
    AdoptedBy,
    Enqueued,
    EnqueueReply,
    ErasureReport,
    JobView,
    NewJob,
)
from llm_gateway._core.lifecycle import TicketState, Trigger
from llm_gateway._facts import Fault
from llm_gateway.errors import LLMGatewayError
from llm_gateway.protocols import JobStore
from llm_gateway.queues._room import check_room, new_token, taken
from llm_gateway.queues._ulid import ulid
from llm_gateway.queues.memory.lanes import Hold, Record
from llm_gateway.queues.memory.ledger import Ledger, OnLedger

__all__ = ["MemoryStore", "hold_of", "store"]


class MemoryStore(OnLedger, JobStore):
    """Submitting, looking up, cancelling and erasing."""

    def mint(self, tenant: str, idempotency_key: str) -> str:
        """Make a new ticket id: time first, then 80 random bits."""
        return ulid(self._ledger.clock.now())

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store a job, or find the one that has its key.

        Raises:
            QueueFull: at the depth or byte limit; nothing is stored.
            IdempotencyConflict: the key stands for other content.
            PayloadTooLarge: the payload alone exceeds its limit.
            InvalidRequest: the job would expire before it may be claimed.
            QueueUnavailable: the queue is closed.
        """
        return store(self._ledger, job, adopted_by)

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[EnqueueReply]:
        """Do the same for many, each on its own."""
        return [self._reply(job) for job in jobs]

    async def find(self, tenant: str, idempotency_key: str) -> JobView | None:
        """Return the job that has this key; ``None`` also when only its key is left."""
        ticket_id = self._ledger.keys.get((tenant, idempotency_key))
        if ticket_id is None or self._ledger.records[ticket_id].buried:
            return None
        return self._ledger.shown(self._ledger.records[ticket_id])

    async def get(self, tenant: str, ticket_id: str) -> JobView:
        """Return a job.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        return self._ledger.shown(self._ledger.visible(tenant, ticket_id))

    async def result(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored result of a completed job, ``None`` of any other.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        return self._ledger.visible(tenant, ticket_id).result

    async def cancel(self, tenant: str, ticket_id: str) -> JobView:
        """Cancel a job that is not terminal; return it as it then is.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        record = self._ledger.visible(tenant, ticket_id)
        self._cancel(record)
        return record.view

    async def cancel_group(self, tenant: str, group: str) -> int:
        """Cancel every job of a group that is not terminal; return how many."""
        tickets = list(self._ledger.groups.get((tenant, group), ()))
        return sum(self._cancel(self._ledger.records[ticket_id]) for ticket_id in tickets)

    async def erase(
        self, tenant: str, *, ticket_id: str | None = None, subject: str | None = None, everything: bool = False
    ) -> ErasureReport:
        """Cancel, then remove payload, result, echo and history of a ticket, of all of a subject's, or of all.

        The cancelling event still leaves with its echo, so that whoever waits for the job is told. The ticket and
        its key stay taken until the key may be forgotten: sending the request again does not bring it back.

        Raises:
            InvalidRequest: unless exactly one of the three is given.
            TicketNotFound: the ticket is unknown, gone, or another tenant's.
        """
        check_erasure(ticket_id, subject, everything=everything)
        if ticket_id is not None:
            return self._erase([self._ledger.visible(tenant, ticket_id)])
        if everything:
            owned = (record for record in self._ledger.records.values() if record.view.tenant == tenant)
            return self._erase([record for record in owned if not record.buried])
        tickets = self._ledger.subjects.get((tenant, subject or ""), {})
        return self._erase([self._ledger.records[found] for found in tickets])

    def _reply(self, job: NewJob) -> EnqueueReply:
        try:
            return store(self._ledger, job, None)
        except LLMGatewayError as refusal:
            return refusal

    def _cancel(self, record: Record) -> bool:
        if record.view.state.terminal:
            return False
        self._ledger.end(record, Trigger.CANCELLED, Fault.CANCELLED)
        return True

    def _erase(self, records: Sequence[Record]) -> ErasureReport:
        removed = {kind for record in records for kind in kinds_of(record)}
        cancelled = sum(self._cancel(record) for record in records)
        for record in records:
            self._ledger.bury(record)
        tickets = tuple(record.view.ticket_id for record in records)
        if tickets:
            self._ledger.journal.scrub(set(tickets))
        return ErasureReport(tickets=tickets, cancelled=cancelled, removed=tuple(sorted(removed)))


def store(ledger: Ledger, job: NewJob, adopted_by: AdoptedBy | None) -> Enqueued:
    """Do what `MemoryStore.enqueue` says."""
    ledger.check_open()
    known = ledger.keys.get((job.tenant, job.idempotency_key))
    if known is not None:
        return found(ledger, ledger.records[known], job)
    check_times(job, ledger.clock.now())
    if job.ticket_id in ledger.records:
        raise taken(job.ticket_id)
    held = ledger.depth + len(ledger.journal.outbox)
    check_room(job, ledger.options, held=held, bytes_held=ledger.bytes)
    record = ledger.insert(job)
    if adopted_by is None:
        return Enqueued(job=ledger.shown(record), created=True)
    hold = hold_of(ledger, adopted_by.worker, adopted_by.lease_seconds, claim_id=job.ticket_id)
    ledger.apply(record, Trigger.CLAIMED, record.view, hold=hold)
    return Enqueued(job=record.view, created=True, lease=ledger.lease(record, hold))


def hold_of(ledger: Ledger, worker: str, lease_seconds: float, *, claim_id: str) -> Hold:
    """Make a hold with a new fencing token."""
    now = ledger.clock.now()
    return Hold(
        token=new_token(),
        worker=worker,
        claim_id=claim_id,
        since=now,
        deadline=now + timedelta(seconds=lease_seconds),
        ends=ledger.clock.monotonic() + lease_seconds,
    )


def found(ledger: Ledger, record: Record, job: NewJob) -> Enqueued:
    """Answer for a key that is taken."""
    check_content(record.view, job)
    return Enqueued(job=ledger.shown(record), created=False)


def kinds_of(record: Record) -> set[str]:
    """Name the kinds of content a record still has."""
    kept = {
        "payload": record.payload is not None,
        "result": record.view.state is TicketState.COMPLETED and record.result is not None,
        "echo": True,
        "history": bool(record.view.history),
    }
    return {kind for kind, there in kept.items() if there}
