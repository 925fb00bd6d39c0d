"""A bare stream with a consumer group: what the server and redis-py allow when nothing is promised."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from _measure import AT_ONCE, PAYLOAD, RESULT, Done, Front, Peer, report
from redis.asyncio import Redis
from redis.exceptions import ResponseError

STREAM, GROUP = "jobs", "workers"
LOT = 200


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    async with Redis.from_url(url, socket_timeout=None) as redis:

        async def call() -> object:
            inbox = f"r:{uuid4().hex}"
            await redis.xadd(STREAM, {"p": PAYLOAD, "to": inbox})
            return await redis.blpop([inbox], timeout=5)

        async def enqueue_many(jobs: int) -> None:
            for first in range(0, jobs, LOT):
                async with redis.pipeline(transaction=False) as pipe:
                    for number in range(first, min(first + LOT, jobs)):
                        pipe.xadd(STREAM, {"p": PAYLOAD, "to": f"r:{number}"})
                    await pipe.execute()

        yield Front(
            enqueue=lambda: redis.xadd(STREAM, {"p": PAYLOAD, "to": f"r:{uuid4().hex}"}),
            call=call,
            enqueue_many=enqueue_many,
        )


async def work(url: str, done: Done) -> None:
    """Read lots, and answer a lot in one write."""
    async with Redis.from_url(url, socket_timeout=None) as redis:
        with suppress(ResponseError):
            await redis.xgroup_create(STREAM, GROUP, "0", mkstream=True)
        while True:
            told = await redis.xreadgroup(GROUP, "one", {STREAM: ">"}, count=AT_ONCE, block=5000)
            async with redis.pipeline(transaction=False) as pipe:
                for _, entries in told or ():
                    for entry, fields in entries:
                        done()
                        pipe.rpush(fields[b"to"], RESULT).expire(fields[b"to"], 3600)
                        pipe.xack(STREAM, GROUP, entry).xdel(STREAM, entry)
                await pipe.execute()


if __name__ == "__main__":
    report(Peer(opened, work, ("redis", "hiredis", "uvloop")))
