"""The queue of this library, without the policies and providers around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count

from _measure import AT_ONCE, PAYLOAD, RESULT, Done, Front, Peer, report

from llm_gateway._core.jobs import Complete, Lane, Lease, NewJob
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Sent
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.queues.redis import RedisQueue

LANE = Lane("simulated", "judge-1")
TENANT = "school-1"
ECHO = b'{"metadata":{"essay_a_id":"e-104","essay_b_id":"e-877"},"correlation_id":"c-55021"}'
OPTIONS = QueueOptions(max_depth=2_000_000, max_bytes=1 << 40)
TTL = timedelta(hours=3)
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
async def opened(url: str) -> AsyncGenerator[Front]:
    """Open it for submitting."""
    async with started(url) as queue:
        numbers, payload = count(), PAYLOAD.encode()

        def made() -> NewJob:
            now, key = datetime.now(UTC), f"{id(queue):x}-{next(numbers)}"
            return NewJob(
                ticket_id=queue.mint(TENANT, key),
                tenant=TENANT,
                lane=LANE,
                idempotency_key=key,
                fingerprint=key,
                priority=Priority.BATCH,
                created_at=now,
                expires_at=now + TTL,
                echo=ECHO,
                payload=payload,
            )

        async def call() -> bytes | None:
            view = (await queue.enqueue(made())).job
            while view.state in {TicketState.QUEUED, TicketState.PROCESSING}:
                view = await queue.wait(TENANT, view.ticket_id, beyond=view.version)
            return await queue.result(TENANT, view.ticket_id)

        yield Front(
            enqueue=lambda: queue.enqueue(made()),
            call=call,
            enqueue_many=lambda jobs: queue.enqueue_many([made() for _ in range(jobs)]),
        )


async def work(url: str, done: Done) -> None:
    """Claim what there is room for and finish each in a task of its own; when there is nothing, wait to be told."""
    result, claims, in_hand = RESULT.encode(), count(), set[asyncio.Task[None]]()
    async with started(url) as queue:

        async def finish(lease: Lease) -> None:
            now = datetime.now(UTC)
            done()
            tried = Attempt(id=f"{lease.job.ticket_id}-1", started_at=now, ended_at=now, sent=Sent.YES)
            await queue.finish(lease, Complete(result=result, attempt=tried))

        while True:
            asked, room = f"{id(queue):x}-{next(claims)}", AT_ONCE - len(in_hand)
            leases = await queue.claim(LANE, room, worker="worker-1", lease_seconds=60.0, claim_id=asked)
            for lease in leases:
                task = asyncio.create_task(finish(lease))
                in_hand.add(task)
                task.add_done_callback(in_hand.discard)
            if not leases:
                await queue.wait_ready()
            # Few at a time would cost a claim for every few.
            while len(in_hand) > CLAIMED:
                await asyncio.wait(in_hand, return_when=asyncio.FIRST_COMPLETED)


if __name__ == "__main__":
    report(Peer(opened, work, ("redis", "hiredis", "uvloop")))
