"""Callers of the queue in Redis cancelled at each of their waits: nothing leaks, and the link stays in step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import anyio
import pytest
from tests.queues.redis_bench import QUICK, redis_bench
from tests.queues.redis_server import RedisServer

from llm_gateway._core.jobs import Complete, Lease
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import TicketNotFound
from llm_gateway.testing.conformance.bench import LEASE, TENANT, Bench

PATIENCE: Final = 30.0
# Each of the first turns, then ever fewer: with a real server the turns in which nothing happens are the most. At last
# a call that ends is let end, and one that waits has long waited.
EACH: Final = 16
MOST: Final = 600
ANY: Final = 1_000_000
RESULT: Final = b"the answer"


@dataclass(slots=True)
class Case:
    """One call to be cancelled.

    Attributes:
        call: The call.
        again: What is asked afterwards, and checks that the call was done once or not at all.
        left: The keys of the jobs that are still to be worked off.
        held: What is held of them.
        crashes: How many are counted of each by now.
        ends: Whether the call ends by itself.
    """

    call: Callable[[], Coroutine[object, object, object]]
    again: Callable[[], Awaitable[None]]
    left: set[str] = field(default_factory=set[str])
    held: list[Lease] = field(default_factory=list[Lease])
    crashes: int = 0
    ends: bool = True


async def nothing() -> None:
    """Ask nothing again."""


async def enqueue(b: Bench) -> Case:
    """One job: asked again, its key finds it or is new."""
    job = b.job()

    async def again() -> None:
        assert job.idempotency_key == (await b.queue.enqueue(job)).job.idempotency_key

    return Case(lambda: b.queue.enqueue(job), again, {job.idempotency_key})


async def enqueue_many(b: Bench) -> Case:
    """Many jobs."""
    jobs = [b.job() for _ in range(3)]

    async def again() -> None:
        await b.queue.enqueue_many(jobs)

    return Case(lambda: b.queue.enqueue_many(jobs), again, {job.idempotency_key for job in jobs})


async def claim(b: Bench) -> Case:
    """What a cancelled claim took comes back."""
    views = [await b.put() for _ in range(3)]
    case = Case(nothing, nothing, {view.idempotency_key for view in views})

    async def call() -> None:
        case.held += await b.claim(2)

    case.call = call
    return case


async def extend(b: Bench) -> Case:
    """The lease holds all the time."""
    lease = await b.take()

    async def again() -> None:
        assert await b.queue.extend(lease, LEASE)

    return Case(lambda: b.queue.extend(lease, LEASE), again, {lease.job.idempotency_key}, [lease])


async def finish(b: Bench) -> Case:
    """Asked again, it was accepted: once."""
    lease = await b.take()

    async def again() -> None:
        assert (await b.queue.finish(lease, Complete(result=RESULT))).accepted
        assert RESULT == await b.queue.result(TENANT, lease.job.ticket_id)
        assert 3 == (await b.view(lease.job.ticket_id)).version

    return Case(lambda: b.queue.finish(lease, Complete(result=RESULT)), again)


async def cancel(b: Bench) -> Case:
    """The job ends as cancelled, once."""
    view = await b.put()

    async def again() -> None:
        ended = await b.queue.cancel(TENANT, view.ticket_id)
        assert (TicketState.CANCELLED, 2) == (ended.state, ended.version)

    return Case(lambda: b.queue.cancel(TENANT, view.ticket_id), again)


async def erase(b: Bench) -> Case:
    """The job is gone, at the latest when asked again."""
    view = await b.put()

    async def again() -> None:
        with suppress(TicketNotFound):
            await b.queue.erase(TENANT, ticket_id=view.ticket_id)
        with pytest.raises(TicketNotFound):
            await b.view(view.ticket_id)

    return Case(lambda: b.queue.erase(TENANT, ticket_id=view.ticket_id), again)


async def sweep(b: Bench) -> Case:
    """What a lost worker held comes back once."""
    lease = await b.take()
    b.clock.advance(LEASE + 1)

    async def again() -> None:
        await b.queue.sweep()

    return Case(b.queue.sweep, again, {lease.job.idempotency_key}, crashes=1)


async def wait(b: Bench) -> Case:
    """A wait for a change that does not come."""
    view = await b.put()
    keys = {view.idempotency_key}
    return Case(lambda: b.queue.wait(TENANT, view.ticket_id, beyond=view.version), nothing, keys, ends=False)


async def wait_for_end(b: Bench) -> Case:
    """A wait for an end that does not come."""
    view = await b.put()
    return Case(lambda: b.queue.ended(TENANT, view.ticket_id), nothing, {view.idempotency_key}, ends=False)


async def events(b: Bench) -> Case:
    """A wait for events that do not come."""
    return Case(lambda: b.queue.events(TENANT, group=None, after=None), nothing, ends=False)


async def wait_ready(b: Bench) -> Case:
    """A wait for jobs that do not come."""
    return Case(b.queue.wait_ready, nothing, ends=False)


async def unrelayed(b: Bench) -> Case:
    """A look at the outbox."""
    view = await b.put()

    async def again() -> None:
        assert 1 == len(await b.told(view.ticket_id))

    return Case(b.unrelayed, again, {view.idempotency_key})


async def relayed(b: Bench) -> Case:
    """An acknowledgement."""
    view = await b.put()
    (shard,) = [number for number in range(b.queue.outbox_shards) if view.ticket_id.endswith(f"-{number}")]
    assert await b.queue.lead(shard, "token", PATIENCE)
    cursor = (await b.queue.unrelayed(shard))[-1].cursor

    async def again() -> None:
        assert await b.queue.relayed(shard, cursor, "token")
        assert [] == await b.told(view.ticket_id)

    return Case(lambda: b.queue.relayed(shard, cursor, "token"), again, {view.idempotency_key})


CASES: Final = (
    *(enqueue, enqueue_many, claim, extend, finish, cancel, erase),
    *(sweep, wait, wait_for_end, events, wait_ready, unrelayed, relayed),
)


def turns() -> Iterator[int]:
    """Give after how many turns to cancel."""
    yield from range(EACH)
    late = EACH
    while late < MOST:
        yield late
        late += max(late // 3, 1)


async def ended(case: Case, after: int) -> bool:
    """Make the call, cancel it after so many turns, and tell whether it had ended by then."""
    task = asyncio.ensure_future(case.call())
    for _ in range(after):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()
    return not task.cancelled()


async def worked_off(b: Bench, case: Case) -> None:
    """Check that just the jobs that are left can be worked off, none with a crash too many, and nothing is held."""
    leases = [*case.held, *(await b.claim(10))]
    for lease in leases:
        await b.complete(lease)
    assert sorted(case.left) == sorted(lease.job.idempotency_key for lease in leases)
    assert [case.crashes] * len(leases) == [lease.job.crashes for lease in leases]
    assert 0 == (await b.queue.stats()).depth
    lane = await b.lane()
    assert (0, 0, 0) == (lane.processing, lane.ready, lane.delayed)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("prepare", CASES, ids=lambda case: case.__name__)
async def test_cancelled_caller_leaks_nothing(
    redis: RedisServer, prepare: Callable[[Bench], Awaitable[Case]], shards: int
) -> None:
    """Cancelled after any number of turns: the same can be asked again, each job is there once, no task is left."""
    async with redis_bench(redis.url, redis=QUICK.model_copy(update={"shards": shards})) as b:
        await b.complete(await b.take())
        with anyio.move_on_after(0.05):
            # From now on the readers read.
            await asyncio.gather(b.queue.events(TENANT, group=None, after=None), b.queue.wait_ready())
        for shard in range(shards):
            await b.queue.unrelayed(shard)
        before = asyncio.all_tasks()
        with anyio.fail_after(PATIENCE):
            for number in turns():
                case, over = await tried(b, prepare, number, before)
                assert case.ends or not over
                if over:
                    return
            case, over = await tried(b, prepare, MOST, before)
            if case.ends and not over:
                case, over = await tried(b, prepare, ANY, before)
            assert case.ends == over


async def tried(
    b: Bench, prepare: Callable[[Bench], Awaitable[Case]], after: int, before: set[asyncio.Task[object]]
) -> tuple[Case, bool]:
    """Cancel a call after so many turns, check what became of it, and tell whether it had ended."""
    case = await prepare(b)
    over = await ended(case, after)
    while left := asyncio.all_tasks() - before:
        await asyncio.wait(left)
    await case.again()
    await worked_off(b, case)
    return case, over
