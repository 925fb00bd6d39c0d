"""The reply of every script is lost once: what was done is done once, and the caller learns of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from tests.queues.redis_bench import redis_bench
from tests.queues.redis_server import RedisServer
from tests.queues.tcp_proxy import Cut, TcpProxy, proxy_to

from llm_gateway._core.jobs import AdoptedBy, Complete, Disposition, Fail, Park, Release, Retry
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import DurabilityUnknown
from llm_gateway.testing.conformance.bench import BOOM, LANE, LEASE, TENANT, Bench

DISPOSITIONS: list[Disposition] = [
    Complete(result=b"answer"),
    Fail(error=BOOM),
    Retry(error=BOOM, delay=5, max_attempts=3),
    Release(reason="circuit_open", delay=5),
    Park(reason="needs_operator"),
]


@asynccontextmanager
async def behind_proxy(server: RedisServer) -> AsyncGenerator[tuple[Bench, TcpProxy]]:
    """Give a queue whose next reply can be cut."""
    async with proxy_to(server.port) as proxy, redis_bench(proxy.url) as b:
        yield b, proxy


def cut(proxy: TcpProxy) -> None:
    """Lose the next reply."""
    proxy.cut = Cut.RESET_AFTER_REQUEST


async def test_submit(redis: RedisServer) -> None:
    """A submit whose reply was lost stores one job and says that it is new."""
    async with behind_proxy(redis) as (b, proxy):
        cut(proxy)
        reply = await b.queue.enqueue(b.job("k"))
        assert (1, True) == (proxy.cuts, reply.created)
        assert ((1, 1), 1) == (((stats := await b.queue.stats()).depth, stats.outbox), (await b.lane()).ready)


async def test_submit_many(redis: RedisServer) -> None:
    """Many submits whose replies were lost store each job once."""
    async with behind_proxy(redis) as (b, proxy):
        cut(proxy)
        replies = await b.queue.enqueue_many([b.job() for _ in range(50)])
        assert [True] * 50 == [getattr(reply, "created", reply) for reply in replies]
        assert 50 == (await b.queue.stats()).depth


async def test_adopt(redis: RedisServer) -> None:
    """An adopted job whose reply was lost is held by the caller that adopted it."""
    async with behind_proxy(redis) as (b, proxy):
        cut(proxy)
        reply = await b.queue.enqueue(b.job(), adopted_by=AdoptedBy(worker="live", lease_seconds=LEASE))
        assert reply.lease is not None
        await b.complete(reply.lease)
        assert b"the answer" == await b.queue.result(TENANT, reply.job.ticket_id)


async def test_claim(redis: RedisServer) -> None:
    """A claim whose reply was lost gives the jobs it took, and no others."""
    async with behind_proxy(redis) as (b, proxy):
        views = [await b.put() for _ in range(5)]
        cut(proxy)
        leases = await b.claim(3)
        assert [view.ticket_id for view in views[:3]] == [lease.job.ticket_id for lease in leases]
        assert (3, 2) == ((lane := await b.lane()).processing, lane.ready)


@pytest.mark.parametrize("disposition", DISPOSITIONS, ids=lambda disposition: type(disposition).__name__)
async def test_finish(redis: RedisServer, disposition: Disposition) -> None:
    """A finish whose reply was lost is accepted and counted once."""
    async with behind_proxy(redis) as (b, proxy):
        lease = await b.take()
        cut(proxy)
        reply = await b.queue.finish(lease, disposition)
        view = await b.view(lease.job.ticket_id)
        spent = int(isinstance(disposition, Complete | Fail | Retry))
        assert (1, True, view.state, 3, spent) == (
            proxy.cuts,
            reply.accepted,
            reply.state,
            view.version,
            view.attempts,
        )


async def test_extend(redis: RedisServer) -> None:
    """An extension whose reply was lost holds."""
    async with behind_proxy(redis) as (b, proxy):
        lease = await b.take()
        b.clock.advance(LEASE - 1)
        cut(proxy)
        assert await b.queue.extend(lease, LEASE)
        b.clock.advance(LEASE - 1)
        assert 0 == (await b.queue.sweep()).recovered


async def test_cancel_group(redis: RedisServer) -> None:
    """Cancelling a group whose reply was lost counts what it cancelled."""
    async with behind_proxy(redis) as (b, proxy):
        for _ in range(3):
            await b.put(replace(b.job(), group="g"))
        members = b.queue.cancel_group(TENANT, "g")
        proxy.cut = Cut.RESET_AFTER_REQUEST
        assert 3 == await members
        assert (1, 0) == (proxy.cuts, (await b.queue.stats()).depth)


@pytest.mark.parametrize("lost", [0, 1])
async def test_erase(redis: RedisServer, lost: int) -> None:
    """An erasure whose reply was lost reports what it removed, whichever of its steps it was."""
    async with behind_proxy(redis) as (b, proxy):
        lease = await b.take()
        ticket = lease.job.ticket_id
        skipping(proxy, lost)
        report = await b.queue.erase(TENANT, ticket_id=ticket)
        assert ((ticket,), 1, ("echo", "payload")) == (report.tickets, report.cancelled, report.removed)
        assert 1 == proxy.cuts


async def test_sweep(redis: RedisServer) -> None:
    """A sweep whose reply was lost takes back once: one crash is counted."""
    async with behind_proxy(redis) as (b, proxy):
        lease = await b.take()
        b.clock.advance(LEASE + 1)
        cut(proxy)
        await b.queue.sweep()
        assert (1, TicketState.QUEUED) == (
            (view := await b.view(lease.job.ticket_id)).crashes,
            view.state,
        )


async def test_resume(redis: RedisServer) -> None:
    """A resume whose reply was lost lets each job go once."""
    async with behind_proxy(redis) as (b, proxy):
        lease = await b.take()
        await b.queue.finish(lease, Park(reason="needs_operator"))
        cut(proxy)
        await b.queue.resume(LANE)
        assert (4, "resumed") == ((view := await b.view(lease.job.ticket_id)).version, view.reason)


async def test_pin(redis: RedisServer) -> None:
    """A pin whose reply was lost is the caller's own, and the first one's for whoever comes after."""
    async with behind_proxy(redis) as (b, proxy):
        cut(proxy)
        pins = [await b.queue.pin(TENANT, "g", LANE, model) for model in ("m-1", "m-2")]
        assert (1, ["m-1", "m-1"]) == (proxy.cuts, pins)


async def test_two_lost_replies_are_told_as_unknown(redis: RedisServer) -> None:
    """A submit that cannot be confirmed is told as such, and asking again with its key finds the one job."""
    async with behind_proxy(redis) as (b, proxy):
        await b.queue.stats()
        proxy.cut = Cut.BLACKHOLE_REPLIES
        with pytest.raises(DurabilityUnknown):
            await b.queue.enqueue(b.job("k"))
        proxy.cut = Cut.NONE
        again = await b.queue.enqueue(b.job("k"))
        assert (False, 1) == (again.created, (await b.queue.stats()).depth)


def skipping(proxy: TcpProxy, replies: int) -> None:
    """Lose not the next reply but the one after so many."""
    proxy.spare = replies
    proxy.cut = Cut.RESET_AFTER_REQUEST
