"""A queue in Redis under test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from typing import Final

from llm_gateway._io.redis import Command, RedisLink
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import Bench

__all__ = ["QUICK", "command", "namespace", "redis_bench"]

NUMBERS: Final = count(1)
QUICK: Final = RedisOptions(durability="process", reply_timeout=2.0)


def namespace() -> str:
    """Return a namespace that no other test of this server has."""
    return f"test-{next(NUMBERS)}"


async def command(url: str, *commands: Command) -> list[object]:
    """Run commands on a server."""
    link = RedisLink(url, connect_timeout=5.0, reply_timeout=30.0)
    try:
        return await link.ask(*commands)
    finally:
        await link.aclose()


@asynccontextmanager
async def redis_bench(
    url: str,
    options: QueueOptions | None = None,
    *,
    redis: RedisOptions = QUICK,
    outbox: bool = True,
    name: str | None = None,
    clock: FakeClock | None = None,
) -> AsyncGenerator[Bench]:
    """Open a queue and close it afterwards."""
    time = clock or FakeClock()
    queue = RedisQueue(
        url, options or QueueOptions(), namespace=name or namespace(), redis=redis, strict=False, clock=time
    )
    await queue.start(outbox=outbox)
    try:
        yield Bench(queue, time, count(1))
    finally:
        await queue.aclose()
