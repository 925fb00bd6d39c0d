"""What a worker needs, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import anyio

from llm_gateway._core.jobs import Disposition, FinishReply, Lane, LaneStats, Lease, Park, ParkScope, Swept
from llm_gateway._core.lifecycle import TicketState, Trigger
from llm_gateway._core.settlement import allowance, group_parking, lapse, settle
from llm_gateway._facts import Fault
from llm_gateway.protocols import WorkSource
from llm_gateway.queues.memory.lanes import Hold, Record
from llm_gateway.queues.memory.ledger import Ledger, OnLedger
from llm_gateway.queues.memory.store import hold_of

__all__ = ["MemoryWork"]


class MemoryWork(OnLedger, WorkSource):
    """Claiming, finishing and recovering."""

    async def lanes(self) -> list[LaneStats]:
        """Every lane that holds jobs, with its gate."""
        now = self._ledger.clock.now()
        return [book.stats(now) for book in self._ledger.lanes.values() if book.holds_jobs]

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        """Take up to *count* jobs under lease, in fair order, as far as the lane's gate lets them through.

        Raises:
            QueueUnavailable: the queue is closed.
        """
        self._ledger.check_open()
        if claim_id in self._ledger.claims:
            return self._granted(claim_id)
        book, now = self._ledger.book(lane), self._ledger.clock.now()
        book.promote(now)
        room, leases = allowance(book.gate, count, len(book.running), now), list[Lease]()
        while len(leases) < room and (first := book.ready.first()) is not None:
            record = self._ledger.records[first[1]]
            if self._claimable(record, now):
                book.fair.served(first[0])
                hold = hold_of(self._ledger, worker, lease_seconds, claim_id=claim_id)
                self._ledger.apply(record, Trigger.CLAIMED, record.view._replace(reason=None), hold=hold)
                leases.append(self._ledger.lease(record, hold))
        return leases

    async def extend(self, lease: Lease, lease_seconds: float) -> bool:
        """Prolong a lease; False when the token is no longer the current one."""
        record = self._ledger.records.get(lease.job.ticket_id)
        hold = current_hold(record, lease)
        if record is None or hold is None:
            return False
        ends = self._ledger.clock.monotonic() + lease_seconds
        deadline = self._ledger.clock.now() + timedelta(seconds=lease_seconds)
        record.hold = replace(hold, ends=ends, deadline=deadline)
        self._ledger.leases.put(lease.job.ticket_id, ends)
        return True

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """End one attempt. State, counters, result and event change in one step."""
        record = self._ledger.records.get(lease.job.ticket_id)
        if record is None or record.buried or record.view.tenant != lease.job.tenant:
            return FinishReply(accepted=False, state=None)
        if record.settled == lease.token:
            return FinishReply(accepted=True, state=record.view.state, replayed=True)
        if current_hold(record, lease) is None:
            return FinishReply(accepted=False, state=record.view.state)
        self._settle(record, disposition)
        record.settled = lease.token
        return FinishReply(accepted=True, state=record.view.state)

    async def sweep(self, limit: int = 100) -> Swept:
        """Expire what has waited too long, take back what lost workers held, forget what was kept long enough.

        Up to *limit* of each kind. Time to live goes first: what is over is not handed out again.
        """
        now = self._ledger.clock.now()
        expired = [self._ledger.records[ticket_id] for ticket_id in self._ledger.expiry.due(now.timestamp(), limit)]
        for record in expired:
            self._expire(record)
        lapsed = self._ledger.leases.due(self._ledger.clock.monotonic(), limit)
        dead = sum(self._lapse(self._ledger.records[ticket_id]) for ticket_id in lapsed)
        retired = self._ledger.retention.due(now.timestamp(), limit)
        for ticket_id in retired:
            self._retire(self._ledger.records[ticket_id], now)
        if retired:
            self._ledger.journal.scrub(set(retired))
        more = limit in {len(expired), len(lapsed), len(retired)}
        return Swept(expired=len(expired), recovered=len(lapsed) - dead, dead=dead, more=more)

    async def heartbeat(self, worker: str, lanes: Sequence[Lane]) -> None:
        """Show that a worker stands ready for these lanes."""
        for lane in lanes:
            self._ledger.book(lane).last_heartbeat_at = self._ledger.clock.now()

    async def set_gate(self, lane: Lane, *, circuit: str, not_before: datetime | None) -> None:
        """Mirror the circuit of a lane."""
        book = self._ledger.book(lane)
        book.gate = replace(book.gate, circuit=circuit, not_before=not_before)
        self._ledger.ready.fire()

    async def unpark(self, lane: Lane, reason: str) -> None:
        """Let go what was parked for this reason: the lane, its groups, its jobs. A pause and other parks stay."""
        let_go(self._ledger, lane, reason)

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        """Pin a group's served model if it has none, and return the one it has. Pins live as long as the queue."""
        return self._ledger.pins.setdefault((tenant, group, lane), served_model)

    async def wait_ready(self) -> None:
        """Return when jobs may have become claimable since the call began: by a change, or by time alone.

        Raises:
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        self._ledger.check_open()
        now = self._ledger.clock.now()
        times = [due for book in self._ledger.lanes.values() if (due := book.next_due(now)) is not None]
        async with anyio.create_task_group() as tasks:
            if times:
                tasks.start_soon(self._fire_at, min(times))
            await self._ledger.ready.wait()
            tasks.cancel_scope.cancel()
        self._ledger.check_open()

    async def _fire_at(self, due: datetime) -> None:
        while (seconds := (due - self._ledger.clock.now()).total_seconds()) > 0:
            await self._ledger.clock.sleep(seconds)
        self._ledger.ready.fire()

    def _granted(self, claim_id: str) -> list[Lease]:
        now, granted = self._ledger.clock.monotonic(), list[Lease]()
        for ticket_id in self._ledger.claims[claim_id]:
            record = self._ledger.records[ticket_id]
            if record.hold is not None and record.hold.ends > now:
                granted.append(self._ledger.lease(record, record.hold))
        return granted

    def _claimable(self, record: Record, now: datetime) -> bool:
        view = record.view
        if view.expires_at <= now:
            self._expire(record)
            return False
        parked = self._ledger.parked_groups.get((view.tenant, view.group or "", view.lane))
        if parked is not None:
            self._ledger.apply(record, Trigger.PARKED, view._replace(reason=parked))
            return False
        return True

    def _settle(self, record: Record, disposition: Disposition) -> None:
        decided = settle(record.view, disposition, self._ledger.clock.now())
        record.result = decided.result
        self._ledger.apply(record, decided.trigger, decided.view)
        parked, view = group_parking(record.view, disposition), record.view
        if parked is not None:
            self._ledger.parked_groups[view.tenant, parked[0], view.lane] = parked[1]
        if isinstance(disposition, Park) and disposition.scope is ParkScope.LANE:
            book = self._ledger.book(view.lane)
            book.gate = replace(book.gate, parked=disposition.reason)

    def _expire(self, record: Record) -> None:
        self._ledger.end(record, Trigger.EXPIRED, Fault.DEADLINE)

    def _lapse(self, record: Record) -> bool:
        decided = lapse(record.view, self._ledger.lost(record, Fault.WORKER_LOST), self._ledger.options.max_crashes)
        self._ledger.apply(record, decided.trigger, decided.view)
        return record.view.state is TicketState.FAILED

    def _retire(self, record: Record, now: datetime) -> None:
        if not record.buried:
            self._ledger.bury(record)
        if record.view.expires_at + self._ledger.options.result_retention <= now:
            self._ledger.forget(record)


def current_hold(record: Record | None, lease: Lease) -> Hold | None:
    """Return the hold of a job if this lease's token is the current one."""
    if record is None or record.hold is None or record.hold.token != lease.token:
        return None
    return record.hold


def let_go(ledger: Ledger, lane: Lane, reason: str | None) -> None:
    """Un-park what was parked in a lane for a reason, or for any."""
    book = ledger.book(lane)
    if reason in {None, book.gate.parked}:
        book.gate = replace(book.gate, parked=None)
    for key in [key for key, why in ledger.parked_groups.items() if key[2] == lane and reason in {None, why}]:
        del ledger.parked_groups[key]
    for record in [ledger.records[ticket_id] for ticket_id in book.parked]:
        if reason in {None, record.view.reason}:
            ledger.apply(record, Trigger.RESUMED, record.view._replace(reason=Trigger.RESUMED))
    ledger.ready.fire()
