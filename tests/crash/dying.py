"""Processes that die at each call of the server in turn: ``python -m tests.crash.dying URL NAMESPACE``.

A short run submits, works and relays on a namespace of its own, in a child that dies before its N-th call is sent or
after its reply has come. Another child then asks for the same again and finishes what is left. All report by lines of
JSON, each with its namespace.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from secrets import token_hex
from typing import Final

from tests.crash.actor import LANE, job_of, say

from llm_gateway._core.jobs import AdoptedBy, Complete, JobError, Lease, Retry
from llm_gateway._facts import Fault
from llm_gateway._io.redis import Command, Greet, RedisLink
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.queues.redis import RedisQueue

KEYS: Final = ("plain", "tried", "live")
LEASE: Final = 1.0
AGAIN: Final = 0.1
AT_ONCE: Final = 8
DIED: Final = 9
OPTIONS: Final = QueueOptions(max_crashes=50)
REDIS: Final = RedisOptions(durability="process", reply_timeout=10.0, connect_timeout=10.0)
BROKEN: Final = JobError(type="MalformedResponse", message="The answer was cut.", fault=Fault.MALFORMED)


@dataclass(slots=True)
class Doom:
    """When this process dies: at a call, counted from one, before it is sent or after its reply has come."""

    at: int
    before: bool
    calls: int = 0
    armed: bool = False

    def come(self) -> None:
        """Count a call that is about to be sent."""
        self.calls += self.armed
        self._meet(before=True)

    def _meet(self, *, before: bool) -> None:
        if self.armed and self.calls == self.at and before is self.before:
            os._exit(DIED)

    def gone(self) -> None:
        """Note that a reply has come."""
        self._meet(before=False)


class DyingLink(RedisLink):
    """A link whose process dies at one of its calls."""

    def __init__(self, url: str, greet: Greet | None, doom: Doom) -> None:
        super().__init__(url, connect_timeout=10.0, reply_timeout=10.0, greet=greet)
        self._doom = doom

    async def ask(self, *commands: Command, barred: bool = False) -> list[object]:
        """Ask, or die."""
        self._doom.come()
        replies = await super().ask(*commands, barred=barred)
        self._doom.gone()
        return replies


class DyingQueue(RedisQueue):
    """A queue whose process dies at one of its calls."""

    def __init__(self, url: str, namespace: str, doom: Doom) -> None:
        self._doom = doom
        super().__init__(url, OPTIONS, namespace=namespace, redis=REDIS, strict=False)

    def _link(self, url: str, greet: Greet | None = None, *, reply_timeout: float | None = None) -> RedisLink:
        return DyingLink(url, greet, self._doom)


async def complete(queue: RedisQueue, lease: Lease, run: str) -> None:
    """Finish one job with a result that tells who made it."""
    result = f"{lease.payload.decode()} by {os.getpid()}-{token_hex(4)}"
    reply = await queue.finish(lease, Complete(result=result.encode()))
    say("finished" if reply.accepted else "fenced", run=run, ticket=lease.job.ticket_id, result=result)


async def claim(queue: RedisQueue) -> list[Lease]:
    """Claim whatever is there."""
    return await queue.claim(LANE, 4, worker=f"{os.getpid()}", lease_seconds=LEASE, claim_id=token_hex(8))


async def relay(queue: RedisQueue, run: str) -> None:
    """Deliver what there is, if nobody else leads."""
    token = f"{os.getpid()}"
    if not await queue.lead(0, token, LEASE):
        return
    for event in await queue.unrelayed(0, 20):
        result = None if event.result is None else event.result.decode()
        state = event.state
        say("event", run=run, ticket=event.ticket_id, version=event.version, state=state, result=result)
        await queue.relayed(0, event.cursor, token)
    await queue.yield_lead(0, token)


async def short(queue: RedisQueue, run: str) -> None:
    """Bring three jobs to their ends: one at once, one at its second attempt, one as a live call that was adopted."""
    for key in KEYS:
        adopted = AdoptedBy(worker="live", lease_seconds=LEASE) if key == "live" else None
        reply = await queue.enqueue(job_of(queue, key), adopted_by=adopted)
        say("accepted", run=run, key=key, ticket=reply.job.ticket_id)
        if reply.lease is not None:
            await queue.extend(reply.lease, LEASE)
            await complete(queue, reply.lease, run)
    for lease in await claim(queue):
        await queue.extend(lease, LEASE)
        if lease.payload == b"tried":
            await queue.finish(lease, Retry(error=BROKEN, delay=0, max_attempts=9))
        else:
            await complete(queue, lease, run)
    await queue.sweep()
    for lease in await claim(queue):
        await complete(queue, lease, run)
    await relay(queue, run)


async def rest(queue: RedisQueue, run: str) -> None:
    """Ask for the same again, and work and relay until nothing is left."""
    for key in KEYS:
        reply = await queue.enqueue(job_of(queue, key))
        say("accepted", run=run, key=key, ticket=reply.job.ticket_id)
    while True:
        await queue.sweep()
        for lease in await claim(queue):
            await complete(queue, lease, run)
        await relay(queue, run)
        stats = await queue.stats()
        if (stats.depth, stats.outbox) == (0, 0):
            break
        # What the dead process held comes back when its lease is over, by the server's clock.
        await asyncio.sleep(AGAIN)


Story = Callable[[RedisQueue, str], Coroutine[object, object, None]]


async def told(url: str, run: str, story: Story, doom: Doom) -> None:
    """Run one story to its end, if it comes to that."""
    queue = DyingQueue(url, run, doom)
    await queue.start(outbox=True)
    doom.armed = True
    await story(queue, run)
    doom.armed = False
    await queue.aclose()
    say("whole", run=run, calls=doom.calls)


def child(story: Callable[[], Coroutine[object, object, None]]) -> int:
    """Start a child that runs a story, and return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        asyncio.run(story())
        code = 0
    finally:
        os._exit(code)


def all_of(stories: list[Callable[[], Coroutine[object, object, None]]], *, expected: int) -> None:
    """Run stories, some at once, and report those that did not end as expected."""
    under_way = set[int]()
    for story in stories:
        if len(under_way) >= AT_ONCE:
            under_way.discard(ended(expected))
        under_way.add(child(story))
    for _ in range(len(under_way)):
        ended(expected)


def ended(expected: int) -> int:
    """Wait for a child to end and return its id."""
    pid, status = os.wait()
    if os.waitstatus_to_exitcode(status) != expected:
        say("odd", code=os.waitstatus_to_exitcode(status))
    return pid


def main(url: str, namespace: str, calls: int) -> None:
    """Die at each call, before and after, and have another process finish."""
    points = [(at, before) for at in range(1, calls + 1) for before in (True, False)]
    runs = {f"{namespace}-{'before' if before else 'after'}-{at}": Doom(at, before) for at, before in points}
    all_of([partial(told, url, run, short, doom) for run, doom in runs.items()], expected=DIED)
    all_of([partial(told, url, run, rest, Doom(0, before=True)) for run in runs], expected=0)
    say("end")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
