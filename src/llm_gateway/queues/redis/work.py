"""What a worker needs, in Redis."""

from __future__ import annotations

import asyncio
import math
from binascii import crc_hqx
from collections.abc import Coroutine, Sequence
from contextlib import ExitStack
from datetime import datetime
from typing import Final

from llm_gateway._core.jobs import (
    Complete,
    Disposition,
    Fail,
    FinishReply,
    Lane,
    LaneStats,
    Lease,
    Park,
    ParkScope,
    Release,
    Retry,
    Swept,
)
from llm_gateway._core.outcomes import WaitReason
from llm_gateway.errors import QueueError
from llm_gateway.protocols import WorkSource
from llm_gateway.queues._room import new_token
from llm_gateway.queues.redis.desk import TRIES, OnRedis, Part, Session, checked, first_of
from llm_gateway.queues.redis.keys import lane_name, sized
from llm_gateway.queues.redis.lanes import Look, joined, read_look
from llm_gateway.queues.redis.rows import (
    STATES,
    content_of,
    fields_of,
    integer,
    items,
    micros,
    raw,
    read_time,
    text,
    view_of,
    write_attempt,
    write_error,
)
from llm_gateway.queues.redis.scripts import Script
from llm_gateway.queues.redis.store import AT_ONCE

__all__ = ["RedisWork"]

MICROS_OF_MS: Final = 1_000
PIN_KEPT_MS: Final = 90 * 24 * 3_600_000
LEASE_WIDTH: Final = 5


class RedisWork(OnRedis, WorkSource):
    """Claiming, finishing and recovering."""

    async def lanes(self) -> list[LaneStats]:
        """Every lane that holds jobs, with its gate."""
        return [lane for lane in (await self._look()).lanes if lane.oldest_created_at is not None]

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        """Take up to *count* jobs under lease, in fair order, as far as the lane's gate lets them through.

        When the caller is cancelled meanwhile, what it was given goes back: no attempt and no crash is counted.

        Raises:
            QueueUnavailable: the queue is closed or its server cannot be reached.
            DurabilityUnknown: jobs may have been taken; asking again with this claim id returns them.
        """
        claiming = asyncio.ensure_future(self._claimed(lane, count, (micros(lease_seconds), worker, claim_id)))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            self._keep(self._hand_back(claiming))
            raise

    async def extend(self, lease: Lease, lease_seconds: float) -> bool:
        """Prolong a lease; False when the token is no longer the current one."""
        shard = self._shards.of_ticket(lease.job.ticket_id)
        if shard is None:
            return False
        parts = (lease.job.ticket_id, lease.token, micros(lease_seconds))
        return await self._run(Script.EXTEND, shard, *parts) == 1

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """End one attempt. State, counters, result and event change in one step."""
        job, shard = lease.job, self._shards.of_ticket(lease.job.ticket_id)
        if shard is None:
            return FinishReply(accepted=False, state=None)
        parts = (job.ticket_id, job.tenant, lease.token, *order_of(disposition))
        kind, letter = items(await self._run(Script.FINISH, shard, *parts, durable=True))
        state = STATES.get(raw(letter))
        if kind == b"ACCEPTED":
            await self._hold_elsewhere(lease, disposition, shard)
        return FinishReply(accepted=kind != b"FENCED", state=state, replayed=kind == b"REPLAYED")

    async def sweep(self, limit: int = 100) -> Swept:
        """Expire what has waited too long, take back what lost workers held, forget what was kept long enough.

        Up to *limit* of each kind. Time to live goes first: what is over is not handed out again. Jobs
        that are damaged end as dead letters.
        """
        totals, first = Swept(), next(self._sweeps) % self._shards.count
        # Each sweep begins with another shard, so that one with much to do keeps none from its turn.
        for shard in (*self._all_shards[first:], *self._all_shards[:first]):
            left = limit - max(totals.expired, totals.recovered + totals.dead)
            if left <= 0:
                return totals._replace(more=True)
            reply = items(await self._run(Script.SWEEP, shard, left, self._options.max_crashes))
            expired, recovered, dead, more = map(integer, reply)
            sums = (totals.expired + expired, totals.recovered + recovered, totals.dead + dead)
            totals = Swept(*sums, more=totals.more or more == 1)
        return totals

    async def heartbeat(self, worker: str, lanes: Sequence[Lane]) -> None:
        """Show that a worker stands ready for these lanes."""
        await self._gates(lanes, "beat", "", "")

    async def set_gate(self, lane: Lane, *, circuit: str, not_before: datetime | None) -> None:
        """Mirror the circuit of a lane."""
        wait = "" if not_before is None else micros(not_before - self._clock.now())
        await self._gates([lane], "circuit", circuit, wait)

    async def unpark(self, lane: Lane, reason: str) -> None:
        """Let go what was parked for this reason: the lane, its groups, its jobs. A pause and other parks stay."""
        await self._unparked(lane, reason)

    async def _unparked(self, lane: Lane, reason: str) -> None:
        for shard in self._all_shards:
            page = "0"
            while (page := text(await self._run(Script.RESUME, shard, lane_name(lane), reason, page, AT_ONCE))) != "0":
                continue

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        """Pin a group's served model if it has none, and return the one it has. A pin lives 90 days after its use."""
        order = (sized(tenant, group), lane_name(lane), served_model, PIN_KEPT_MS)
        return text(await self._run(Script.PIN, self._shards.of(tenant, group), *order))

    async def wait_ready(self) -> None:
        """Return when jobs may have become claimable since the call began: by a change, or by time alone.

        Raises:
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        session = self._open
        with ExitStack() as stack:
            events = [stack.enter_context(wakes.ready()) for wakes in session.wakes]
            due = await self._due(session)
            waits: list[Coroutine[object, object, object]] = [event.wait() for event in events]
            if due < math.inf:
                waits.append(self._clock.sleep(max(due - self._clock.monotonic(), 0.0)))
            await first_of(waits)
        # Closing wakes everybody.
        self._require_open()

    async def _claimed(self, lane: Lane, count: int, terms: tuple[int, str, str]) -> list[Lease]:
        leases, (_, worker, claim_id) = list[Lease](), terms
        # Each shard is a queue of its own. Which is asked first changes from claim to claim, but not when the same is
        # asked again: what it took from one shard then counts, also if that has ended since.
        first = crc_hqx(claim_id.encode(), 0) % self._shards.count
        noting, room, known = int(self._shards.count > 1), count, self._claim_known(terms[0])
        for shard in (*self._all_shards[first:], *self._all_shards[:first]):
            tokens = [new_token() for _ in range(room)]
            order: list[Part] = [lane_name(lane), room, *terms, known, noting, *tokens]
            taken, *rows = items(await self._run(Script.CLAIM, shard, *order))
            for place in range(0, len(rows), LEASE_WIDTH):
                found = await self._lease(rows[place : place + LEASE_WIDTH], worker)
                leases += [] if found is None else [found]
            room -= integer(taken)
            if room <= 0:
                break
        return leases

    def _claim_known(self, lease: int) -> int:
        """Tell for how many ms the id of a claim is known.

        Whoever lost the reply is given the same jobs as long as their leases hold; afterwards they are anybody's. A
        try that the server still has before it when its connection is given up must take no others: each may wait for
        as long as a reply is waited for.
        """
        return lease // MICROS_OF_MS + round(TRIES * self._redis.reply_timeout * MICROS_OF_MS)

    async def _lease(self, row: Sequence[object], worker: str) -> Lease | None:
        ticket_id, token, ends, fields, content = row
        told = fields_of(fields)
        echo, payload = content_of(told, raw(content))
        try:
            view = view_of(text(ticket_id), told, echo)
        except QueueError:
            await self._run(Script.CONDEMN, self._shards.of_ticket(text(ticket_id)) or 0, text(ticket_id))
            return None
        return Lease(job=view, payload=payload, token=text(token), deadline=read_time(ends), worker=worker)

    async def _hand_back(self, claiming: asyncio.Future[list[Lease]]) -> None:
        for lease in await claiming:
            await self.finish(lease, Release(reason=WaitReason.SHUTDOWN))

    async def _hold_elsewhere(self, lease: Lease, disposition: Disposition, shard: int) -> None:
        """Park the rest of a lane or group in the other shards too."""
        job, others = lease.job, [other for other in self._all_shards if other != shard]
        match disposition:
            case Park(scope=ParkScope.LANE, reason=reason):
                order: tuple[Part, ...] = (lane_name(job.lane), "park", "", reason)
            case Park(scope=ParkScope.GROUP, reason=reason) | Fail(park_group=str(reason)) if job.group is not None:
                order = (lane_name(job.lane), "group", sized(job.tenant, job.group), reason)
            case _:
                return
        for other in others:
            await self._run(Script.GATE, other, *order)

    async def _gates(self, lanes: Sequence[Lane], what: str, value: str, wait: int | str) -> None:
        for shard in self._all_shards:
            calls = [(shard, (lane_name(lane), what, value, wait)) for lane in lanes]
            for reply in await self._run_many(Script.GATE, calls):
                checked(reply)

    async def _due(self, session: Session) -> float:
        """Tell when time alone makes something claimable, infinite for never; ask only for what was not told."""
        unsure = [shard for shard in self._all_shards if session.wakes[shard].unsure()]
        asked_at, looks = self._clock.monotonic(), [session.wakes[shard].looking() for shard in unsure]
        found = list[float]()
        if unsure:
            for shard, look, told in zip(unsure, looks, await self._looks(unsure), strict=True):
                due = math.inf if told.due_in is None else asked_at + told.due_in
                session.wakes[shard].looked(look, due)
                found.append(due)
        return min(*found, *(wakes.due for wakes in session.wakes), math.inf)

    async def _look(self) -> Look:
        return joined(await self._looks(self._all_shards))

    async def _looks(self, shards: Sequence[int]) -> list[Look]:
        replies = await self._run_many(Script.LOOK, [(shard, ()) for shard in shards])
        return [read_look(checked(reply)) for reply in replies]


def order_of(disposition: Disposition) -> tuple[Part, ...]:
    """Write a disposition: kind, attempt, result, error, reason, delay, most attempts, scope, group to park."""
    attempt = write_attempt(disposition.attempt)
    match disposition:
        case Complete(result=result):
            return ("complete", attempt, result, "", "", 0, 0, "", "")
        case Fail(error=error, park_group=group):
            return ("fail", attempt, "", write_error(error), "", 0, 0, "", group or "")
        case Retry(error=error, delay=delay, max_attempts=most):
            return ("retry", attempt, "", write_error(error), WaitReason.RETRYING, micros(delay), most, "", "")
        case Release(reason=reason, delay=delay):
            return ("release", attempt, "", "", reason, micros(delay), 0, "", "")
        case Park(reason=reason, scope=scope):
            return ("park", attempt, "", "", reason, 0, 0, scope, "")
