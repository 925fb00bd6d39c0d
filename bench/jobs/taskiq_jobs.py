"""taskiq, with the stream broker and the result backend of taskiq-redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import AT_ONCE, PAYLOAD, POLL, RESULT, Done, Front, Peer, report
from taskiq import AsyncTaskiqDecoratedTask
from taskiq.api import run_receiver_task
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker


def made(url: str, done: Done) -> tuple[RedisStreamBroker, AsyncTaskiqDecoratedTask]:
    """Make the broker and its one task. By default a group would skip what was submitted before its worker came."""
    results = RedisAsyncResultBackend(url, result_ex_time=3600)
    broker = RedisStreamBroker(url, consumer_id="0").with_result_backend(results)

    async def noop(payload: str) -> str:
        del payload
        done()
        return RESULT

    return broker, broker.register_task(noop, task_name="noop")


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    broker, noop = made(url, lambda: None)
    await broker.startup()

    async def call() -> object:
        task = await noop.kiq(PAYLOAD)
        return await task.wait_result(check_interval=POLL, timeout=5)

    try:
        yield Front(enqueue=lambda: noop.kiq(PAYLOAD), call=call)
    finally:
        await broker.shutdown()


async def work(url: str, done: Done) -> None:
    """Work until cancelled."""
    broker, _ = made(url, done)
    broker.is_worker_process = True
    await broker.startup()
    await run_receiver_task(broker, max_async_tasks=AT_ONCE)


if __name__ == "__main__":
    report(Peer(opened, work, ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop")))
