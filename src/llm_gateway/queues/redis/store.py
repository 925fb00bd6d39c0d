"""Tickets by id and by idempotency key, in Redis."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

from llm_gateway._core.intake import check_content, check_erasure, check_times, first_view
from llm_gateway._core.jobs import AdoptedBy, Enqueued, EnqueueReply, ErasureReport, JobView, Lease, NewJob
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.settlement import HISTORY_LIMIT
from llm_gateway.errors import LLMGatewayError, QueueError, TicketNotFound
from llm_gateway.protocols import JobStore
from llm_gateway.queues._room import check_room, new_token, taken
from llm_gateway.queues._ulid import ulid
from llm_gateway.queues.redis.desk import Body, OnRedis, Part
from llm_gateway.queues.redis.keys import lane_name, sized
from llm_gateway.queues.redis.rows import integer, items, micros, raw, read_time, text, write_attempt
from llm_gateway.queues.redis.scripts import Script

__all__ = ["RedisStore"]

# Most jobs in one script or write, so that others get their turn.
AT_ONCE: Final = 200
IN_FLIGHT: Final = 3
KINDS: Final = {"e": "echo", "h": "history", "p": "payload", "r": "result"}
Order = tuple[bool, int, str]


class RedisStore(OnRedis, JobStore):
    """Submitting, looking up, cancelling and erasing."""

    def mint(self, tenant: str, idempotency_key: str) -> str:
        """Make a new ticket id: time first, then 80 random bits, then the shard of its key."""
        return self._shards.ticket(ulid(self._clock.now()), self._shards.of(tenant, idempotency_key))

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store a job, or find the one that has its key.

        Its time to live counts from when the server takes it. A caller that is cancelled meanwhile may have stored
        it: the same key finds it.

        Raises:
            QueueFull: at the depth or byte limit, or the server has no memory left; nothing is stored.
            IdempotencyConflict: the key stands for other content.
            PayloadTooLarge: the payload alone exceeds its limit.
            InvalidRequest: the job would expire before it may be claimed.
            QueueUnavailable: the queue is closed or its server cannot be reached; nothing is stored.
            DurabilityUnknown: it may have been stored, or is not on as many disks as asked for.
        """
        (reply,) = await self._stored([job], adopted_by)
        if isinstance(reply, LLMGatewayError):
            raise reply
        return reply

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[EnqueueReply]:
        """Do the same for many, each on its own."""
        # While the server works on some, the next are written.
        room = asyncio.Semaphore(IN_FLIGHT)

        async def stored(first: int) -> list[EnqueueReply]:
            async with room:
                return await self._stored(jobs[first : first + AT_ONCE], None)

        parts = await asyncio.gather(*(stored(first) for first in range(0, len(jobs), AT_ONCE)))
        return [reply for part in parts for reply in part]

    async def find(self, tenant: str, idempotency_key: str) -> JobView | None:
        """Return the job that has this key; ``None`` also when only its key is left."""
        shard = self._shards.of(tenant, idempotency_key)
        key = f"{self._shards.prefix(shard)}i:{sized(tenant, idempotency_key).decode()}"
        found = await self._plain(shard, "GET", key)
        if found is None:
            return None
        try:
            view, _ = await self._visible(tenant, text(found))
        except TicketNotFound:
            return None
        return view

    async def get(self, tenant: str, ticket_id: str) -> JobView:
        """Return a job.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        view, _ = await self._visible(tenant, ticket_id)
        return view

    async def result(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored result of a completed job, ``None`` of any other.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        _, body = await self._visible(tenant, ticket_id, body=Body.RESULT)
        return body

    async def cancel(self, tenant: str, ticket_id: str) -> JobView:
        """Cancel a job that is not terminal; return it as it then is.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        await self._visible(tenant, ticket_id)
        await self._order(tenant, [ticket_id], bury=False)
        return await self.get(tenant, ticket_id)

    async def cancel_group(self, tenant: str, group: str) -> int:
        """Cancel every job of a group that is not terminal; return how many. A large group takes several steps."""
        tickets = await self._members("g", tenant, group)
        return sum(ended for _, ended, _ in await self._order(tenant, tickets, bury=False))

    async def erase(
        self, tenant: str, *, ticket_id: str | None = None, subject: str | None = None, everything: bool = False
    ) -> ErasureReport:
        """Cancel, then remove payload, result, echo and history of a ticket, of all of a subject's, or of all.

        The cancelling event still leaves with its echo, so that whoever waits for the job is told. The ticket and
        its key stay taken until the key may be forgotten: sending the request again does not bring it back. What the
        server's append-only file and its backups hold goes with their next rewrite.

        Raises:
            InvalidRequest: unless exactly one of the three is given.
            TicketNotFound: the ticket is unknown, gone, or another tenant's.
        """
        check_erasure(ticket_id, subject, everything=everything)
        if ticket_id is not None:
            await self._visible(tenant, ticket_id)
            tickets = [ticket_id]
        else:
            tickets = await self._members("sub", tenant, subject) if subject is not None else await self._all(tenant)
        done = await self._order(tenant, tickets, bury=True)
        gone = [(ticket, order) for ticket, order in zip(tickets, done, strict=True) if order[0]]
        return ErasureReport(
            tickets=tuple(ticket for ticket, _ in gone),
            cancelled=sum(order[1] for _, order in gone),
            removed=tuple(sorted({KINDS[kind] for _, order in gone for kind in order[2]})),
        )

    async def _stored(self, jobs: Sequence[NewJob], adopted_by: AdoptedBy | None) -> list[EnqueueReply]:
        token, replies = new_token(), dict[int, EnqueueReply]()
        sent = list[int]()
        for index, job in enumerate(jobs):
            try:
                check_times(job, self._clock.now())
                check_room(job, self._options, held=0, bytes_held=0)
                sent.append(index)
            except LLMGatewayError as error:
                replies[index] = error
        calls = [(self._shards.of(job.tenant, job.idempotency_key), job) for job in (jobs[index] for index in sent)]
        parts = [(shard, self._submission(job, adopted_by, token)) for shard, job in calls]
        with self._expected(calls) as stored:
            for index, told in zip(sent, await self._run_many(Script.SUBMIT, parts, durable=True), strict=True):
                replies[index] = await self._answered(jobs[index], told, adopted_by, token)
                if not isinstance(told, LLMGatewayError) and items(told)[0] == b"STORED":
                    stored.add(jobs[index].ticket_id)
        return [replies[index] for index in range(len(jobs))]

    @contextmanager
    def _expected(self, calls: Sequence[tuple[int, NewJob]]) -> Generator[set[str]]:
        """Have the ends of jobs told from before they are stored; those that turn out not to be new are to be asked."""
        wakes, stored = self._open.wakes, set[str]()
        for shard, job in calls:
            wakes[shard].expect(job.ticket_id, job.tenant)
        try:
            yield stored
        finally:
            for shard, job in calls:
                if job.ticket_id not in stored:
                    wakes[shard].drop(job.ticket_id)

    def _submission(self, job: NewJob, adopted_by: AdoptedBy | None, token: str) -> Sequence[Part]:
        history = job.history[-HISTORY_LIMIT:]
        wait = "" if job.not_before is None else micros(job.not_before - job.created_at)
        adopted = ("", 0, "") if adopted_by is None else (adopted_by.worker, micros(adopted_by.lease_seconds), token)
        return (
            *(job.ticket_id, job.tenant, sized(job.tenant, job.idempotency_key), lane_name(job.lane)),
            *(job.priority.weight, micros(job.expires_at - job.created_at), wait, job.fingerprint, job.echo),
            *(job.payload, job.reason or "submitted", job.group or ""),
            json.dumps(sorted(set(job.subjects), key=job.subjects.index)) if job.subjects else "",
            "\n".join(write_attempt(attempt) for attempt in history),
            *(
                len(history),
                self._share(self._options.max_depth),
                self._share(self._options.max_bytes),
                *adopted,
                job.requeued_from or "",
            ),
        )

    def _share(self, bound: int) -> int:
        """Return what of a bound is each shard's."""
        return math.ceil(bound / self._shards.count)

    async def _answered(self, job: NewJob, told: object, adopted_by: AdoptedBy | None, token: str) -> EnqueueReply:
        try:
            if isinstance(told, LLMGatewayError):
                return told
            kind, *rest = items(told)
            if kind == b"STORED":
                return self._new(job, rest, adopted_by, token)
            if kind == b"KNOWN":
                return await self._found(job, text(rest[0]), adopted_by, token)
            return self._refused(job, raw(kind))
        except LLMGatewayError as error:
            return error

    def _new(self, job: NewJob, rest: Sequence[object], adopted_by: AdoptedBy | None, token: str) -> Enqueued:
        now, rank = read_time(rest[0]), integer(rest[1])
        view = first_view(job, now, taken_at=now, position=None if adopted_by else self._position(rank))
        if adopted_by is None:
            return Enqueued(job=view, created=True)
        held = view._replace(state=TicketState.PROCESSING, version=2)
        return Enqueued(job=held, created=True, lease=lease_of(held, job.payload, token, adopted_by))

    async def _found(self, job: NewJob, known: str, adopted_by: AdoptedBy | None, token: str) -> Enqueued:
        view, _, _ = await self._shown(known)
        check_content(view, job)
        # A key that has this very ticket was stored by this very call, whose first reply was lost.
        ours = known == job.ticket_id
        lease = lease_of(view, job.payload, token, adopted_by) if ours and adopted_by is not None else None
        return Enqueued(job=view, created=ours, lease=lease)

    def _refused(self, job: NewJob, kind: bytes) -> LLMGatewayError:
        if kind == b"TAKEN":
            return taken(job.ticket_id)
        held, size = (self._options.max_depth, 0) if kind == b"DEPTH" else (0, self._options.max_bytes)
        try:
            check_room(job, self._options, held=held, bytes_held=size)
        except LLMGatewayError as error:
            return error
        return QueueError(f"The queue refused the request ({kind.decode()}).")

    async def _order(self, tenant: str, tickets: Sequence[str], *, bury: bool) -> list[Order]:
        """Cancel and perhaps bury tickets, some at once, and tell of each what became of it."""
        by_shard = dict[int, list[str]]()
        for ticket in tickets:
            shard = self._shards.of_ticket(ticket)
            if shard is not None:
                by_shard.setdefault(shard, []).append(ticket)
        done = dict[str, Order]()
        for shard, theirs in by_shard.items():
            for first in range(0, len(theirs), AT_ONCE):
                some = theirs[first : first + AT_ONCE]
                order = secrets.token_hex(6)
                reply = await self._run(Script.CANCEL, shard, tenant, int(bury), order, *some, durable=True)
                for ticket, told in zip(some, items(reply), strict=True):
                    found, ended, had = items(told)
                    done[ticket] = (found == 1, integer(ended), text(had))
        return [done.get(ticket, (False, 0, "")) for ticket in tickets]

    async def _members(self, kind: str, tenant: str, name: str) -> list[str]:
        key = f"{kind}:{sized(tenant, name).decode()}"
        found = [await self._plain(shard, "SMEMBERS", self._shards.prefix(shard) + key) for shard in self._all_shards]
        return sorted(text(ticket) for members in found for ticket in items(members))

    async def _all(self, tenant: str) -> list[str]:
        found = list[str]()
        for shard in self._all_shards:
            key = f"{self._shards.prefix(shard)}l:{tenant}"
            found += [text(ticket) for ticket in items(await self._plain(shard, "ZRANGE", key, 0, -1))]
        return found


def lease_of(view: JobView, payload: bytes, token: str, adopted_by: AdoptedBy) -> Lease:
    """Return the lease under which a live call goes on as a job's first attempt."""
    ends = view.updated_at.timestamp() + adopted_by.lease_seconds
    deadline = view.updated_at.fromtimestamp(ends, view.updated_at.tzinfo)
    return Lease(job=view, payload=payload, token=token, deadline=deadline, worker=adopted_by.worker)
