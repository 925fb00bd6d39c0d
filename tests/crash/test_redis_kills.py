"""Processes on one queue in Redis, killed and stopped at work."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import anyio
import pytest
from tests.crash.actor import job_of
from tests.crash.history import History, actor
from tests.queues.redis_bench import QUICK, namespace
from tests.queues.redis_server import BINARIES, RedisServer
from tests.queues.tcp_proxy import Cut, proxy_to

from llm_gateway.queues.redis import RedisQueue

PATIENCE = 90.0
# How long a partition lasts, in real time: longer than the clients' patience for a reply is not needed.
OUT = 1.0
VICTIMS = (("work", 21), ("submit", 40), ("relay", 33), ("work", 34), ("submit", 55), ("relay", 48))


async def settled(history: History, *, wanted: int) -> None:
    """Return when so many tickets were acknowledged and all have ended."""
    await history.until(lambda: len(history.accepted()) >= wanted and history.settled())


async def accepted(history: History, *, wanted: int) -> None:
    """Return when so many tickets were acknowledged."""
    await history.until(lambda: len(history.accepted()) >= wanted)


async def run(history: History, role: str, where: tuple[str, str, str], *, number: int = 0) -> None:
    """Run a process to its end."""
    async with actor(history, role, *where, number=number) as process:
        await process.follow(until="end")


async def killed(history: History, role: str, where: tuple[str, str, str], *, after: int) -> None:
    """Run a process and kill it after so many lines. What it had said before it died counts: it was told so."""
    async with actor(history, role, *where, number=100_000) as victim:
        for _ in range(after):
            await victim.line()
        victim.process.send_signal(signal.SIGKILL)
        await victim.follow()


async def test_storm_of_kills_loses_nothing(redis: RedisServer) -> None:
    """600 jobs and more, workers, relays and submitters killed six times: none lost, none stuck, none told twice."""
    history, where = History(), (redis.url, namespace(), "process")
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(partial(run, history, "submit", where, number=300))
            for role, after in VICTIMS:
                await killed(history, role, where, after=after)
            for role in ("work", "relay"):
                tasks.start_soon(run, history, role, where)
            await settled(history, wanted=600)
            tasks.cancel_scope.cancel()
    history.check()


async def test_zombie_is_fenced(redis: RedisServer) -> None:
    """A worker stopped past its lease cannot finish when it goes on; the result that came meanwhile stands."""
    history, name = History(), namespace()
    queue = RedisQueue(redis.url, namespace=name, redis=QUICK, strict=False)
    await queue.start(outbox=True)
    with anyio.fail_after(PATIENCE):
        reply = await queue.enqueue(job_of(queue, "k"))
        async with actor(history, "hold", redis.url, name, "process") as zombie:
            await zombie.line()
            zombie.process.send_signal(signal.SIGSTOP)
            async with actor(history, "work", redis.url, name, "process") as other:
                while (current := await other.line())["what"] != "finished":
                    pass
            zombie.process.send_signal(signal.SIGCONT)
            await zombie.go()
            assert "fenced" == (await zombie.line())["what"]
        result = await queue.result("", reply.job.ticket_id)
        assert str(current["result"]).encode() == result
    await queue.aclose()


@pytest.mark.parametrize("kills", [3])
async def test_killed_server_keeps_what_it_acknowledged(tmp_path: Path, kills: int) -> None:
    """A server killed and started again under load has every request it acknowledged, and each ends once."""
    server = RedisServer(tmp_path, BINARIES[0], "--appendonly", "yes", "--appendfsync", "always").start()
    history, where = History(), (server.url, "kills", "disk")
    try:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for role in ("work", "work", "relay"):
                    tasks.start_soon(run, history, role, where)
                tasks.start_soon(partial(run, history, "submit", where, number=300))
                for number in range(1, kills + 1):
                    await accepted(history, wanted=number * 60)
                    server.kill()
                    await anyio.to_thread.run_sync(server.start)
                await settled(history, wanted=300)
                tasks.cancel_scope.cancel()
    finally:
        server.kill()
    history.check()


@pytest.mark.parametrize("cut", [Cut.BLACKHOLE, Cut.BLACKHOLE_REPLIES, Cut.RESET_AFTER_REQUEST, Cut.REFUSE])
async def test_partition_loses_nothing(redis: RedisServer, cut: Cut) -> None:
    """Clients cut off from the server and let back again lose nothing, and no key gets two tickets."""
    async with proxy_to(redis.port) as proxy:
        history, where = History(), (proxy.url, namespace(), "process")
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for role in ("work", "relay"):
                    tasks.start_soon(run, history, role, where)
                tasks.start_soon(partial(run, history, "submit", where, number=200))
                for number in range(1, 4):
                    await accepted(history, wanted=number * 40)
                    proxy.cut = cut
                    proxy.sever()
                    await anyio.sleep(OUT)
                    proxy.cut = Cut.NONE
                await settled(history, wanted=200)
                tasks.cancel_scope.cancel()
        history.check()
