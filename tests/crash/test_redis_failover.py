"""A primary that is lost with its replica cut off: what was acknowledged as replicated is there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.crash.history import History, actor
from tests.queues.redis_bench import QUICK, command, redis_bench
from tests.queues.redis_server import BINARIES, RedisServer
from tests.queues.tcp_proxy import Cut, proxy_to

from llm_gateway.errors import DurabilityUnknown
from llm_gateway.queues.redis import RedisQueue

PATIENCE = 60.0
KEPT = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
NAME = "failover"


async def replicating(url: str) -> None:
    """Return when the server has a replica that is in step."""
    assert 1 == (await command(url, ("SET", "step", "1"), ("WAIT", 1, 20_000)))[1]


@pytest.mark.parametrize("binary", BINARIES, ids=lambda binary: Path(binary).parents[1].name)
async def test_acknowledged_is_there_after_failover(tmp_path: Path, binary: str) -> None:
    """With the replica cut off nothing is acknowledged; what had been is on the replica that takes over."""
    primary = RedisServer(tmp_path / "primary", binary, *KEPT).start()
    async with proxy_to(primary.port) as way:
        replica = RedisServer(tmp_path / "replica", binary, *KEPT, "--replicaof", "127.0.0.1", str(way.port))
        replica.start()
        history = History()
        try:
            with anyio.fail_after(PATIENCE):
                await replicating(primary.url)
                async with anyio.create_task_group() as tasks:
                    for _ in range(4):
                        tasks.start_soon(partial(submit, history, primary.url))
                    await history.until(lambda: len(history.accepted()) >= 200)
                    way.cut = Cut.BLACKHOLE
                    await history.until(lambda: history.of("unknown"))
                    primary.kill()
                    tasks.cancel_scope.cancel()
                await command(replica.url, ("REPLICAOF", "NO", "ONE"))
                await found(history, replica.url)
        finally:
            primary.kill()
            replica.kill()


async def test_asking_again_elsewhere_waits_too(tmp_path: Path) -> None:
    """A submit asked again over a new connection finds its ticket, and is as unsure of its replica as before."""
    primary = RedisServer(tmp_path / "primary", BINARIES[0], *KEPT).start()
    async with proxy_to(primary.port) as way:
        replica = RedisServer(tmp_path / "replica", BINARIES[0], *KEPT, "--replicaof", "127.0.0.1", str(way.port))
        replica.start()
        sure = QUICK.model_copy(update={"durability": "replicated", "wait_timeout": 0.5})
        patient = sure.model_copy(update={"wait_timeout": 20.0})
        try:
            with anyio.fail_after(PATIENCE):
                await replicating(primary.url)
                async with redis_bench(primary.url, redis=patient, name=NAME) as b:
                    await b.put(b.job("before"))
                way.cut = Cut.BLACKHOLE
                for _ in range(2):
                    async with redis_bench(primary.url, redis=sure, name=NAME) as b:
                        with pytest.raises(DurabilityUnknown):
                            await b.queue.enqueue(b.job("k"))
        finally:
            primary.kill()
            replica.kill()


async def submit(history: History, url: str) -> None:
    """Submit until the server is gone."""
    async with actor(history, "submit", url, NAME, "replicated", number=100_000) as process:
        await process.follow(until="end")


async def found(history: History, url: str) -> None:
    """Check that each acknowledged ticket is on this server.

    Raises:
        AssertionError: one is not.
    """
    queue = RedisQueue(url, namespace=NAME, redis=QUICK, strict=False)
    await queue.start(outbox=True)
    tickets = history.accepted()
    lost = [key for key in tickets if await queue.find("", key) is None]
    await queue.aclose()
    assert [] == lost, f"{len(lost)} of {len(tickets)} acknowledged submits are lost"
