"""saq."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import AT_ONCE, CALLERS, PAYLOAD, POLL, RESULT, Done, Front, Peer, report
from saq import Queue, Worker


def queue_at(url: str) -> Queue:
    """Name the queue, with as many operations at once as there are callers or jobs."""
    return Queue.from_url(url, max_concurrent_ops=max(CALLERS, AT_ONCE))


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    queue = queue_at(url)
    await queue.connect()
    try:
        yield Front(
            enqueue=lambda: queue.enqueue("noop", payload=PAYLOAD),
            call=lambda: queue.apply("noop", timeout=5, poll_interval=POLL, payload=PAYLOAD),
        )
    finally:
        await queue.disconnect()


async def work(url: str, done: Done) -> None:
    """Work until cancelled."""

    async def noop(_ctx: object, *, payload: str) -> str:
        del payload
        done()
        return RESULT

    worker = Worker(queue_at(url), [("noop", noop)], concurrency=AT_ONCE)
    await worker.start()


if __name__ == "__main__":
    report(Peer(opened, work, ("saq", "redis", "hiredis", "uvloop")))
