"""The queue of this library, without the policies and providers around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

from _measure import AT_ONCE, PAYLOAD, RESULT, Done, Front, Peer, report

from llm_gateway._core.jobs import Complete, Lane, Lease, NewJob
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Sent
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.protocols import PayloadCodec
from llm_gateway.queues.redis import RedisQueue

__all__ = ["peer"]

Sealing = Callable[[RedisQueue], PayloadCodec]
LANE = Lane("simulated", "judge-1")
TENANT = "school-1"
ECHO = b'{"metadata":{"essay_a_id":"e-104","essay_b_id":"e-877"},"correlation_id":"c-55021"}'
OPTIONS = QueueOptions(max_depth=2_000_000, max_bytes=1 << 40)
TTL = timedelta(hours=3)
# The others carry such facts within their payload.
PLAIN = PAYLOAD.encode()[: len(PAYLOAD) - len(ECHO)]
CLAIMED = AT_ONCE // 2


@asynccontextmanager
async def started(url: str) -> AsyncGenerator[RedisQueue]:
    """Open the queue; the server alone decides when it syncs, as it does for the peers."""
    queue = RedisQueue(url, OPTIONS, redis=RedisOptions(durability="process"), strict=False)
    await queue.start(outbox=False)
    try:
        yield queue
    finally:
        await queue.aclose()


@asynccontextmanager
async def opened(url: str, sealing: Sealing) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    async with started(url) as queue:
        numbers, codec = count(), sealing(queue)

        async def made() -> NewJob:
            now, key = datetime.now(UTC), f"{id(queue):x}-{next(numbers)}"
            ticket = queue.mint(TENANT, key)
            return NewJob(
                ticket_id=ticket,
                tenant=TENANT,
                lane=LANE,
                idempotency_key=key,
                fingerprint=await codec.digest(PLAIN, tenant=TENANT),
                priority=Priority.BATCH,
                created_at=now,
                expires_at=now + TTL,
                echo=ECHO,
                payload=await codec.seal(PLAIN, tenant=TENANT, ticket_id=ticket, kind="payload"),
            )

        async def enqueue() -> object:
            return await queue.enqueue(await made())

        async def call() -> bytes:
            ticket = (await queue.enqueue(await made())).job.ticket_id
            stored = (await queue.ended(TENANT, ticket)).result
            return await codec.open(stored or b"", tenant=TENANT, ticket_id=ticket, kind="result")

        async def enqueue_many(jobs: int) -> object:
            return await queue.enqueue_many([await made() for _ in range(jobs)])

        yield Front(enqueue=enqueue, call=call, enqueue_many=enqueue_many)


class Hands:
    """Finishes jobs, each in a task of its own, and tells when there is room for more."""

    def __init__(self, queue: RedisQueue, codec: PayloadCodec, done: Done) -> None:
        self._queue = queue
        self._codec = codec
        self._done = done
        self._tasks = set[asyncio.Task[None]]()
        self._freed = asyncio.Event()

    @property
    def room(self) -> int:
        """How many more may be taken."""
        return AT_ONCE - len(self._tasks)

    def take(self, lease: Lease) -> None:
        """Finish a job."""
        task = asyncio.create_task(self._finish(lease))
        self._tasks.add(task)
        task.add_done_callback(self._freed_by)

    async def wait(self) -> None:
        """Return when there is room: few at a time would cost a claim for every few."""
        while len(self._tasks) > CLAIMED:
            self._freed.clear()
            await self._freed.wait()

    def _freed_by(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.result()
        if len(self._tasks) <= CLAIMED:
            self._freed.set()

    async def _finish(self, lease: Lease) -> None:
        ticket, now = lease.job.ticket_id, datetime.now(UTC)
        await self._codec.open(lease.payload, tenant=TENANT, ticket_id=ticket, kind="payload")
        self._done()
        sealed = await self._codec.seal(RESULT.encode(), tenant=TENANT, ticket_id=ticket, kind="result")
        tried = Attempt(id=f"{ticket}-1", started_at=now, ended_at=now, sent=Sent.YES)
        await self._queue.finish(lease, Complete(result=sealed, attempt=tried))


async def work(url: str, done: Done, sealing: Sealing) -> None:
    """Claim what there is room for; when that is less, wait to be told of more."""
    claims, ready = count(), None
    async with started(url) as queue:
        hands = Hands(queue, sealing(queue), done)
        while True:
            room, claim = hands.room, f"{id(queue):x}-{next(claims)}"
            leases = await queue.claim(LANE, room, worker="worker-1", lease_seconds=60.0, claim_id=claim)
            for lease in leases:
                hands.take(lease)
            if len(leases) < room:
                if ready is not None:
                    await ready
                # What comes from now on is told, also while the next claim is under way.
                ready = asyncio.create_task(queue.wait_ready())
                await asyncio.sleep(0)
            elif ready is not None:
                ready.cancel()
                ready = None
            await hands.wait()


def peer(sealing: Sealing, *more: str) -> Peer:
    """Return the queue with a codec, and the packages that this takes."""

    def open_it(url: str) -> AbstractAsyncContextManager[Front]:
        return opened(url, sealing)

    async def work_at(url: str, done: Done) -> None:
        await work(url, done, sealing)

    return Peer(open_it, work_at, ("redis", "hiredis", "uvloop", *more))


if __name__ == "__main__":
    report(peer(lambda _: PlainCodec()))
