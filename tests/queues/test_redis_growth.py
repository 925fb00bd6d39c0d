"""Nothing in Redis grows with the jobs that have gone: what they leave is found again, or ends by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.queues.redis_bench import QUICK, command, namespace, redis_bench
from tests.queues.redis_server import RedisServer
from tests.queues.tcp_proxy import Cut, proxy_to

from llm_gateway._core.jobs import Complete, Fail
from llm_gateway.errors import DurabilityUnknown
from llm_gateway.options import QueueOptions
from llm_gateway.queues.redis.keys import lane_name
from llm_gateway.queues.redis.rows import integer, items, text
from llm_gateway.testing.conformance.bench import BOOM, LANE, LEASE, OTHER_LANE, TENANT, Bench

MINUTE = timedelta(seconds=60)
SHORT = QueueOptions(result_retention=MINUTE, dead_letter_retention=MINUTE)
ENDED = 100.0


async def names(server: RedisServer, name: str, kind: str) -> set[str]:
    """Return the keys of a kind, in every shard."""
    (found,) = await command(server.url, ("KEYS", f"{{{name}:*}}:{kind}*"))
    return {text(key).partition("}:")[2] for key in items(found)}


async def members(server: RedisServer, name: str, key: str) -> set[str]:
    """Return a set of the first shard."""
    (found,) = await command(server.url, ("SMEMBERS", f"{{{name}:0}}:{key}"))
    return {text(member) for member in items(found)}


async def forget(b: Bench) -> None:
    """Let everything that has ended be buried and forgotten."""
    b.clock.advance(ENDED + MINUTE.total_seconds() + 1)
    for _ in range(3):
        await b.queue.sweep()


async def test_tenant_goes_with_its_last_job(redis: RedisServer) -> None:
    """A tenant is listed as long as one of its jobs is kept, and no longer."""
    name = namespace()
    async with redis_bench(redis.url, SHORT, name=name, outbox=False) as b:
        await b.put()
        await b.put(b.job(ttl=ENDED))
        brief = await b.put(b.job(ttl=ENDED, tenant="brief"))
        await b.queue.erase("brief", ticket_id=brief.ticket_id)
        await b.put(b.job(ttl=ENDED, tenant="expired"))
        assert {TENANT, "expired"} == await members(redis, name, "tenants")
        await forget(b)
        await forget(b)
        assert ({TENANT}, 1) == (await members(redis, name, "tenants"), len(await b.queue.list_jobs()))


async def test_tenant_of_a_job_that_cannot_be_mended_goes_too(redis: RedisServer) -> None:
    """A job of which nothing can be read leaves its tenant's list."""
    name = namespace()
    async with redis_bench(redis.url, name=name, outbox=False) as b:
        view = await b.put()
        key = f"{{{name}:0}}:j:{view.ticket_id}"
        await command(redis.url, ("DEL", key), ("SET", key, "foreign"))
        await b.claim()
        await b.queue.sweep()
        assert (set(), set()) == (await members(redis, name, "tenants"), await names(redis, name, "l:"))


async def test_pin_whose_replies_are_lost_ends_by_itself(redis: RedisServer) -> None:
    """A pin is never without an end, even when nobody is left to give it one."""
    name = namespace()
    hasty = QUICK.model_copy(update={"reply_timeout": 0.3})
    async with proxy_to(redis.port) as proxy, redis_bench(proxy.url, name=name, redis=hasty) as b:
        await b.queue.stats()
        proxy.cut = Cut.BLACKHOLE_REPLIES
        with pytest.raises(DurabilityUnknown):
            await b.queue.pin(TENANT, "g", LANE, "m-1")
        proxy.cut = Cut.NONE
        (key,) = await names(redis, name, "pin:")
        (left,) = await command(redis.url, ("PTTL", f"{{{name}:0}}:{key}"))
        assert 89 * 24 * 3600 * 1000 < integer(left)
        assert "m-1" == await b.queue.pin(TENANT, "g", LANE, "m-2")


async def test_claim_id_is_known_while_it_can_be_asked_again(redis: RedisServer) -> None:
    """The id of a claim outlives its leases by the tries that may still be on their way, and no more."""
    name = namespace()
    async with redis_bench(redis.url, name=name) as b:
        await b.take()
        (key,) = await names(redis, name, "clm:")
        (left,) = await command(redis.url, ("PTTL", f"{{{name}:0}}:{key}"))
    assert LEASE + QUICK.reply_timeout < integer(left) / 1000 <= LEASE + 2 * QUICK.reply_timeout


@pytest.mark.parametrize("end", ["cancel", "expire"])
async def test_flows_go_with_the_last_job_of_a_lane(redis: RedisServer, end: str) -> None:
    """In a lane that nobody claims from the flows of its tenants go when its jobs have ended, not before."""
    name = namespace()
    async with redis_bench(redis.url, name=name, outbox=False) as b:
        views = [await b.put(b.job(ttl=ENDED, tenant=f"tenant-{number}")) for number in range(20)]
        await b.queue.sweep()
        assert {f"vt:{lane_name(LANE)}"} == await names(redis, name, "vt:")
        if end == "cancel":
            for view in views:
                await b.queue.cancel(view.tenant, view.ticket_id)
        else:
            b.clock.advance(ENDED)
        await b.queue.sweep()
        assert set() == await names(redis, name, "vt:")


@pytest.mark.parametrize("shards", [1, 3])
async def test_held_group_goes_with_its_last_job(redis: RedisServer, shards: int) -> None:
    """A group is held in every shard while any job of it is kept, and forgotten when the last one is."""
    name = namespace()
    redis_options = QUICK.model_copy(update={"shards": shards})
    async with redis_bench(redis.url, SHORT, name=name, redis=redis_options, outbox=False) as b:
        lease = await b.take(replace(b.job(ttl=ENDED), group="g"))
        await b.queue.finish(lease, Fail(error=BOOM, park_group="model_changed"))
        late = [await b.put(replace(b.job(ttl=2 * ENDED), group="g")) for _ in range(8)]
        # Retention of the one that failed is over; others are parked still.
        b.clock.advance(ENDED)
        await b.queue.sweep()
        assert ([], 8) == (await b.claim(9), (await b.lane()).parked)
        assert shards == len(await held_in(redis, name))
        for view in late:
            await b.queue.cancel(TENANT, view.ticket_id)
        for _ in range(3):
            await forget(b)
        assert set() == await held_in(redis, name) | await names(redis, name, "held")


async def held_in(server: RedisServer, name: str) -> set[str]:
    """Return the whole names of the keys that hold groups, of all shards."""
    (found,) = await command(server.url, ("KEYS", f"{{{name}:*}}:pg:*"))
    return {text(key) for key in items(found)}


async def test_resumed_group_is_not_held_again(redis: RedisServer) -> None:
    """A group that was let go stays free when its hold would have been looked over."""
    async with redis_bench(redis.url, SHORT, outbox=False) as b:
        lease = await b.take(replace(b.job(), group="g"))
        await b.queue.finish(lease, Fail(error=BOOM, park_group="model_changed"))
        waiting = await b.put(replace(b.job(), group="g"))
        await b.queue.resume(LANE)
        await forget(b)
        assert [waiting.ticket_id] == [lease.job.ticket_id for lease in await b.claim(2)]


async def test_keys_of_tenants_are_listed(redis: RedisServer) -> None:
    """The key of a tenant, which no job leads to, stands in a list until it is dropped."""
    name = namespace()
    async with redis_bench(redis.url, name=name) as b:
        for tenant in ("a", "b"):
            await b.queue.keep_tenant_key(tenant, b"wrapped")
        assert {"k:a", "k:b"} == await members(redis, name, "kept")
        await b.queue.drop_tenant_key("a")
        assert {"k:b"} == await members(redis, name, "kept") == await names(redis, name, "k:")


async def test_erased_job_whose_event_has_left_is_forgotten(redis: RedisServer) -> None:
    """What was buried before its event left is found again when that is acknowledged."""
    name = namespace()
    async with redis_bench(redis.url, SHORT, name=name) as b:
        lease = await b.take(b.job(ttl=ENDED))
        await b.queue.finish(lease, Complete(result=b"answer"))
        await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
        await b.relay_all()
        await forget(b)
        assert set() == await names(redis, name, "j:") | await names(redis, name, "i:") | await names(redis, name, "l:")


async def test_group_without_jobs_is_held_for_a_while(redis: RedisServer) -> None:
    """A group is held for jobs that are still to come, also when its last one is erased, for the longest retention."""
    long = QueueOptions(result_retention=MINUTE, dead_letter_retention=2 * MINUTE)
    async with redis_bench(redis.url, long, outbox=False) as b:
        lease = await b.take(replace(b.job(), group="g"))
        await b.queue.finish(lease, Fail(error=BOOM, park_group="model_changed"))
        await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
        b.clock.advance(119)
        await b.queue.sweep()
        late = await b.put(replace(b.job(), group="g"))
        assert [] == await b.claim()
        await b.queue.erase(TENANT, ticket_id=late.ticket_id)
        b.clock.advance(1)
        await b.queue.sweep()
        await b.put(replace(b.job(), group="g"))
        assert 1 == len(await b.claim())


async def test_group_with_jobs_is_held_as_long_again(redis: RedisServer) -> None:
    """A group that still has jobs when its hold is looked over is held for as long again, also when they go at once."""
    async with redis_bench(redis.url, SHORT, outbox=False) as b:
        lease = await b.take(replace(b.job(), group="g"))
        await b.queue.finish(lease, Fail(error=BOOM, park_group="model_changed"))
        late = await b.put(replace(b.job(), group="g"))
        b.clock.advance(60)
        await b.queue.sweep()
        await b.queue.erase(TENANT, ticket_id=late.ticket_id)
        b.clock.advance(59)
        await b.queue.sweep()
        await b.put(replace(b.job(), group="g"))
        assert [] == await b.claim()


async def test_idle_lane_forgets_its_flows_and_busy_ones_do_not(redis: RedisServer) -> None:
    """Where nobody waits any longer no tenant keeps its place in line; where somebody does, all do."""
    async with redis_bench(redis.url, name=(name := namespace()), outbox=False) as b:
        ended, _ = await b.put(), await b.put(replace(b.job(), lane=OTHER_LANE))
        await b.queue.cancel(TENANT, ended.ticket_id)
        await b.queue.sweep()
        assert {f"vt:{lane_name(OTHER_LANE)}"} == await names(redis, name, "vt:")
