"""What the scripts of the queue in Redis reply to orders that the queue gives seldom, or only after a lost reply."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pytest
from tests.queues.redis_bench import QUICK, command, namespace, redis_bench
from tests.queues.redis_server import RedisServer
from tests.queues.redis_shard import RedisShard

from llm_gateway._core.jobs import AdoptedBy, Complete, Fail, Park, ParkScope
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.redis.keys import lane_name
from llm_gateway.queues.redis.rows import items, raw
from llm_gateway.queues.redis.scripts import Script
from llm_gateway.testing.conformance.bench import BOOM, LANE, LEASE, TENANT, TTL, Bench

KNOWN_MS: Final = 60_000
LEASE_MICROS: Final = round(LEASE * 1_000_000)
LANE_NAME: Final = lane_name(LANE)
LOG: Final = 10_000
# How many entries of the log the server keeps or drops together.
NODE: Final = 100
TOKENS: Final = ("t-1", "t-2", "t-3", "t-4", "t-5")


@asynccontextmanager
async def shard_of(server: RedisServer, *, outbox: bool = False) -> AsyncGenerator[tuple[Bench, RedisShard]]:
    """Give a queue and its only shard, which must add up in the end."""
    name = namespace()
    async with redis_bench(server.url, name=name, outbox=outbox) as b:
        shard = RedisShard(server.url, name, b.clock)
        yield b, shard
        assert [] == shard.complaints()


async def claim(shard: RedisShard, name: str, count: int, *, noting: bool) -> tuple[int, list[tuple[str, str, int]]]:
    """Claim under an id; return how many it took, and of each job the ticket, its token and the end of its lease."""
    order: list[str | int] = [LANE_NAME, count, LEASE_MICROS, "worker", name, KNOWN_MS, int(noting), *TOKENS[:count]]
    taken, *rows = items(await shard.run(Script.CLAIM, *order))
    assert isinstance(taken, int)
    jobs = [tuple(rows[place : place + 5]) for place in range(0, len(rows), 5)]
    return taken, [(raw(job[0]).decode(), raw(job[1]).decode(), int(raw(job[2]))) for job in jobs]


@pytest.mark.parametrize("shut", [False, True])
async def test_claim_that_found_nothing_is_known_where_others_are_asked(redis: RedisServer, *, shut: bool) -> None:
    """A claim that found nothing here finds nothing when asked again: what it took elsewhere counts."""
    async with shard_of(redis) as (b, shard):
        if shut:
            await b.queue.pause(LANE)
        assert (0, []) == await claim(shard, "c", 2, noting=True)
        assert 0 < await lives(shard, "clm:c") <= KNOWN_MS
        await b.queue.resume(LANE)
        view = await b.put()
        assert (0, []) == await claim(shard, "c", 2, noting=True)
        assert (1, [view.ticket_id]) == names(await claim(shard, "d", 2, noting=True))


@pytest.mark.parametrize("shut", [False, True])
async def test_claim_that_found_nothing_may_ask_again_of_one_shard(redis: RedisServer, *, shut: bool) -> None:
    """With no other shard to ask, a claim that found nothing is not known: asked again it takes what there is."""
    async with shard_of(redis) as (b, shard):
        if shut:
            await b.queue.pause(LANE)
        assert (0, []) == await claim(shard, "c", 2, noting=False)
        assert 0 == await shard.do("EXISTS", "clm:c")
        await b.queue.resume(LANE)
        view = await b.put()
        assert (1, [view.ticket_id]) == names(await claim(shard, "c", 2, noting=False))


async def test_claim_asked_again_counts_what_has_ended(redis: RedisServer) -> None:
    """A claim asked again replies how many it took, ended or not, and gives those that it still holds."""
    async with shard_of(redis) as (b, shard):
        views = [await b.put() for _ in range(5)]
        ends = shard.now + LEASE_MICROS
        first = [(view.ticket_id, token, ends) for view, token in zip(views, TOKENS[:3], strict=False)]
        assert (3, first) == await claim(shard, "c", 3, noting=True)
        assert 0 < await lives(shard, "clm:c") <= KNOWN_MS
        await b.queue.cancel(TENANT, views[0].ticket_id)
        assert (3, first[1:]) == await claim(shard, "c", 3, noting=True)


async def test_claim_asked_again_gives_nothing_it_has_lost(redis: RedisServer) -> None:
    """A claim asked again gives neither what has lapsed by now, nor what another claim holds, nor what is gone."""
    async with shard_of(redis) as (b, shard):
        back, lost, gone = [await b.put() for _ in range(3)]
        _, ((_, token, _), *_) = await claim(shard, "c", 3, noting=False)
        order = (back.ticket_id, TENANT, token, "release", "", "", "", "circuit_open", 0, 0, "", "")
        await shard.run(Script.FINISH, *order)
        assert [back.ticket_id] == [lease.job.ticket_id for lease in await b.claim(claim_id="d")]
        await b.queue.erase(TENANT, ticket_id=gone.ticket_id)
        assert (3, [lost.ticket_id]) == names(await claim(shard, "c", 3, noting=False))
        b.clock.advance(LEASE)
        assert (3, []) == await claim(shard, "c", 3, noting=False)
        assert 2 == (await b.queue.sweep()).recovered
        assert (3, []) == await claim(shard, "c", 3, noting=False)


async def test_claim_passes_over_what_is_over(redis: RedisServer) -> None:
    """A claim that meets expired jobs ends them, without a reason to wait, and gives no more than it was asked for."""
    async with shard_of(redis) as (b, shard):
        over = [await b.put(b.job(ttl=10)) for _ in range(2)]
        for _ in range(5):
            await b.put()
        b.clock.advance(10)
        assert 3 == len(await b.claim(3))
        ended = [await b.view(view.ticket_id) for view in over]
        assert [(TicketState.EXPIRED, None)] * 2 == [(view.state, view.reason) for view in ended]
        assert [] == shard.complaints()


async def test_claim_works_in_parts(redis: RedisServer) -> None:
    """A claim that meets very many expired jobs ends some, so that others get their turn, and the next goes on."""
    async with shard_of(redis) as (b, _):
        await b.queue.enqueue_many([b.job(ttl=10) for _ in range(150)])
        b.clock.advance(10)
        live = await b.put()
        claims = [[lease.job.ticket_id for lease in await b.claim()] for _ in range(3)]
        assert [[], [], [live.ticket_id]] == claims


async def test_claim_leaves_no_time_to_wait_for(redis: RedisServer) -> None:
    """A job that is claimed waits for nothing any longer: it names neither a time nor a reason."""
    async with shard_of(redis) as (b, _):
        await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=5)))
        b.clock.advance(5)
        (lease,) = await b.claim()
        assert (None, None) == (lease.job.not_before, lease.job.reason)


async def test_ends_leave_no_reason(redis: RedisServer) -> None:
    """A job that was cancelled or has expired while it waited for something waits for it no longer."""
    async with shard_of(redis) as (b, _):
        for _ in range(2):
            await b.queue.finish(await b.take(), Park(reason="model_changed", scope=ParkScope.JOB))
        first, second = await b.queue.list_jobs()
        await b.queue.cancel(TENANT, first.ticket_id)
        b.clock.advance(TTL)
        await b.queue.sweep()
        views = [await b.view(view.ticket_id) for view in (first, second)]
        assert [(TicketState.CANCELLED, None), (TicketState.EXPIRED, None)] == [(v.state, v.reason) for v in views]


async def test_positions_count_those_ahead(redis: RedisServer) -> None:
    """A job that is ready knows how many are ahead, from the start; one that is not does not."""
    async with shard_of(redis) as (b, _):
        views = [await b.put() for _ in range(3)]
        waits = await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=5)))
        assert [0, 1, 2, None] == [view.position for view in (*views, waits)]
        assert [0, 1, 2, None] == [(await b.view(view.ticket_id)).position for view in (*views, waits)]
        (lease,) = await b.claim()
        assert [None, 0, 1] == [(await b.view(view.ticket_id)).position for view in views]
        assert lease.job.ticket_id == views[0].ticket_id
        assert 2 == (await b.put(replace(b.job(), not_before=b.clock.now()))).position


async def test_cancelling_asked_again_replies_the_same(redis: RedisServer) -> None:
    """A cancellation tells what it did of each ticket, the same when asked again, and nothing of what is foreign."""
    async with shard_of(redis) as (b, shard):
        done = await b.take()
        await b.complete(done)
        waiting, foreign = await b.put(), await b.put(b.job(tenant="school-2"))
        tickets = ("unknown-0", foreign.ticket_id, waiting.ticket_id, done.job.ticket_id)
        once = await cancelled(shard, "order-1", *tickets)
        assert [(0, 0, ""), (0, 0, ""), (1, 1, "ep"), (1, 0, "er")] == once
        assert once == await cancelled(shard, "order-1", *tickets)
        assert [(1, 0, "e"), (1, 0, "er")] == await cancelled(shard, "order-2", *tickets[2:])
        assert [(0, 0, "")] == await cancelled(shard, "order-1", waiting.ticket_id, tenant="school-2")
        erased = await cancelled(shard, "order-3", *tickets[2:], bury=1)
        assert [(1, 0, "e"), (1, 0, "er")] == erased
        assert erased == await cancelled(shard, "order-3", *tickets[2:], bury=1)
        assert [(0, 0, ""), (0, 0, "")] == await cancelled(shard, "order-4", *tickets[2:], bury=1)


async def test_finish_of_another_tenant_is_fenced(redis: RedisServer) -> None:
    """A token counts for its own tenant's ticket alone."""
    async with shard_of(redis) as (b, _):
        lease = await b.take()
        foreign = replace(lease, job=lease.job._replace(tenant="school-2"))
        reply = await b.queue.finish(foreign, Complete(result=b"x"))
        assert (False, None, TicketState.PROCESSING) == (
            reply.accepted,
            reply.state,
            await b.state(lease.job.ticket_id),
        )


async def told(shard: RedisShard, first: int | str, most: int, group: str = "") -> tuple[list[int], list[object]]:
    """Ask for events; return where the log begins, where to go on and where it ends, then the content of each event."""
    oldest, onward, latest, *rows = items(await shard.run(Script.TELL, first, most, TENANT, group))
    return [int(raw(place)) for place in (oldest, onward, latest)], [
        (int(raw(items(row)[0])), raw(items(row)[3])) for row in rows
    ]


async def test_watchers_are_told_page_by_page(redis: RedisServer) -> None:
    """A watcher is told its tenant's and group's events alone, as many as it asks for, and where to go on."""
    async with shard_of(redis) as (b, shard):
        assert ([1, 1, 0], []) == await told(shard, 1, 10)
        await b.put(replace(b.job(), echo=b"1"))
        await b.put(replace(b.job(tenant="school-2"), echo=b"2"))
        await b.put(replace(b.job(), echo=b"3", group="g"))
        assert ([1, 4, 3], [(1, b"1"), (3, b"3")]) == await told(shard, 1, 10)
        assert ([1, 2, 3], [(1, b"1")]) == await told(shard, 1, 1)
        assert ([1, 4, 3], [(3, b"3")]) == await told(shard, 2, 1)
        assert ([1, 4, 3], [(3, b"3")]) == await told(shard, 1, 1, "g")
        assert ([1, 4, 3], []) == await told(shard, 4, 1)
        assert ([1, 1, 3], []) == await told(shard, "", 10)


async def test_results_leave_with_their_own_event(redis: RedisServer) -> None:
    """Only the event of a completed job carries the result; what is not asked for does not leave the server."""
    async with shard_of(redis, outbox=True) as (b, shard):
        lease = await b.take(replace(b.job(), echo=b"e"))
        await b.complete(lease, b"answer")
        failed = await b.take(replace(b.job(), echo=b"f"))
        await b.queue.finish(failed, Fail(error=BOOM))
        expected = [(1, b"e"), (2, b"e"), (3, b"eanswer"), (4, b"f"), (5, b"f"), (6, b"f")]
        assert ([1, 7, 6], expected) == await told(shard, "", 10)
        assert ([1, 7, 6], expected) == await told(shard, 1, 10)
        await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
        assert ([1, 7, 6], [(number, body[:1]) for number, body in expected]) == await told(shard, "", 10)
        assert ([1, 7, 6], expected[3:]) == await told(shard, 1, 10)


async def test_what_was_missed_lies_in_the_gap(redis: RedisServer) -> None:
    """Of a gap in the log those jobs are told whose latest change lies within it, with a result if they have one."""
    async with shard_of(redis) as (b, shard):
        done = await b.take(replace(b.job(), echo=b"1"))
        await b.complete(done, b"answer")
        await b.put(replace(b.job(), echo=b"2", group="g"))
        erased = await b.put(replace(b.job(), echo=b"3"))
        await b.queue.erase(TENANT, ticket_id=erased.ticket_id)
        await b.put(replace(b.job(), echo=b"4"))

        async def missed(after: int, before: int, group: str = "", page: tuple[int, int] = (0, 9)) -> list[object]:
            rows = items(await shard.run(Script.MISSED, TENANT, after, before, group, *page))
            return [(items(row)[0], raw(items(row)[3])) for row in rows]

        everything = [(b"3", b"1answer"), (b"4", b"2"), (b"7", b"4")]
        assert everything == sorted(await missed(0, 8), key=str)
        assert everything[1:2] == await missed(3, 7)
        assert everything[1:2] == await missed(0, 8, "g")
        assert [] == await missed(3, 4)
        assert 1 == len(await missed(0, 8, page=(1, 1)))


async def test_shown_is_what_was_asked_for(redis: RedisServer) -> None:
    """A job is shown with what is echoed, and with its payload or result only if that is asked for."""
    async with shard_of(redis) as (b, shard):
        view = await b.put(replace(b.job(), echo=b"e", payload=b"payload"))
        shown = [items(await shard.run(Script.SHOW, view.ticket_id, body))[2] for body in (0, 1, 2)]
        assert [b"e", b"epayload", b"e"] == shown
        silent = await b.put(replace(b.job(), echo=b""))
        assert b"" == items(await shard.run(Script.SHOW, silent.ticket_id, 0))[2]


async def test_acknowledgement_takes_along_nothing_that_comes_later(redis: RedisServer) -> None:
    """An acknowledgement beyond the last event acknowledges what there is, and not what comes afterwards."""
    async with shard_of(redis, outbox=True) as (b, shard):
        await b.put()
        assert await b.queue.lead(0, "relay", LEASE)
        assert 1 == await shard.run(Script.RELAY, "ack", "relay", 99)
        later = await b.put()
        assert [later.ticket_id] == [event.ticket_id for event in await b.unrelayed()]


async def test_acknowledgement_starts_the_retention_once(redis: RedisServer) -> None:
    """What has left before is not kept longer because something else leaves."""
    options = QueueOptions(result_retention=timedelta(seconds=100))
    async with redis_bench(redis.url, options) as b:
        lease = await b.take()
        await b.complete(lease)
        await b.relay_all()
        b.clock.advance(60)
        other = await b.put()
        await b.relay_all()
        b.clock.advance(40)
        await b.queue.sweep()
        assert [other.ticket_id] == [view.ticket_id for view in await b.queue.list_jobs()]


FILL: Final = """
for number = tonumber(ARGV[2]), tonumber(ARGV[3]) do
  redis.call('XADD', ARGV[1] .. 'ev', number .. '-0', 't', 'nobody', 'v', 1, 's', 'Q')
end
redis.call('HSET', ARGV[1] .. 'cnt', 'seq', ARGV[3])
"""


async def fill(shard: RedisShard, last: int) -> None:
    """Have the log of a shard without events reach a number, by events of a ticket that is gone."""
    await command(shard.url, ("EVAL", FILL, 1, f"{shard.prefix}cnt", shard.prefix, 1, last))


async def length(shard: RedisShard) -> int:
    """Return how many events the log holds."""
    found = await shard.do("XLEN", "ev")
    assert isinstance(found, int)
    return found


async def test_log_keeps_its_latest(redis: RedisServer) -> None:
    """Without an outbox the log keeps the latest ten thousand events, and little more."""
    name = namespace()
    async with redis_bench(redis.url, name=name, outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock)
        await fill(shard, LOG + 3 * NODE)
        await b.put()
        assert LOG <= await length(shard) <= LOG + NODE


async def test_log_keeps_what_has_to_leave(redis: RedisServer) -> None:
    """With an outbox the log keeps what has not left, however much that is, and of the rest the latest."""
    name = namespace()
    async with redis_bench(redis.url, name=name) as b:
        shard = RedisShard(redis.url, name, b.clock)
        await fill(shard, LOG + 5 * NODE)
        await b.put()
        assert LOG + 5 * NODE + 1 == await length(shard)
        assert await b.queue.lead(0, "relay", LEASE)
        await shard.run(Script.RELAY, "ack", "relay", 2 * NODE)
        left = LOG + 3 * NODE + 1
        assert left <= await length(shard) <= left + NODE
        await shard.run(Script.RELAY, "ack", "relay", LOG + 5 * NODE)
        assert LOG <= await length(shard) <= LOG + NODE


async def test_time_is_the_servers(redis: RedisServer) -> None:
    """Without a clock for tests a job is created at the time of the server, to the microsecond."""

    async def time() -> int:
        (reply,) = await command(redis.url, ("TIME",))
        seconds, micros = items(reply)
        return int(raw(seconds)) * 1_000_000 + int(raw(micros))

    queue = RedisQueue(redis.url, namespace=namespace(), redis=QUICK, strict=False)
    await queue.start(outbox=False)
    try:
        async with redis_bench(redis.url) as b:
            for _ in range(5):
                before = await time()
                view = (await queue.enqueue(b.job())).job
                created = round(view.created_at.timestamp() * 1_000_000)
                assert before <= created <= await time()
    finally:
        await queue.aclose()


async def test_leases_end_soon_after_the_clock_went_back(redis: RedisServer) -> None:
    """When the clock went back, lost workers' jobs are taken back after the longest lease, extended or adopted."""
    for longest in ("claimed", "extended", "adopted"):
        async with shard_of(redis) as (b, shard):
            await b.put()
            seconds = {"claimed": LEASE, "extended": 2 * LEASE, "adopted": 3 * LEASE}[longest]
            if longest == "adopted":
                await adopt(b, seconds)
            (lease,) = await b.claim()
            if longest == "extended":
                assert await b.queue.extend(lease, seconds)
            b.clock.jump_wall(-1000)
            await b.queue.sweep()
            b.clock.advance(seconds - 1)
            assert 0 == (await b.queue.sweep()).recovered
            b.clock.advance(1)
            assert 1 <= (await b.queue.sweep()).recovered
            assert [] == shard.complaints()


async def adopt(b: Bench, seconds: float) -> None:
    """Store a job that its caller works on."""
    await b.queue.enqueue(b.job(), adopted_by=AdoptedBy(worker="live", lease_seconds=seconds))


async def cancelled(shard: RedisShard, order: str, *tickets: str, tenant: str = TENANT, bury: int = 0) -> list[object]:
    """Cancel tickets under an order's id, and return what was told of each."""
    rows = [items(row) for row in items(await shard.run(Script.CANCEL, tenant, bury, order, *tickets))]
    return [(found, ended, raw(had).decode()) for found, ended, had in rows]


async def lives(shard: RedisShard, key: str) -> int:
    """Return for how many more milliseconds a key is kept."""
    found = await shard.do("PTTL", key)
    assert isinstance(found, int)
    return found


def names(claimed: tuple[int, list[tuple[str, str, int]]]) -> tuple[int, list[str]]:
    """Return how many a claim took, and the tickets it gave."""
    taken, jobs = claimed
    return taken, [ticket for ticket, _, _ in jobs]
