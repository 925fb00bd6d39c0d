"""What only the queue in Redis has: checks of the server, namespaces, foreign data, a full server, the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from tests.queues.redis_bench import QUICK, command, namespace, redis_bench
from tests.queues.redis_server import BINARIES, RedisServer

from llm_gateway._core.jobs import Complete, Enqueued
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._io.redis import Command
from llm_gateway.errors import ConfigurationError, DurabilityUnknown, QueueFull, QueueUnavailable
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.redis.rows import items, text
from llm_gateway.testing.clock import FakeClock, settle
from llm_gateway.testing.conformance.bench import LANE, LEASE, TENANT, TTL, Bench

KEPT = ("--appendonly", "yes", "--appendfsync", "always")
SMALL = 3 * 1024 * 1024


async def refused(url: str, redis: RedisOptions, options: QueueOptions | None = None) -> ConfigurationError:
    """Return the error with which a strict queue refuses a server."""
    queue = RedisQueue(url, options or QueueOptions(), namespace=namespace(), redis=redis)
    with pytest.raises(ConfigurationError) as refusal:
        await queue.start(outbox=False)
    return refusal.value


@pytest.mark.parametrize(
    ("config", "redis", "named"),
    [
        (("--maxmemory-policy", "allkeys-lru"), RedisOptions(durability="process"), ["maxmemory-policy"]),
        (("--maxmemory", "100mb"), RedisOptions(durability="process"), ["maxmemory"]),
        ((), RedisOptions(durability="disk"), ["appendonly"]),
        ((*KEPT, "--no-appendfsync-on-rewrite", "yes"), RedisOptions(), ["no-appendfsync-on-rewrite"]),
        (("--appendonly", "yes", "--appendfsync", "no"), RedisOptions(), ["appendfsync"]),
        (KEPT, RedisOptions(durability="replicated"), ["replicas"]),
    ],
)
async def test_server_that_would_lose_is_refused(
    tmp_path: Path, config: Sequence[str], redis: RedisOptions, named: list[str]
) -> None:
    """A strict queue refuses a server that would not keep what it is given, and says what to change."""
    server = RedisServer(tmp_path, BINARIES[0], *config).start()
    try:
        error = await refused(server.url, redis)
        assert [True] * len(named) == [f"{name} is" in error.message for name in named]
        assert error.next_step
    finally:
        server.stop()


async def test_server_that_keeps_is_taken(redis: RedisServer) -> None:
    """A server that keeps what it is given is taken, and each finding is good."""
    queue = RedisQueue(redis.url, namespace=namespace())
    await queue.start(outbox=False)
    assert {"ok"} == {finding.level for finding in queue.findings}
    await queue.aclose()


async def test_server_that_changed_is_refused_after_reconnecting(tmp_path: Path) -> None:
    """A server that comes back without its file is refused: what it would lose is not accepted."""
    server = RedisServer(tmp_path, BINARIES[0], *KEPT).start()
    queue = RedisQueue(server.url, namespace="n", clock=(clock := FakeClock()))
    try:
        await queue.start(outbox=False)
        b = Bench(queue, clock, count(1))
        await b.put()
        server.kill()
        server.config = ()
        server.start()
        with pytest.raises(ConfigurationError):
            await queue.enqueue(b.job())
    finally:
        await queue.aclose()
        server.kill()


async def test_wrong_password_is_told(tmp_path: Path) -> None:
    """A server that refuses the user is told as such, without the password."""
    server = RedisServer(tmp_path, BINARIES[0], "--requirepass", "right-password").start()
    queue = RedisQueue(server.url.replace("redis://", "redis://:wrong-password@"), redis=QUICK)
    try:
        with pytest.raises((ConfigurationError, QueueUnavailable)) as refusal:
            await queue.start(outbox=False)
        assert "password@" not in str(refusal.value)
        assert "wrong" not in f"{refusal.value!r}{queue!r}"
    finally:
        server.stop()


async def test_password_and_database_of_the_url_are_used(tmp_path: Path) -> None:
    """The URL's password and database are used."""
    server = RedisServer(tmp_path, BINARIES[0], "--requirepass", "right").start()
    url = server.url.replace("redis://", "redis://:right@").replace("/0", "/3")
    try:
        async with redis_bench(url) as b:
            await b.put()
        (size,) = await command(url, ("DBSIZE",))
        assert isinstance(size, int)
        assert size > 0
    finally:
        server.stop()


async def test_user_with_the_documented_rights_suffices(every_redis: RedisServer) -> None:
    """A user that may do what the documentation lists, on the keys of the namespace alone, runs a whole ticket."""
    name, rights = namespace(), ("+@read", "+@write", "+eval", "+evalsha", "+script|load", "+info", "+wait", "+time")
    await command(every_redis.url, ("ACL", "SETUSER", "gateway", "reset", "on", ">pw", f"~{{{name}:*", *rights))
    url = every_redis.url.replace("redis://", "redis://gateway:pw@")
    async with redis_bench(url, name=name) as b:
        await b.complete(await b.take())
        await b.queue.sweep()
        assert (0, 1) == ((await b.queue.stats()).depth, len(await b.queue.list_jobs()))


@pytest.mark.parametrize("url", ["", "http://127.0.0.1", "redis//x", "redis://host:port/0"])
def test_url_that_cannot_be_read_is_refused(url: str) -> None:
    """A URL with a mistake is refused when the queue is made, without being shown."""
    with pytest.raises(ConfigurationError) as refusal:
        RedisQueue(url)
    assert url == "" or url not in str(refusal.value)


@pytest.mark.parametrize("name", ["", "a b", "{a}", "a:b", "x" * 65])
def test_namespace_that_cannot_be_used_is_refused(name: str) -> None:
    """A namespace that would break the keys is refused."""
    with pytest.raises(ConfigurationError):
        RedisQueue("redis://127.0.0.1/0", namespace=name)


async def test_one_namespace_has_one_shard_count(redis: RedisServer) -> None:
    """A namespace that was begun with other shards refuses to start."""
    name = namespace()
    async with redis_bench(redis.url, name=name):
        queue = RedisQueue(redis.url, namespace=name, redis=QUICK.model_copy(update={"shards": 4}), strict=False)
        with pytest.raises(ConfigurationError) as refusal:
            await queue.start(outbox=False)
    assert "shards is 1, not 4" in refusal.value.message


async def test_newer_schema_is_refused(redis: RedisServer) -> None:
    """Data of a schema that this release does not know is left alone."""
    name = namespace()
    await command(redis.url, ("HSET", f"{{{name}:0}}:meta", "schema", "99"))
    queue = RedisQueue(redis.url, namespace=name, redis=QUICK, strict=False)
    with pytest.raises(ConfigurationError):
        await queue.start(outbox=False)


DAMAGES: dict[str, Callable[[str], list[Command]]] = {
    "missing field": lambda key: [("HDEL", key, "e")],
    "wrong type": lambda key: [("DEL", key), ("SET", key, "foreign")],
    "not a number": lambda key: [("HSET", key, "w", "heavy")],
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_job_ends_as_dead_letter(redis: RedisServer, damage: str) -> None:
    """A job whose hash was damaged is never handed out, ends once, and keeps nobody else from their turn."""
    name = namespace()
    async with redis_bench(redis.url, name=name, outbox=False) as b:
        sick, well = await b.put(), await b.put()
        key = f"{{{name}:0}}:j:{sick.ticket_id}"
        await command(redis.url, *DAMAGES[damage](key))
        leases = await b.claim(5)
        assert [well.ticket_id] == [lease.job.ticket_id for lease in leases]
        await b.complete(leases[0])
        for _ in range(3):
            await b.queue.sweep()
        assert ([], 0) == (await b.claim(5), (await b.queue.stats()).depth)
        if damage != "wrong type":
            view = await b.view(sick.ticket_id)
            assert (TicketState.FAILED, "damaged") == (view.state, view.error and view.error.code)


async def test_full_server_refuses_submits_and_drains(tmp_path: Path) -> None:
    """A server without memory takes nothing more in and says so; what it holds is worked off."""
    server = RedisServer(tmp_path, BINARIES[0], "--maxmemory", str(SMALL)).start()
    try:
        async with redis_bench(server.url, outbox=False) as b:
            jobs = [replace(b.job(), payload=b"x" * 4_096) for _ in range(2_000)]
            replies = await b.queue.enqueue_many(jobs)
            refusals = [reply for reply in replies if isinstance(reply, QueueFull)]
            stored = len(jobs) - len(refusals)
            assert stored == sum(isinstance(reply, Enqueued) for reply in replies)
            assert 0 < stored < len(jobs)
            assert refusals[0].retry_after
            done = 0
            while leases := await b.claim(20):
                for lease in leases:
                    await b.complete(lease)
                done += len(leases)
            assert stored == done
            await b.put()
    finally:
        server.stop()


async def test_oldest_server_and_newest_keep_the_same_data(every_redis: RedisServer) -> None:
    """Each server there is runs every script."""
    async with redis_bench(every_redis.url) as b:
        await b.complete(await b.take())
        await b.queue.cancel(TENANT, (await b.put()).ticket_id)
        await b.put()
        await b.queue.resume(LANE)
        assert 1 == (await b.queue.stats()).depth


@pytest.mark.parametrize("hours", [-1, 1])
async def test_clock_that_jumps_costs_nobody_their_job(redis: RedisServer, hours: int) -> None:
    """A server clock that jumps an hour loses nothing: who worked is fenced or goes on, and each job ends once."""
    clock = FakeClock()
    async with redis_bench(redis.url, clock=clock, outbox=False) as b:
        waiting, held = await b.put(b.job(ttl=20_000)), await b.put(b.job(ttl=20_000))
        leases = await b.claim(2)
        clock.jump_wall(hours * 3600)
        await b.queue.sweep()
        for lease in leases[:1]:
            await b.queue.finish(lease, Complete(result=b"first"))
        # Of the other one the worker is gone: one more lease later at the latest it is somebody else's.
        clock.advance(LEASE + 1)
        await b.queue.sweep()
        for lease in await b.claim(5):
            await b.complete(lease, b"second")
        states = [await b.state(ticket.ticket_id) for ticket in (waiting, held)]
        assert [TicketState.COMPLETED] * 2 == states


async def test_host_with_a_wrong_clock_expires_nothing(redis: RedisServer) -> None:
    """A host whose clock is hours behind or ahead gives its jobs their whole time to live."""
    for hours in (-5, 5):
        queue = RedisQueue(redis.url, namespace=namespace(), redis=QUICK, strict=False)
        await queue.start(outbox=False)
        wrong = FakeClock()
        wrong.jump_wall(hours * 3600)
        b = Bench(queue, wrong, count(1))
        view = await b.put()
        assert timedelta(seconds=3600) == view.expires_at - view.created_at
        assert 1 == len(await b.claim())
        await queue.aclose()


async def test_no_key_is_left_behind(redis: RedisServer) -> None:
    """When every job has been forgotten, only the counts of lanes, the log and ids of claims for a minute are left."""
    name, options = namespace(), QueueOptions(result_retention=timedelta(seconds=60))
    async with redis_bench(redis.url, options, name=name, outbox=False) as b:
        for number in range(20):
            await b.complete(await b.take(replace(b.job(ttl=100), group=f"g{number}", subjects=("s", "t"))))
        b.clock.advance(1_000)
        for _ in range(5):
            await b.queue.sweep()
        (found,) = await command(redis.url, ("KEYS", f"{{{name}:0}}:*"))
    keys = {text(key).partition("}:")[2] for key in items(found)}
    kept = {key.partition(":")[0] for key in keys if not key.startswith("clm")}
    assert {"cnt", "ev", "lane", "lanes", "meta", "nudge", "wk"} == kept


async def test_dropped_key_is_as_durable_as_a_request(redis: RedisServer) -> None:
    """A tenant's key that may come back with a failover is not said to be gone, however often it is asked for."""
    sure = QUICK.model_copy(update={"durability": "replicated", "wait_timeout": 0.1})
    name = namespace()
    async with redis_bench(redis.url, name=name) as b:
        await b.queue.keep_tenant_key(TENANT, b"wrapped")
    async with redis_bench(redis.url, redis=sure, name=name) as b:
        for _ in range(2):
            with pytest.raises(DurabilityUnknown):
                await b.queue.drop_tenant_key(TENANT)


async def scripts_run(url: str) -> int:
    """Return how many scripts clients have run on a server."""
    (reply,) = await command(url, ("INFO", "commandstats"))
    lines = [line for line in text(reply).splitlines() if line.startswith("cmdstat_evalsha:")]
    return sum(int(line.partition("calls=")[2].partition(",")[0]) for line in lines)


async def test_worker_that_waits_again_need_not_look_again(redis: RedisServer) -> None:
    """A worker asks once when something is due; from then on it is told, also when a job is to wait for its time."""
    async with redis_bench(redis.url) as b:
        before = await scripts_run(redis.url)

        async def put(seconds: int) -> None:
            await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=seconds)))

        for when in (partial(put, 30), partial(put, 10), partial(b.clock.run_for, 10.0)):
            waiting = asyncio.ensure_future(b.queue.wait_ready())
            await settle()
            await when()
            await asyncio.wait_for(waiting, LEASE)
        looks = await scripts_run(redis.url) - before - 2
        assert 1 == looks


async def test_submitter_asks_once_for_the_end(redis: RedisServer) -> None:
    """Who submits while another end is waited for asks but once how it ended: then."""
    async with redis_bench(redis.url) as b:
        before = await scripts_run(redis.url)
        other = asyncio.ensure_future(b.queue.ended(TENANT, (await b.take()).job.ticket_id))
        await settle()
        ended = asyncio.ensure_future(b.queue.ended(TENANT, (await b.put()).ticket_id))
        await settle()
        (lease,) = await b.claim()
        await b.complete(lease)
        assert b"the answer" == (await asyncio.wait_for(ended, LEASE)).result
        others = ("submit", "claim", "show", "submit", "claim", "finish")
        assert 1 == await scripts_run(redis.url) - before - len(others)
        other.cancel()


async def test_clock_that_goes_back_keeps_no_gate_and_no_lead(redis: RedisServer) -> None:
    """After the server's clock went back an hour, a lane opens and a dead relay is followed when they would have."""
    clock = FakeClock()
    async with redis_bench(redis.url, clock=clock) as b:
        await b.put()
        await b.queue.set_gate(LANE, circuit="open", not_before=clock.now() + timedelta(seconds=30))
        assert await b.queue.lead(0, "dead", LEASE)
        assert not await b.queue.lead(0, "other", LEASE)
        assert [] == await b.claim()
        clock.jump_wall(-3600)
        clock.advance(LEASE)
        assert await b.queue.lead(0, "other", LEASE)
        assert 1 == len(await b.claim())


async def test_sweeps_begin_with_each_shard(redis: RedisServer) -> None:
    """A shard that is always at the limit of a sweep keeps none of the others from its turn."""
    four = QUICK.model_copy(update={"shards": 4})
    async with redis_bench(redis.url, redis=four, outbox=False) as b:
        jobs = [b.job(f"key-{number}") for number in range(40)]
        await b.queue.enqueue_many(jobs)
        b.clock.advance(TTL)
        for _ in range(4):
            assert 1 == (await b.queue.sweep(1)).expired
        expired = [job for job in jobs if await b.state(job.ticket_id) is TicketState.EXPIRED]
        assert {"0", "1", "2", "3"} == {job.ticket_id[-1] for job in expired}
