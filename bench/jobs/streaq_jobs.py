"""streaq."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import AT_ONCE, PAYLOAD, RESULT, Done, Front, Peer, report
from streaq import Worker

LOT = 200


def made(url: str, done: Done) -> tuple[Worker, object]:
    """Make the worker, which is also what submits, and its one task."""
    worker = Worker(redis_url=url, concurrency=AT_ONCE, handle_signals=False)

    async def noop(payload: str) -> str:
        del payload
        done()
        return RESULT

    return worker, worker.task(name="noop")(noop)


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    worker, noop = made(url, lambda: None)

    async def enqueue() -> object:
        return await noop.enqueue(PAYLOAD)

    async def call() -> object:
        return await (await noop.enqueue(PAYLOAD)).result(timeout=5)

    async def enqueue_many(jobs: int) -> None:
        for first in range(0, jobs, LOT):
            await worker.enqueue_many([noop.enqueue(PAYLOAD) for _ in range(min(LOT, jobs - first))])

    async with worker:
        yield Front(enqueue=enqueue, call=call, enqueue_many=enqueue_many)


async def work(url: str, done: Done) -> None:
    """Work until cancelled."""
    worker, _ = made(url, done)
    await worker.run_async()


if __name__ == "__main__":
    report(Peer(opened, work, ("streaq", "coredis", "hiredis", "uvloop")))
