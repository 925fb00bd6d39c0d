"""A server whose replica has fallen behind: what was done before is not told as safe when it is asked for again."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pytest
from tests.queues.redis_bench import QUICK, command, namespace, redis_bench
from tests.queues.redis_server import BINARIES, UP_SECONDS, RedisServer
from tests.queues.tcp_proxy import Cut, proxy_to

from llm_gateway._core.jobs import Complete
from llm_gateway.errors import DurabilityUnknown
from llm_gateway.testing.conformance.bench import TENANT, Bench

# A replica says once a second what is on its disk.
SURE: Final = QUICK.model_copy(update={"durability": "replicated", "wait_timeout": 5.0})
HASTY: Final = SURE.model_copy(update={"wait_timeout": 0.1})
KEPT: Final = ("--appendonly", "yes", "--appendfsync", "always")
Ask = Callable[[Bench], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Pair:
    """A server and its replica."""

    first: RedisServer
    second: RedisServer

    async def catch_up(self) -> None:
        """Let the replica go on, and return when it has all that the server has."""
        self.second.thaw()
        until = time.monotonic() + UP_SECONDS
        while True:
            _, replicas = await command(self.first.url, ("SET", "last", 1), ("WAIT", 1, 200))
            if replicas == 1:
                return
            assert time.monotonic() < until, "the replica never caught up"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Give a server with a replica: new ones, which do not pass on what scripts they are told."""
    first = RedisServer(tmp_path_factory.mktemp("first"), BINARIES[0], *KEPT, "--repl-diskless-sync-delay", "0").start()
    try:
        of = ("--replicaof", "127.0.0.1", str(first.port))
        second = RedisServer(tmp_path_factory.mktemp("second"), BINARIES[0], *KEPT, *of).start()
        yield Pair(first, second)
        second.thaw()
        second.stop()
    finally:
        first.stop()


async def submitting(b: Bench) -> Ask:
    """Submit under a key."""
    job = b.job("k")
    return lambda b: b.queue.enqueue(job)


async def finishing(b: Bench) -> Ask:
    """Finish a job."""
    lease = await b.take()
    return lambda b: b.queue.finish(lease, Complete(result=b"answer"))


async def cancelling(b: Bench) -> Ask:
    """Cancel a job."""
    ticket = (await b.put()).ticket_id
    return lambda b: b.queue.cancel(TENANT, ticket)


async def keeping(b: Bench) -> Ask:
    """Keep a tenant's key."""
    await b.put()
    return lambda b: b.queue.keep_tenant_key(TENANT, b"one")


async def dropping(b: Bench) -> Ask:
    """Drop a tenant's key."""
    await b.queue.keep_tenant_key(TENANT, b"one")
    return lambda b: b.queue.drop_tenant_key(TENANT)


async def relaying(b: Bench) -> Ask:
    """Take events out of the outbox, of a job that is not safe yet."""
    job = b.job("k")

    async def submitted_and_read(b: Bench) -> object:
        if (await b.queue.stats()).depth == 0:
            return await b.queue.enqueue(job)
        return await b.queue.unrelayed(0)

    return submitted_and_read


CASES: Final = (submitting, finishing, cancelling, keeping, dropping, relaying)


@pytest.mark.parametrize("prepare", CASES, ids=lambda prepare: prepare.__name__)
async def test_what_is_asked_for_again_is_as_unsure_as_before(
    pair: Pair, prepare: Callable[[Bench], Awaitable[Ask]]
) -> None:
    """Asked again over a new connection, what the replica has not got is still not told as safe; later it is."""
    name = namespace()
    await pair.catch_up()
    async with redis_bench(pair.first.url, redis=SURE, name=name) as b:
        ask, clock = await prepare(b), b.clock
    pair.second.freeze()
    try:
        for _ in range(2):
            async with redis_bench(pair.first.url, redis=HASTY, name=name, clock=clock) as b:
                with pytest.raises(DurabilityUnknown):
                    await ask(b)
    finally:
        await pair.catch_up()
    async with redis_bench(pair.first.url, redis=SURE, name=name, clock=clock) as b:
        await ask(b)


async def test_cancellation_whose_reply_was_lost_is_as_unsure(pair: Pair) -> None:
    """A cancellation that is repeated after its reply was lost is not told as safe before the replica has it."""
    name = namespace()
    await pair.catch_up()
    async with redis_bench(pair.first.url, redis=SURE, name=name) as b:
        ticket, clock = (await b.put()).ticket_id, b.clock
    async with proxy_to(pair.first.port) as proxy, redis_bench(proxy.url, redis=HASTY, name=name, clock=clock) as b:
        with suppress(DurabilityUnknown):
            # Both connections are made; the first reply that follows shows the ticket.
            await b.queue.unrelayed(0)
        pair.second.freeze()
        try:
            proxy.spare, proxy.cut = 1, Cut.RESET_AFTER_REQUEST
            with pytest.raises(DurabilityUnknown):
                await b.queue.cancel(TENANT, ticket)
            assert 1 == proxy.cuts
        finally:
            await pair.catch_up()
