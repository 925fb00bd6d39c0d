"""A process of its own on a queue in Redis: ``python actor.py submit|work|hold|relay URL NAMESPACE [NUMBER]``.

It reports by lines of JSON: what it was told by the queue, so that the history can be checked afterwards.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Final

import anyio

from llm_gateway._core.jobs import Complete, Lane, Lease, NewJob
from llm_gateway._core.requests import Priority
from llm_gateway.errors import QueueError
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.queues.redis import RedisQueue

LANE: Final = Lane("simulated", "judge-1")
LEASE: Final = 3.0
LOOK_AGAIN: Final = 0.5
PAUSE: Final = 0.05
TTL: Final = timedelta(hours=1)
OPTIONS: Final = QueueOptions(max_crashes=50)


def say(what: str, **facts: object) -> None:
    """Report."""
    sys.stdout.write(json.dumps({"what": what, **facts}) + "\n")
    sys.stdout.flush()


def job_of(queue: RedisQueue, key: str) -> NewJob:
    """Describe a job whose result will name its key."""
    now = datetime.now(UTC)
    return NewJob(
        ticket_id=queue.mint("", key),
        tenant="",
        lane=LANE,
        idempotency_key=key,
        fingerprint=key,
        priority=Priority.BATCH,
        created_at=now,
        expires_at=now + TTL,
        payload=key.encode(),
    )


async def submit(queue: RedisQueue, number: int) -> None:
    """Submit so many jobs, each until it is acknowledged."""
    name = token_hex(4)
    for index in range(number):
        key = f"{name}-{index}"
        while True:
            try:
                reply = await queue.enqueue(job_of(queue, key))
            except QueueError as error:
                say("unknown", key=key, error=type(error).__name__)
                await asyncio.sleep(PAUSE)
                continue
            say("accepted", key=key, ticket=reply.job.ticket_id)
            break
    say("end")


async def work(queue: RedisQueue, number: int) -> None:
    """Claim, renew, sweep and finish until told to stop."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    say("ready")
    while not stopped.is_set():
        try:
            await queue.sweep()
            leases = await queue.claim(LANE, 4, worker=f"{os.getpid()}", lease_seconds=LEASE, claim_id=token_hex(8))
            for lease in leases:
                await done(queue, lease)
            if not leases:
                with anyio.move_on_after(LOOK_AGAIN):
                    await queue.wait_ready()
        except QueueError:
            await asyncio.sleep(PAUSE)


async def done(queue: RedisQueue, lease: Lease) -> None:
    """Finish one job with a result that tells who made it."""
    result = f"{lease.payload.decode()} by {os.getpid()}-{token_hex(4)}"
    while True:
        try:
            reply = await queue.finish(lease, Complete(result=result.encode()))
        except QueueError:
            await asyncio.sleep(PAUSE)
            continue
        say("finished" if reply.accepted else "fenced", ticket=lease.job.ticket_id, result=result)
        return


async def hold(queue: RedisQueue, number: int) -> None:
    """Claim one job, and finish it when told to."""
    (lease,) = await queue.claim(LANE, 1, worker="hold", lease_seconds=LEASE, claim_id=token_hex(8))
    say("held", ticket=lease.job.ticket_id)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    await done(queue, lease)


async def relay(queue: RedisQueue, number: int) -> None:
    """Deliver events, leading under a token of its own, until told to stop."""
    stopped, token = asyncio.Event(), token_hex(8)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    say("ready")
    while not stopped.is_set():
        try:
            if not await queue.lead(0, token, LEASE):
                await asyncio.sleep(LEASE / 4)
                continue
            for event in await queue.unrelayed(0, 20):
                result = None if event.result is None else event.result.decode()
                say("event", ticket=event.ticket_id, version=event.version, state=event.state, result=result)
                if not await queue.relayed(0, event.cursor, token):
                    break
            else:
                with anyio.move_on_after(LOOK_AGAIN):
                    await queue.wait_unrelayed(0)
        except QueueError:
            await asyncio.sleep(PAUSE)


async def main() -> None:
    """Do what the command line says."""
    role, url, namespace, durability, number = sys.argv[1:6]
    redis = RedisOptions.model_validate({"durability": durability, "reply_timeout": 2.0, "connect_timeout": 2.0})
    queue = RedisQueue(url, OPTIONS, namespace=namespace, redis=redis, strict=False)
    while True:
        try:
            await queue.start(outbox=True)
            break
        except QueueError:
            await asyncio.sleep(PAUSE)
    try:
        await {"submit": submit, "work": work, "hold": hold, "relay": relay}[role](queue, int(number))
    finally:
        await queue.aclose()


if __name__ == "__main__":
    asyncio.run(main())
