"""Jobs in Redis whose hash was damaged: each ends once, takes its places along, and stops nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

import anyio
import pytest
from tests.queues.redis_bench import namespace, redis_bench
from tests.queues.redis_server import RedisServer
from tests.queues.redis_shard import RedisShard

from llm_gateway._core.jobs import JobView, Park, ParkScope, Release, Swept
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis.scripts import Script
from llm_gateway.testing.conformance.bench import LANE, LEASE, TENANT, TTL, Bench

DEAD: Final = 9_000.0
OPTIONS: Final = QueueOptions(
    result_retention=timedelta(seconds=5_000), dead_letter_retention=timedelta(seconds=DEAD), max_crashes=2
)
Damage = Sequence[tuple[str, ...]]

# What is done to a hash, by commands without its key. These the scripts notice themselves.
DAMAGES: Final[dict[str, Damage]] = {
    "no expiry": [("HDEL", "e")],
    "no version": [("HDEL", "v")],
    "no state, tenant or weight": [("HDEL", "s", "t", "w")],
    "no number": [("HDEL", "n")],
    "expiry that is no time": [("HSET", "e", "soon")],
}
# These only whoever reads the whole.
UNREADABLE: Final[dict[str, Damage]] = {
    "unknown weight": [("HSET", "w", "7")],
    "subjects that are no list": [("HSET", "sb", "{")],
}
# Of these nothing can be told: not to whom they belong, or not under which key they came.
NAMELESS: Final[dict[str, Damage]] = {
    "no key": [("HDEL", "key")],
    "no lane": [("HDEL", "l")],
    "wrong type": [("DEL",), ("SET", "foreign")],
}
PLACES: Final = ("ready", "delayed", "parked", "running")


async def stand(b: Bench, place: str, tenant: str = TENANT) -> str:
    """Store a job with all that a job may have, bring it to a place, and return its ticket."""
    job = replace(b.job(tenant=tenant), group="g", subjects=("s",), echo=b'{"a": 1}')
    if place == "delayed":
        job = replace(job, not_before=b.clock.now() + timedelta(seconds=10))
    view = await b.put(job)
    if place in {"parked", "running"}:
        (lease,) = await b.claim()
        if place == "parked":
            await b.queue.finish(lease, Park(reason="model_changed", scope=ParkScope.JOB))
    return view.ticket_id


async def do(shard: RedisShard, ticket: str, damage: Damage) -> None:
    """Do something to the hash of a job."""
    for name, *parts in damage:
        await shard.do(name, f"j:{ticket}", *parts)


async def pass_time(b: Bench, *, working: bool) -> list[int]:
    """Let a turn and a lease come, then the time to live, perhaps with a worker there; tell how many ended by each."""
    dead: list[int] = []
    for seconds in (0.0, LEASE, TTL):
        b.clock.advance(seconds)
        assert not working or [] == await b.claim(5)
        dead.append((await b.queue.sweep()).dead)
    return [dead[0] + dead[1], dead[2]]


def ended_early(place: str, *, working: bool) -> list[int]:
    """Return how many end at their turn or with their lease, and how many only with their time to live."""
    early = place == "running" or (working and place != "parked")
    return [int(early), int(not early)]


async def counts(b: Bench) -> tuple[int, ...]:
    """Return what the lane counts, then the depth."""
    lane = await b.lane()
    return lane.ready, lane.delayed, lane.processing, lane.parked, lane.dead, (await b.queue.stats()).depth


@pytest.mark.parametrize(("outbox", "working"), [(False, True), (True, False)])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_job_ends_wherever_it_stands(
    redis: RedisServer, damage: str, place: str, *, outbox: bool, working: bool
) -> None:
    """A damaged job ends once as a dead letter, leaves every place, is told of, and is forgotten as others are."""
    name = namespace()
    async with redis_bench(redis.url, OPTIONS, name=name, outbox=outbox) as b:
        shard = RedisShard(redis.url, name, b.clock, OPTIONS)
        ticket = await stand(b, place, tenant := "" if "tenant" in damage else TENANT)
        version = 1 if damage == "no version" else (await b.queue.get(tenant, ticket)).version
        await do(shard, ticket, DAMAGES[damage])
        assert ended_early(place, working=working) == await pass_time(b, working=working)
        assert ((0, 0, 0, 0, 1, 0), 0) == (await counts(b), (await b.queue.stats()).bytes)
        view = await b.queue.get(tenant, ticket)
        assert (TicketState.FAILED, "damaged", version + 1) == (
            view.state,
            view.error and view.error.code,
            view.version,
        )
        events = await b.relay_all()
        assert [("g", TicketState.FAILED)] * outbox == [(event.group, event.state) for event in events[-1:]]
        # Who has forgotten the version begins anew, which the log shows.
        assert damage == "no version" or [] == shard.complaints()
        b.clock.advance(DEAD)
        await b.queue.sweep()
        with pytest.raises(TicketNotFound):
            await b.queue.get(tenant, ticket)
        assert damage == "no version" or [] == shard.complaints()


@pytest.mark.parametrize("place", ["ready", "delayed", "running"])
@pytest.mark.parametrize("damage", UNREADABLE)
async def test_job_that_cannot_be_read_ends_when_it_is_claimed(redis: RedisServer, damage: str, place: str) -> None:
    """A job that a worker cannot read ends instead of being handed out, and later sweeps go on."""
    name = namespace()
    async with redis_bench(redis.url, OPTIONS, name=name, outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock, OPTIONS)
        ticket = await stand(b, place)
        await do(shard, ticket, UNREADABLE[damage])
        for seconds in (0.0, LEASE):
            b.clock.advance(seconds)
            await b.queue.sweep()
            assert [] == await b.claim(5)
        assert ((0, 0, 0, 0, 1, 0), 0) == (await counts(b), (await b.queue.stats()).bytes)
        b.clock.advance(DEAD)
        well = await b.put()
        assert Swept() == await b.queue.sweep()
        assert [well.ticket_id] == [view.ticket_id for view in await b.queue.list_jobs()]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("damage", NAMELESS)
async def test_job_of_which_nothing_is_known_is_removed(redis: RedisServer, damage: str, place: str) -> None:
    """What names neither lane nor key is removed with its content, and holds no place any longer."""
    name = namespace()
    async with redis_bench(redis.url, OPTIONS, name=name, outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock, OPTIONS)
        ticket = await stand(b, place)
        await do(shard, ticket, NAMELESS[damage])
        assert ended_early(place, working=True) == await pass_time(b, working=True)
        assert (0, 0, 0, 0, 0, 0) == await counts(b)
        assert (0, []) == (await shard.do("EXISTS", f"j:{ticket}"), await b.queue.list_jobs())
        assert 0 == await shard.do("EXISTS", f"c:{ticket}")


async def test_ended_job_that_is_damaged_is_removed(redis: RedisServer) -> None:
    """A job that has ended and cannot be read any longer goes when its time is over, and counts as nothing twice."""
    name = namespace()
    async with redis_bench(redis.url, OPTIONS, name=name, outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock, OPTIONS)
        lease = await b.take()
        await b.complete(lease)
        await b.put(b.job(ttl=2 * DEAD))
        await do(shard, lease.job.ticket_id, DAMAGES["no expiry"])
        b.clock.advance(DEAD)
        assert Swept(dead=1) == await b.queue.sweep()
        assert ((1, 0, 0, 0, 0, 1), 1) == (await counts(b), len(await b.queue.list_jobs()))


async def test_damaged_job_frees_its_bytes_alone(redis: RedisServer) -> None:
    """Of the bytes held, those of a damaged job are free, also when it no longer says how many they were."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock)
        sick, vague = await b.put(), await b.put()
        await b.put(replace(b.job(), payload=b"x" * 100))
        await do(shard, sick.ticket_id, DAMAGES["no expiry"])
        await do(shard, vague.ticket_id, [("HDEL", "z")])
        await b.claim(5)
        assert Swept(dead=2) == await b.queue.sweep()
        assert 100 == (await b.queue.stats()).bytes


async def test_running_job_without_its_beginning_goes_back(redis: RedisServer) -> None:
    """When it is not known since when a job runs, its lost attempt is not told, and it goes on."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock)
        lease = await b.take()
        await do(shard, lease.job.ticket_id, [("HDEL", "h")])
        assert Swept(recovered=1) == await b.die()
        view = await b.view(lease.job.ticket_id)
        assert (TicketState.QUEUED, 1, ()) == (view.state, view.crashes, view.history)


async def test_claim_without_content_is_empty(redis: RedisServer) -> None:
    """A job whose content was removed is handed out without any, so that it can fail."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        view = await b.put()
        await RedisShard(redis.url, name, b.clock).do("DEL", f"c:{view.ticket_id}")
        assert [b""] == [lease.payload for lease in await b.claim()]


async def unmoved(b: Bench, *tickets: str) -> list[JobView]:
    """Return jobs as they stand, but for how many are ahead."""
    return [(await b.view(ticket))._replace(position=None) for ticket in tickets]


STRAYS: Final = ("dly:{lane}", "rdy:{lane}", "lse", "due")


@pytest.mark.parametrize("index", STRAYS)
async def test_index_that_names_what_stands_elsewhere_moves_nothing(redis: RedisServer, index: str) -> None:
    """A place that names jobs which stand in another one, or which there are not, is put right and moves none."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock)
        tickets = [await stand(b, place) for place in ("running", "parked", "delayed", "ready", "ready")]
        ended = await b.put()
        await b.queue.cancel(TENANT, ended.ticket_id)
        before = await unmoved(b, *tickets, ended.ticket_id)
        key = index.format(lane=f"{LANE.provider}/{LANE.model}")
        strays = {"dly:": (0, 1, 3, 4), "rdy:": (0, 1, 2), "lse": (1, 2, 3, 4), "due": (0, 1, 2, 3, 4)}
        for place in next(of for kind, of in strays.items() if key.startswith(kind)):
            await shard.do("ZADD", key, 0, tickets[place])
        await shard.do("ZADD", key, 0, "unknown-0")
        await shard.run(Script.LOOK)
        assert before == await unmoved(b, *tickets, ended.ticket_id)
        leases = await b.claim(5)
        assert set(tickets[3:]) == {lease.job.ticket_id for lease in leases}
        assert Swept() == await b.queue.sweep()
        assert [] == shard.complaints()
        for lease in leases:
            await b.queue.finish(lease, Release(reason="circuit_open"))
        assert before[:3] == await unmoved(b, *tickets[:3])


async def test_resuming_moves_nothing_that_is_not_parked(redis: RedisServer) -> None:
    """Resuming a lane takes from its parked jobs those that stand elsewhere, and leaves them as they are."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        shard = RedisShard(redis.url, name, b.clock)
        running, parked, ready = [await stand(b, place) for place in ("running", "parked", "ready")]
        before = await unmoved(b, running, ready)
        await shard.do("SADD", f"prk:{LANE.provider}/{LANE.model}", running, ready, "unknown-0")
        await b.queue.resume(LANE)
        assert before == await unmoved(b, running, ready)
        assert ("resumed", []) == ((await b.view(parked)).reason, shard.complaints())


@pytest.mark.parametrize("damage", NAMELESS.values(), ids=NAMELESS)
async def test_outbox_goes_on_past_what_cannot_be_read(redis: RedisServer, damage: Damage) -> None:
    """Events of a job that nobody can read do not hold up those behind them, be they ever so many."""
    async with redis_bench(redis.url, name=(name := namespace())) as b:
        shard = RedisShard(redis.url, name, b.clock)
        for _ in range(3):
            await do(shard, (await b.put()).ticket_id, damage)
        behind = await b.put()
        with anyio.fail_after(10.0):
            await b.queue.wait_unrelayed(0)
        assert [behind.ticket_id] == [event.ticket_id for event in await b.queue.unrelayed(0, 1)]


async def test_key_of_what_is_gone_can_be_used(redis: RedisServer) -> None:
    """A job whose hash somebody deleted leaves its places when its time is over, and its key to whoever comes."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        shard, job = RedisShard(redis.url, name, b.clock), b.job()
        await do(shard, (await b.put(job)).ticket_id, [("DEL",)])
        again = replace(job, ticket_id=b.queue.mint(TENANT, job.idempotency_key))
        assert (await b.queue.enqueue(again)).created
        b.clock.advance(TTL)
        await b.queue.sweep()
        assert (0, 0, 0, 0, 0, 0) == await counts(b)
