"""Tickets by id and by idempotency key, in the file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from llm_gateway._core.intake import check_content, check_erasure, check_times
from llm_gateway._core.jobs import AdoptedBy, Enqueued, EnqueueReply, ErasureReport, JobView, NewJob
from llm_gateway._core.lifecycle import TicketState, Trigger
from llm_gateway._facts import Fault
from llm_gateway.errors import LLMGatewayError
from llm_gateway.protocols import JobStore
from llm_gateway.queues._room import check_room, new_token, taken
from llm_gateway.queues._ulid import ulid
from llm_gateway.queues.sqlite.desk import OnFile
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.rows import Hold, Record, blob
from llm_gateway.queues.sqlite.schema import one

__all__ = ["AT_ONCE", "FileStore", "new_hold", "store"]

# Most jobs changed in one commit, so that others get their turn.
AT_ONCE: Final = 500


class FileStore(OnFile, JobStore):
    """Submitting, looking up, cancelling and erasing."""

    def mint(self, tenant: str, idempotency_key: str) -> str:
        """Make a new ticket id: time first, then 80 random bits."""
        return ulid(self._clock.now())

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store a job, or find the one that has its key.

        A caller that is cancelled meanwhile may have stored it: the same key finds it.

        Raises:
            QueueFull: at the depth or byte limit; nothing is stored.
            IdempotencyConflict: the key stands for other content.
            PayloadTooLarge: the payload alone exceeds its limit.
            InvalidRequest: the job would expire before it may be claimed.
            QueueUnavailable: the queue is closed or its file cannot be used; nothing is stored.
            DurabilityUnknown: the commit failed in a way that may or may not have stored it.
        """
        return await self._write(lambda ledger: store(ledger, job, adopted_by))

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[EnqueueReply]:
        """Do the same for many, each on its own.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used; nothing is stored.
            DurabilityUnknown: the commit failed in a way that may or may not have stored them.
        """
        return await self._write(lambda ledger: [reply_to(ledger, job) for job in jobs])

    async def find(self, tenant: str, idempotency_key: str) -> JobView | None:
        """Return the job that has this key; ``None`` also when only its key is left."""

        def look(ledger: Ledger) -> JobView | None:
            record = by_key(ledger, tenant, idempotency_key)
            return None if record is None or record.buried else ledger.shown(record)

        return await self._read(look)

    async def get(self, tenant: str, ticket_id: str) -> JobView:
        """Return a job.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        return await self._read(lambda ledger: ledger.shown(ledger.visible(tenant, ticket_id)))

    async def result(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored result of a completed job, ``None`` of any other.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        return await self._read(lambda ledger: result_of(ledger, ledger.visible(tenant, ticket_id)))

    async def cancel(self, tenant: str, ticket_id: str) -> JobView:
        """Cancel a job that is not terminal; return it as it then is.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        return await self._write(lambda ledger: cancelled(ledger, ledger.at_hand(tenant, ticket_id)).view)

    async def cancel_group(self, tenant: str, group: str) -> int:
        """Cancel every job of a group that is not terminal; return how many. A large group takes several commits."""
        running = "WHERE j.tenant = ? AND j.grp = ? AND j.live = 1 LIMIT ?"

        def cancel(ledger: Ledger) -> int:
            return len([cancelled(ledger, record) for record in ledger.mended(running, tenant, group, AT_ONCE)])

        total = 0
        while count := await self._write(cancel):
            total += count
        return total

    async def erase(
        self, tenant: str, *, ticket_id: str | None = None, subject: str | None = None, everything: bool = False
    ) -> ErasureReport:
        """Cancel, then remove payload, result, echo and history of a ticket, of all of a subject's, or of all.

        The cancelling event still leaves with its echo, so that whoever waits for the job is told. The ticket and
        its key stay taken until the key may be forgotten: sending the request again does not bring it back. What is
        removed is overwritten in the file; its write-ahead log holds it until that is written over.

        Raises:
            InvalidRequest: unless exactly one of the three is given.
            TicketNotFound: the ticket is unknown, gone, or another tenant's.
        """
        check_erasure(ticket_id, subject, everything=everything)
        if ticket_id is not None:
            return await self._write(lambda ledger: erased(ledger, [ledger.at_hand(tenant, ticket_id)]))
        holding = "WHERE j.id IN (SELECT job FROM subjects WHERE tenant = ? AND subject = ?) AND j.buried = 0 LIMIT ?"
        owned = "WHERE j.tenant = ? AND j.buried = 0 LIMIT ?"
        reports = [ErasureReport()]

        def erase(ledger: Ledger) -> ErasureReport:
            if everything:
                return erased(ledger, ledger.mended(owned, tenant, AT_ONCE))
            return erased(ledger, ledger.mended(holding, tenant, subject, AT_ONCE))

        while (found := await self._write(erase)).tickets:
            reports.append(found)
        return ErasureReport(
            tickets=tuple(ticket for report in reports for ticket in report.tickets),
            cancelled=sum(report.cancelled for report in reports),
            removed=tuple(sorted({kind for report in reports for kind in report.removed})),
        )


def reply_to(ledger: Ledger, job: NewJob) -> EnqueueReply:
    """Answer for one of many. A refusal comes before the first write, so there is nothing to undo."""
    try:
        return store(ledger, job, None)
    except LLMGatewayError as refusal:
        return refusal


def store(ledger: Ledger, job: NewJob, adopted_by: AdoptedBy | None) -> Enqueued:
    """Do what `FileStore.enqueue` says."""
    known = by_key(ledger, job.tenant, job.idempotency_key)
    if known is not None:
        check_content(known.view, job)
        return Enqueued(job=ledger.shown(known), created=False)
    check_times(job, ledger.clock.now())
    if one(ledger.db, "SELECT 1 FROM jobs WHERE ticket = ?", job.ticket_id) is not None:
        raise taken(job.ticket_id)
    totals = ledger.tally.totals
    check_room(job, ledger.options, held=totals.depth + totals.outbox, bytes_held=totals.bytes)
    record = ledger.insert(job)
    if adopted_by is None:
        return Enqueued(job=ledger.shown(record), created=True)
    hold = new_hold(ledger, adopted_by.worker, adopted_by.lease_seconds, claim_id=job.ticket_id)
    held = ledger.apply(record, Trigger.CLAIMED, record.view, hold=hold)
    return Enqueued(job=held.view, created=True, lease=ledger.lease(held, hold))


def new_hold(ledger: Ledger, worker: str, lease_seconds: float, *, claim_id: str) -> Hold:
    """Make a hold with a new fencing token. Its end is monotonic: a jump of the wall clock costs nobody a lease."""
    now, monotonic = ledger.clock.now(), ledger.clock.monotonic()
    return Hold(
        token=new_token(),
        worker=worker,
        claim_id=claim_id,
        since=now,
        deadline=now + timedelta(seconds=lease_seconds),
        ends=monotonic + lease_seconds,
        renewed=monotonic,
    )


def by_key(ledger: Ledger, tenant: str, idempotency_key: str) -> Record | None:
    """Return the job that has a key."""
    return ledger.first("WHERE j.tenant = ? AND j.key = ?", tenant, idempotency_key)


def result_of(ledger: Ledger, record: Record) -> bytes | None:
    """Return the result of a job, if it has one."""
    found = one(ledger.db, "SELECT result FROM contents WHERE id = ?", record.id)
    return None if found is None or found[0] is None else blob(found[0])


def cancelled(ledger: Ledger, record: Record) -> Record:
    """Cancel a job unless it is terminal."""
    return record if record.view.state.terminal else ledger.end(record, Trigger.CANCELLED, Fault.CANCELLED)


def erased(ledger: Ledger, records: Sequence[Record]) -> ErasureReport:
    """Cancel and bury."""
    removed = {kind for record in records for kind in kinds_of(ledger, record)}
    live = sum(not record.view.state.terminal for record in records)
    for record in records:
        ledger.bury(cancelled(ledger, record))
    tickets = tuple(record.view.ticket_id for record in records)
    return ErasureReport(tickets=tickets, cancelled=live, removed=tuple(sorted(removed)))


def kinds_of(ledger: Ledger, record: Record) -> set[str]:
    """Name the kinds of content a record still has."""
    stored = one(ledger.db, "SELECT payload IS NOT NULL FROM contents WHERE id = ?", record.id)
    kept = {
        "payload": stored == (1,),
        "result": record.view.state is TicketState.COMPLETED and result_of(ledger, record) is not None,
        "echo": True,
        "history": bool(record.view.history),
    }
    return {kind for kind, there in kept.items() if there}
