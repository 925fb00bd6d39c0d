"""What jobs that share a commit count together: nothing is counted that was undone, or that another process changed."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final, cast

import anyio
import pytest
from tests.queues.files import SECOND, OpenQueue, bench, miscounts, sql

from llm_gateway._core.jobs import Fail, Retry
from llm_gateway.errors import QueueError, QueueUnavailable
from llm_gateway.options import QueueOptions
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.testing.conformance.bench import BOOM, LANE, TENANT, TTL, Bench

# As many as are told their place.
RANKED: Final = 64


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue lies."""
    return tmp_path / "queue.db"


async def together(b: Bench, *works: Callable[[], Awaitable[object]]) -> list[object]:
    """Have works done in one commit, in their order; return what each returned or raised."""
    queue, loop = b.queue, asyncio.get_running_loop()
    assert isinstance(queue, OpenQueue)
    entered, gate, outcomes = anyio.Event(), threading.Event(), dict[int, object]()

    def hold(_: Ledger) -> None:
        loop.call_soon_threadsafe(entered.set)
        gate.wait()

    async def outcome(number: int, work: Callable[[], Awaitable[object]]) -> None:
        try:
            outcomes[number] = await work()
        except QueueUnavailable as error:
            outcomes[number] = error

    async def release() -> None:
        gate.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.do, hold)
        await entered.wait()
        # The tasks start in this order, and each hands its work over before it waits.
        for number, work in enumerate(works):
            tasks.start_soon(outcome, number, work)
        tasks.start_soon(release)
    return [outcomes[number] for number in range(len(works))]


def leases(outcome: object) -> list[object]:
    """Return what a claim took."""
    assert isinstance(outcome, list)
    return cast("list[object]", outcome)


def failing(b: Bench, work: Callable[[Ledger], object]) -> Callable[[], Awaitable[object]]:
    """Do some work on the file, then fail."""
    queue = b.queue
    assert isinstance(queue, OpenQueue)

    def half_done(ledger: Ledger) -> None:
        work(ledger)
        ledger.db.execute("SELECT no_such_column FROM jobs")

    return lambda: queue.do(half_done)


async def test_undone_work_is_not_counted(path: Path) -> None:
    """What a failing caller counted is undone with its writes, also what it had told the file by then."""
    async with bench(path) as b:

        def counted(ledger: Ledger) -> None:
            ledger.insert(b.job("told"))
            ledger.tally.write()

        told = failing(b, counted)
        untold = failing(b, lambda ledger: ledger.insert(b.job("untold")))
        outcomes = await together(b, b.put, told, b.put, untold, b.put)
        assert [False, True, False, True, False] == [isinstance(each, QueueUnavailable) for each in outcomes]
        assert (3, 3) == ((await b.queue.stats()).depth, (await b.lane()).ready)
        assert [(1,), (2,), (3,)] == await sql(b, "SELECT number FROM events ORDER BY number")
        ((first, second, third),) = await sql(b, "SELECT min(sort), avg(sort), max(sort) FROM jobs")
        assert isinstance(first, float)
        assert (2 * first, 3 * first) == (second, third)
    assert [] == miscounts(path)


async def test_counts_stay_those_of_the_rows(path: Path) -> None:
    """Whatever becomes of jobs in one commit or in several, each count is the number of its rows."""
    async with bench(path, QueueOptions(result_retention=SECOND, dead_letter_retention=SECOND)) as b:
        await together(b, *[b.put] * 5)
        leases = await b.claim(4)
        await together(
            b,
            lambda: b.queue.finish(leases[0], Fail(error=BOOM)),
            lambda: b.queue.finish(leases[1], Retry(error=BOOM, delay=5.0, max_attempts=3)),
            lambda: b.complete(leases[2]),
            b.put,
            lambda: b.claim(1),
            lambda: b.queue.cancel(TENANT, leases[3].job.ticket_id),
        )
        lane = await b.lane()
        assert (1, 1, 1, 1) == (lane.ready, lane.delayed, lane.processing, lane.dead)
        assert [] == miscounts(path)
        b.clock.advance(TTL)
        await together(b, b.put, b.queue.sweep, b.put)
        assert 2 == (await b.queue.stats()).depth
        assert [] == miscounts(path)
        await b.relay_all()
        b.clock.advance(TTL)
        await together(b, b.queue.sweep, b.queue.sweep)
        assert [] == miscounts(path)


async def test_counts_of_two_who_share_the_file(path: Path) -> None:
    """Two who write by turns each go on from what the other has counted."""
    async with bench(path) as one, bench(path, clock=one.clock) as two:
        for number in range(3):
            await one.put(one.job(f"one-{number}"))
            await two.put(two.job(f"two-{number}"))
            await two.complete((await two.claim())[0])
        assert (3, 3) == ((await one.queue.stats()).depth, (await one.lane()).ready)
    assert [] == miscounts(path)


async def test_outbox_that_is_closed_stays_closed(path: Path) -> None:
    """After the outbox was closed nothing is written for a relay, not even within the same commit."""
    async with bench(path) as b:
        assert await b.queue.lead(0, "token", 60.0)
        closed = (b.queue.stats, lambda: b.queue.close_outbox(0, "token"), b.put)
        assert (await together(b, *closed))[1] is True
        await b.put()
        assert 0 == (await b.queue.stats()).outbox
    assert [] == miscounts(path)


async def test_limit_of_a_lane_holds_within_a_commit(path: Path) -> None:
    """Claims that share a commit take no more jobs together than the lane lets run."""
    async with bench(path) as b:
        await b.queue.limit(LANE, 3)
        await b.queue.enqueue_many([b.job() for _ in range(8)])
        first, _ = await together(b, lambda: b.claim(2, claim_id="first"), lambda: b.claim(2))
        assert 3 == (await b.lane()).processing
        (lease, _) = await b.claim(2, claim_id="first")
        _, next_one = await together(b, lambda: b.complete(lease), lambda: b.claim(2, claim_id="next"))
        assert (2, 1) == (len(leases(first)), len(leases(next_one)))


async def test_undone_claim_leaves_the_virtual_time(path: Path) -> None:
    """A job that comes after a claim was undone gets the tag that it would have got without it."""
    async with bench(path) as b:
        await b.put()
        undone = failing(b, lambda ledger: ledger.lanes.served(ledger.lanes.id_of(LANE), 1e6))
        await together(b, undone, lambda: b.put(b.job(tenant="another")))
        assert [(1,)] == await sql(b, "SELECT count(DISTINCT sort) FROM jobs")


async def test_flows_go_with_a_job_that_ends_in_the_same_commit(path: Path) -> None:
    """A sweep forgets the flow of a job that came and was cancelled just before, and a later job starts anew."""
    async with bench(path, outbox=False) as b:
        job = b.job()
        await together(b, lambda: b.put(job), lambda: b.queue.cancel(TENANT, job.ticket_id), b.queue.sweep)
        assert [(0,)] == await sql(b, "SELECT count(*) FROM flows")
        await together(b, b.put, lambda: b.claim(1), b.put)
        assert [(1,)] == await sql(b, "SELECT count(*) FROM flows")


async def test_place_is_told_near_the_front(path: Path) -> None:
    """The first 64 that wait are told how many are ahead; those behind learn it in the commit that brings them near."""
    async with bench(path) as b:
        jobs = [b.job() for _ in range(RANKED + 2)]
        replies = await b.queue.enqueue_many(jobs)
        places = [reply.job.position for reply in replies if not isinstance(reply, Exception)]
        assert [*range(RANKED), None, None] == places

        async def at(place: int) -> int | None:
            return (await b.view(jobs[place].ticket_id)).position

        def overtaken(ledger: Ledger) -> None:
            ledger.insert(b.job(tenant="another"))
            assert ledger.shown(ledger.visible(TENANT, jobs[RANKED - 1].ticket_id)).position is None

        works = (failing(b, overtaken), partial(at, RANKED - 1), partial(at, -1), lambda: b.claim(3), partial(at, -1))
        _, undone, before, _, after = await together(b, *works)
        assert (RANKED - 1, None, RANKED - 2) == (undone, before, after)


async def test_number_of_an_event_does_not_come_twice(path: Path) -> None:
    """An event gets a new number also when those before it have gone with their jobs, and after a restart."""
    async with bench(path, QueueOptions(result_retention=SECOND), outbox=False) as b:
        await b.complete(await b.take())
        b.clock.advance(TTL + 2)
        await b.queue.sweep()
        assert [(0,)] == await sql(b, "SELECT count(*) FROM events")
    async with bench(path, outbox=False) as b:
        await b.put()
        assert [(4,)] == await sql(b, "SELECT number FROM events")


async def test_damaged_counts_are_refused(path: Path) -> None:
    """Without counts that can be read nothing is stored, and the file is not opened again."""
    async with bench(path) as b:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE totals SET latest = 'many'")
        for work in (b.put, lambda: b.queue.heartbeat("worker-1", [LANE])):
            with pytest.raises(QueueError, match="cannot be read"):
                await work()
        with closing(sqlite3.connect(path)) as db:
            assert [(0,)] == db.execute("SELECT count(*) FROM jobs").fetchall()
    with pytest.raises(QueueError, match="cannot be read"):
        await OpenQueue(path).start(outbox=True)
