"""What a worker needs, in the file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import anyio

from llm_gateway._core.jobs import (
    Disposition,
    FinishReply,
    Lane,
    LaneStats,
    Lease,
    Park,
    ParkScope,
    Release,
    Swept,
)
from llm_gateway._core.lifecycle import TicketState, Trigger
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._core.settlement import allowance, group_parking, lapse, settle
from llm_gateway._facts import Fault
from llm_gateway.protocols import WorkSource
from llm_gateway.queues._signal import Signal
from llm_gateway.queues.sqlite.desk import OnFile
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.rows import Hold, Record, text, time_of
from llm_gateway.queues.sqlite.schema import one
from llm_gateway.queues.sqlite.store import AT_ONCE, new_hold

__all__ = ["FileWork"]

PIN: Final = "INSERT INTO pins VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET used = excluded.used"
PIN_KEPT: Final = timedelta(days=90)
UNPIN: Final = (
    "DELETE FROM pins WHERE (tenant, grp, lane) IN (SELECT tenant, grp, lane FROM pins WHERE used <= ? LIMIT ?)"
)


class FileWork(OnFile, WorkSource):
    """Claiming, finishing and recovering."""

    async def lanes(self) -> list[LaneStats]:
        """Every lane that holds jobs, with its gate."""
        lanes = await self._write(lambda ledger: ledger.lanes.stats(ledger.clock.now()))
        return [lane for lane in lanes if lane.oldest_created_at is not None]

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        """Take up to *count* jobs under lease, in fair order, as far as the lane's gate lets them through.

        When the caller is cancelled meanwhile, what it was given goes back: no attempt and no crash is counted.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
        """
        writer = self._open

        def take(ledger: Ledger) -> list[Lease]:
            hold = new_hold(ledger, worker, lease_seconds, claim_id=claim_id)
            return granted(ledger, claim_id) or taken_from(ledger, lane, count, hold)

        try:
            return await self._write(take)
        except asyncio.CancelledError:
            writer.post(lambda: hand_back(self._opened(), claim_id))
            raise

    async def extend(self, lease: Lease, lease_seconds: float) -> bool:
        """Prolong a lease; False when the token is no longer the current one."""

        def prolong(ledger: Ledger) -> bool:
            now, monotonic = ledger.clock.now(), ledger.clock.monotonic()
            deadline = time_of(now + timedelta(seconds=lease_seconds))
            done = ledger.db.execute(
                "UPDATE jobs SET sort = ?, deadline = ?, renewed = ? WHERE ticket = ? AND place = 'held' AND token = ?",
                (monotonic + lease_seconds, deadline, monotonic, lease.job.ticket_id, lease.token),
            )
            return done.rowcount == 1

        return await self._write(prolong)

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """End one attempt. State, counters, result and event change in one step."""
        return await self._write(lambda ledger: finished(ledger, lease, disposition))

    async def sweep(self, limit: int = 100) -> Swept:
        """Expire what has waited too long, take back what lost workers held, forget what was kept long enough.

        Up to *limit* of each kind. Time to live goes first: what is over is not handed out again. Rows that are
        damaged end as dead letters.
        """
        return await self._write(lambda ledger: swept(ledger, limit))

    async def heartbeat(self, worker: str, lanes: Sequence[Lane]) -> None:
        """Show that a worker stands ready for these lanes."""

        def show(ledger: Ledger) -> None:
            now = time_of(ledger.clock.now())
            rows = [(now, ledger.lanes.id_of(lane)) for lane in lanes]
            ledger.db.executemany("UPDATE lanes SET heartbeat = ? WHERE id = ?", rows)

        await self._write(show)

    async def set_gate(self, lane: Lane, *, circuit: str, not_before: datetime | None) -> None:
        """Mirror the circuit of a lane."""

        def mirror(ledger: Ledger) -> None:
            at = None if not_before is None else time_of(not_before)
            gate = (circuit, at, ledger.lanes.id_of(lane))
            ledger.db.execute("UPDATE lanes SET circuit = ?, not_before = ? WHERE id = ?", gate)
            ledger.nudge()

        await self._write(mirror)

    async def unpark(self, lane: Lane, reason: str) -> None:
        """Let go what was parked for this reason: the lane, its groups, its jobs. A pause and other parks stay."""
        await self._unparked(lane, reason)

    async def _unparked(self, lane: Lane, reason: str | None) -> None:
        def gates(ledger: Ledger) -> None:
            why = (ledger.lanes.id_of(lane), reason, reason)
            ledger.db.execute("UPDATE lanes SET parked_why = NULL WHERE id = ? AND (? IS NULL OR parked_why = ?)", why)
            ledger.db.execute("DELETE FROM parked_groups WHERE lane = ? AND (? IS NULL OR reason = ?)", why)
            ledger.nudge()

        def jobs(ledger: Ledger, after: int) -> int | None:
            parked = "WHERE j.place = 'parked' AND j.lane = ? AND j.id > ? ORDER BY j.id LIMIT ?"
            records = ledger.mended(parked, ledger.lanes.id_of(lane), after, AT_ONCE)
            for record in records:
                if reason in {None, record.view.reason}:
                    ledger.apply(record, Trigger.RESUMED, record.view._replace(reason=Trigger.RESUMED))
            return records[-1].id if records else None

        await self._write(gates)
        after: int | None = 0
        while after is not None:
            after = await self._write(partial(jobs, after=after))

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        """Pin a group's served model if it has none, and return the one it has. A pin lives 90 days after its use."""

        def first(ledger: Ledger) -> str:
            place = (tenant, group, ledger.lanes.id_of(lane))
            ledger.db.execute(PIN, (*place, served_model, time_of(ledger.clock.now())))
            found = one(ledger.db, "SELECT model FROM pins WHERE tenant = ? AND grp = ? AND lane = ?", *place)
            return served_model if found is None else text(found[0])

        return await self._write(first)

    async def wait_ready(self) -> None:
        """Return when jobs may have become claimable since the call began: by a change, or by time alone.

        Raises:
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        writer, now = self._open, self._clock.now()
        with writer.wakes.watching():
            changed = writer.wakes.ready.listen()
            due = await self._read(lambda ledger: ledger.lanes.next_due(now))
            async with anyio.create_task_group() as tasks:
                if due is not None:
                    tasks.start_soon(self._fire_at, due, writer.wakes.ready)
                await changed.wait()
                tasks.cancel_scope.cancel()
        writer.check_open()

    async def _fire_at(self, due: datetime, ready: Signal) -> None:
        while (seconds := (due - self._clock.now()).total_seconds()) > 0:
            await self._clock.sleep(seconds)
        ready.fire()


def granted(ledger: Ledger, claim_id: str) -> list[Lease]:
    """Return the leases that hold under a claim id."""
    running = ledger.readable("WHERE j.place = 'held' AND j.claim = ? ORDER BY j.id", claim_id)
    now = ledger.clock.monotonic()
    return [ledger.lease(job, job.hold) for job in running if job.hold is not None and job.hold.ends > now]


def taken_from(ledger: Ledger, lane: Lane, count: int, hold: Hold) -> list[Lease]:
    """Take jobs in fair order as far as the gate lets them through."""
    lane_id, now = ledger.lanes.id_of(lane), ledger.clock.now()
    ledger.lanes.promote(lane_id, now)
    gate, running = ledger.lanes.gate(lane_id)
    room, leases, reached = allowance(gate, count, running, now), list[Lease](), -1.0
    while len(leases) < room:
        first = "WHERE j.place = 'ready' AND j.lane = ? ORDER BY j.sort, j.id LIMIT ?"
        records, damaged = ledger.all(first, lane_id, room - len(leases))
        for row in damaged:
            ledger.condemn(row)
        for record in records:
            reached = record.sort or reached
            if claimable(ledger, record, now):
                # Each lease has a token of its own.
                own = new_hold(ledger, hold.worker, hold.ends - hold.renewed, claim_id=hold.claim_id)
                held = ledger.apply(record, Trigger.CLAIMED, record.view._replace(reason=None), hold=own)
                leases.append(ledger.lease(held, own))
        if not records and not damaged:
            break
    if leases:
        ledger.lanes.served(lane_id, reached)
    return leases


def claimable(ledger: Ledger, record: Record, now: datetime) -> bool:
    """Whether a job may be handed out; one that may not is expired or parked."""
    view = record.view
    if view.expires_at <= now:
        ledger.end(record, Trigger.EXPIRED, Fault.DEADLINE)
        return False
    key = (view.tenant, view.group or "", record.lane_id)
    parked = one(ledger.db, "SELECT reason FROM parked_groups WHERE tenant = ? AND grp = ? AND lane = ?", *key)
    if parked is not None:
        ledger.apply(record, Trigger.PARKED, view._replace(reason=text(parked[0])))
        return False
    return True


def hand_back(ledger: Ledger, claim_id: str) -> None:
    """Undo a claim that nobody received."""
    now = ledger.clock.now()
    for record in ledger.readable("WHERE j.place = 'held' AND j.claim = ?", claim_id):
        decided = settle(record.view, Release(reason=WaitReason.SHUTDOWN), now)
        ledger.apply(record, decided.trigger, decided.view)


def finished(ledger: Ledger, lease: Lease, disposition: Disposition) -> FinishReply:
    """Do what `FileWork.finish` says."""
    record = ledger.record(lease.job.ticket_id)
    if record is None or record.buried or record.view.tenant != lease.job.tenant:
        return FinishReply(accepted=False, state=None)
    if record.settled == lease.token:
        return FinishReply(accepted=True, state=record.view.state, replayed=True)
    if record.hold is None or record.hold.token != lease.token:
        return FinishReply(accepted=False, state=record.view.state)
    decided = settle(record.view, disposition, ledger.clock.now())
    after = ledger.apply(record, decided.trigger, decided.view, settled=lease.token, result=decided.result)
    park(ledger, record, disposition)
    return FinishReply(accepted=True, state=after.view.state)


def park(ledger: Ledger, record: Record, disposition: Disposition) -> None:
    """Shut the lane or hold the group, if the disposition says so."""
    parked = group_parking(record.view, disposition)
    if parked is not None:
        row = (record.view.tenant, parked[0], record.lane_id, parked[1])
        ledger.db.execute("INSERT OR REPLACE INTO parked_groups VALUES (?, ?, ?, ?)", row)
    if isinstance(disposition, Park) and disposition.scope is ParkScope.LANE:
        ledger.db.execute("UPDATE lanes SET parked_why = ? WHERE id = ?", (disposition.reason, record.lane_id))


def swept(ledger: Ledger, limit: int) -> Swept:
    """Do what `FileWork.sweep` says."""
    now, dead = time_of(ledger.clock.now()), 0
    expired, damaged = ledger.all("WHERE j.live = 1 AND j.expires <= ? ORDER BY j.expires LIMIT ?", now, limit)
    for record in expired:
        ledger.end(record, Trigger.EXPIRED, Fault.DEADLINE)
    held = "WHERE j.place = 'held' AND j.sort <= ? ORDER BY j.sort LIMIT ?"
    lapsed, also = ledger.all(held, ledger.clock.monotonic(), limit)
    for record in lapsed:
        decided = lapse(record.view, ledger.lost(record, Fault.WORKER_LOST), ledger.options.max_crashes)
        dead += ledger.apply(record, decided.trigger, decided.view).view.state is TicketState.FAILED
    for row in {*damaged, *also}:
        ledger.condemn(row)
    retired = retire(ledger, now, limit)
    ledger.db.execute(UNPIN, (time_of(ledger.clock.now() - PIN_KEPT), limit))
    ledger.lanes.forget_flows()
    more = limit in {len(expired) + len(damaged), len(lapsed) + len(also), retired}
    recovered = len(lapsed) - dead
    return Swept(expired=len(expired), recovered=recovered, dead=dead + len({*damaged, *also}), more=more)


def retire(ledger: Ledger, now: int, limit: int) -> int:
    """Drop the content of jobs that were kept long enough, then the rest; tell how many were looked at."""
    kept, damaged = ledger.all("WHERE j.retain IS NOT NULL AND j.retain <= ? ORDER BY j.retain LIMIT ?", now, limit)
    for record in kept:
        if not record.buried:
            ledger.bury(record)
        if ledger.key_ends(record.view) <= now:
            ledger.forget(record.id)
    for row in damaged:
        ledger.condemn(row)
    return len(kept) + len(damaged)
