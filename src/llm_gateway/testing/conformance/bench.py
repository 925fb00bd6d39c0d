"""What the suites share: a queue under test with its clock, and plain comparisons."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Final

import anyio
import pytest

from llm_gateway._core.jobs import (
    Complete,
    Enqueued,
    JobError,
    JobEvent,
    JobView,
    Lane,
    LaneStats,
    Lease,
    NewJob,
    Swept,
)
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Fault, Sent
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import QueueBackend
from llm_gateway.testing.clock import FakeClock, settle

__all__ = ["BOOM", "LANE", "LEASE", "OTHER_LANE", "PATIENCE", "TENANT", "TTL", "Bench", "QueueSuite", "check", "same"]

TENANT: Final = "school-1"
LANE: Final = Lane("simulated", "judge-1")
OTHER_LANE: Final = Lane("simulated", "judge-2")
LEASE: Final = 30.0
TTL: Final = 3600.0
PATIENCE: Final = 10.0
MOST_EVENTS: Final = 100_000
BOOM: Final = JobError(type="MalformedResponse", message="The answer was cut.", fault=Fault.MALFORMED)


def check(truth: object, complaint: str) -> None:
    """Fail unless *truth* holds.

    Raises:
        AssertionError: when it does not.
    """
    if not truth:
        raise AssertionError(complaint)


def same(actual: object, expected: object) -> None:
    """Fail unless both are equal.

    Raises:
        AssertionError: when they are not.
    """
    check(actual == expected, f"expected {expected!r}, got {actual!r}")


@dataclass(slots=True)
class Bench:
    """A queue under test."""

    queue: QueueBackend
    clock: FakeClock
    numbers: count[int]

    def job(self, key: str | None = None, *, ttl: float = TTL, tenant: str = TENANT) -> NewJob:
        """Describe a job of its own key; ``dataclasses.replace`` changes the rest."""
        name = key or f"key-{next(self.numbers)}"
        now = self.clock.now()
        return NewJob(
            ticket_id=self.queue.mint(tenant, name),
            tenant=tenant,
            lane=LANE,
            idempotency_key=name,
            fingerprint=f"content of {name}",
            priority=Priority.BATCH,
            created_at=now,
            expires_at=now + timedelta(seconds=ttl),
            payload=b"the sealed request",
        )

    async def put(self, job: NewJob | None = None) -> JobView:
        """Store a job that must be new."""
        reply: Enqueued = await self.queue.enqueue(job or self.job())
        check(reply.created, "the job was not new")
        return reply.job

    async def claim(self, count: int = 1, *, lane: Lane = LANE, claim_id: str | None = None) -> list[Lease]:
        """Claim, each time under a new claim id unless one is given."""
        chosen = claim_id or f"claim-{next(self.numbers)}"
        return await self.queue.claim(lane, count, worker="worker-1", lease_seconds=LEASE, claim_id=chosen)

    async def take(self, job: NewJob | None = None) -> Lease:
        """Store a job and claim it; the lane must hold no other."""
        view = await self.put(job)
        leases = await self.claim()
        same([lease.job.ticket_id for lease in leases], [view.ticket_id])
        return leases[0]

    async def dead_letter(self) -> Lease:
        """Make a job that failed when its worker was lost too often."""
        lease = await self.take()
        while not (await self.die()).dead:
            (lease,) = await self.claim()
        return lease

    async def die(self) -> Swept:
        """Let every lease lapse and sweep."""
        self.clock.advance(LEASE + 1)
        return await self.queue.sweep()

    async def complete(self, lease: Lease, result: bytes = b"the answer") -> None:
        """Finish with a result, which must be accepted."""
        reply = await self.queue.finish(lease, Complete(result=result))
        same((reply.accepted, reply.state, reply.replayed), (True, TicketState.COMPLETED, False))

    async def view(self, ticket_id: str) -> JobView:
        """Return the tenant's job."""
        return await self.queue.get(TENANT, ticket_id)

    async def state(self, ticket_id: str) -> TicketState:
        """Return where the tenant's job stands."""
        return (await self.view(ticket_id)).state

    async def told(self, ticket_id: str) -> list[JobEvent]:
        """Return the events of a ticket that stand in the outbox."""
        return [event for event in await self.unrelayed() if event.ticket_id == ticket_id]

    async def unrelayed(self) -> list[JobEvent]:
        """Return what stands in the outboxes, shard after shard."""
        shards = [await self.queue.unrelayed(shard, limit=MOST_EVENTS) for shard in range(self.queue.outbox_shards)]
        return [event for events in shards for event in events]

    async def relay_all(self) -> list[JobEvent]:
        """Take everything out of the outboxes, and return it; nobody else may lead."""
        gone, token = list[JobEvent](), f"relay-{next(self.numbers)}"
        for shard in range(self.queue.outbox_shards):
            if events := await self.queue.unrelayed(shard, limit=MOST_EVENTS):
                check(await self.queue.lead(shard, token, LEASE), "another relay led")
                check(await self.queue.relayed(shard, events[-1].cursor, token), "the lead was lost")
                await self.queue.yield_lead(shard, token)
                gone += events
        return gone

    async def shard_of(self, ticket_id: str) -> int:
        """Return the outbox that an event of this ticket stands in."""
        for shard in range(self.queue.outbox_shards):
            if any(event.ticket_id == ticket_id for event in await self.queue.unrelayed(shard, limit=MOST_EVENTS)):
                return shard
        message = "no outbox holds an event of the ticket"
        raise AssertionError(message)

    async def lane(self, lane: Lane = LANE) -> LaneStats:
        """Return the counts of a lane."""
        (stats,) = [stats for stats in (await self.queue.stats()).lanes if stats.lane == lane]
        return stats

    def attempt(self) -> Attempt:
        """Return an attempt that failed."""
        now = self.clock.now()
        name = f"attempt-{next(self.numbers)}"
        return Attempt(id=name, started_at=now, ended_at=now, fault=Fault.SERVER_ERROR, sent=Sent.YES)


class QueueSuite:
    """Base of the parts of the suite: subclasses supply `make`."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Run on asyncio, the backend that is supported."""
        return "asyncio"

    async def make(self, options: QueueOptions) -> tuple[QueueBackend, FakeClock]:
        """Return an empty queue that was not started, and the clock it goes by. To be supplied."""
        raise NotImplementedError

    @asynccontextmanager
    async def bench(self, options: QueueOptions | None = None, *, outbox: bool = True) -> AsyncGenerator[Bench]:
        """Start a queue and close it afterwards."""
        queue, clock = await self.make(options or QueueOptions())
        await queue.start(outbox=outbox)
        try:
            yield Bench(queue, clock, count(1))
        finally:
            await queue.aclose()

    async def returns(self, wait: Callable[[], Awaitable[object]], *, when: Callable[[], Awaitable[object]]) -> None:
        """Check that *wait* is still waiting until *when* is done, and then returns."""
        done = anyio.Event()

        async def waiting() -> None:
            await wait()
            done.set()

        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waiting)
                await settle()
                check(not done.is_set(), "returned too early")
                await when()
