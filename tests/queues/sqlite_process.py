"""A process of its own on a queue file: ``python sqlite_process.py drain|hold PATH``. It reports by lines."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from secrets import token_hex

import anyio

from llm_gateway._core.jobs import Complete, Lane
from llm_gateway.queues.sqlite import SqliteQueue

LANE = Lane("simulated", "judge-1")
LEASE = 30.0
LOOK_AGAIN = 0.2


def say(word: str, ticket: str) -> None:
    """Report."""
    sys.stdout.write(f"{word} {ticket}\n")
    sys.stdout.flush()


async def drain(queue: SqliteQueue) -> None:
    """Work until nothing waits or runs."""
    say("ready", "-")
    await anyio.to_thread.run_sync(sys.stdin.readline)
    while (await queue.stats()).depth:
        leases = await queue.claim(LANE, 3, worker="drain", lease_seconds=LEASE, claim_id=token_hex(8))
        for lease in leases:
            reply = await queue.finish(lease, Complete(result=lease.payload))
            say("done" if reply.accepted else "fenced", lease.job.ticket_id)
        if not leases:
            with anyio.move_on_after(LOOK_AGAIN):
                await queue.wait_ready()


async def hold(queue: SqliteQueue) -> None:
    """Claim one job, and finish it when told to."""
    (lease,) = await queue.claim(LANE, 1, worker="hold", lease_seconds=LEASE, claim_id="hold")
    say("held", lease.job.ticket_id)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    reply = await queue.finish(lease, Complete(result=b"late"))
    say("done" if reply.accepted else "fenced", lease.job.ticket_id)


async def main() -> None:
    """Do what the command line says."""
    queue = SqliteQueue(Path(sys.argv[2]))
    await queue.start(outbox=True)
    try:
        await {"drain": drain, "hold": hold}[sys.argv[1]](queue)
    finally:
        await queue.aclose()


if __name__ == "__main__":
    asyncio.run(main())
