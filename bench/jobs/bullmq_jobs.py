"""BullMQ for Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import AT_ONCE, PAYLOAD, RESULT, Done, Front, Peer, report
from bullmq import Queue, QueueEvents, Worker

NAME = "jobs"
DATA = {"payload": PAYLOAD}
LOT = 200
CONNECTING = 0.5
PATIENCE = 5


class Results:
    """Reads results as they are told, from the first that is waited for."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._events: QueueEvents | None = None
        self._told: dict[str, asyncio.Future[object]] = {}

    async def start(self) -> None:
        """Read from now on."""
        if self._events is None:
            self._events = QueueEvents(NAME, {"connection": self._url})
            self._events.on("completed", self._completed)
            # It begins at the end of the stream, once it is connected, which nothing shows.
            await asyncio.sleep(CONNECTING)

    async def of(self, job: str) -> object:
        """Return a job's result; it may be told before its id is known here."""
        try:
            return await asyncio.wait_for(self._place(job), PATIENCE)
        finally:
            del self._told[job]

    def _place(self, job: str) -> asyncio.Future[object]:
        return self._told.setdefault(job, asyncio.get_running_loop().create_future())

    def _completed(self, event: dict[str, object], *_: object) -> None:
        self._place(str(event["jobId"])).set_result(event.get("returnvalue"))


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    queue, results = Queue(NAME, {"connection": url}), Results(url)

    async def call() -> object:
        await results.start()
        return await results.of((await queue.add("noop", DATA)).id)

    async def enqueue_many(jobs: int) -> None:
        for first in range(0, jobs, LOT):
            await queue.addBulk([{"name": "noop", "data": DATA} for _ in range(min(LOT, jobs - first))])

    try:
        yield Front(enqueue=lambda: queue.add("noop", DATA), call=call, enqueue_many=enqueue_many)
    finally:
        # Closing the events waits for a read that blocks; they end with the process.
        await queue.close()


async def work(url: str, done: Done) -> None:
    """Work until cancelled."""

    async def noop(_job: object, _token: str) -> str:
        done()
        return RESULT

    Worker(NAME, noop, {"connection": url, "concurrency": AT_ONCE})
    await asyncio.Event().wait()


if __name__ == "__main__":
    report(Peer(opened, work, ("bullmq", "redis", "hiredis", "uvloop")))
