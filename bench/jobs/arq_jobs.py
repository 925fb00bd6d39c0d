"""arq."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import AT_ONCE, PAYLOAD, POLL, RESULT, Done, Front, Peer, report
from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker, func


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    pool = await create_pool(RedisSettings.from_dsn(url))

    async def call() -> object:
        job = await pool.enqueue_job("noop", PAYLOAD)
        return await job.result(timeout=5, poll_delay=POLL)

    try:
        yield Front(enqueue=lambda: pool.enqueue_job("noop", PAYLOAD), call=call)
    finally:
        await pool.aclose()


async def work(url: str, done: Done) -> None:
    """Work until cancelled."""

    async def noop(_ctx: object, _payload: str) -> str:
        done()
        return RESULT

    worker = Worker(
        [func(noop, name="noop")],
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=AT_ONCE,
        poll_delay=POLL,
        handle_signals=False,
        log_results=False,
    )
    await worker.async_run()


if __name__ == "__main__":
    report(Peer(opened, work, ("arq", "redis", "hiredis", "uvloop")))
