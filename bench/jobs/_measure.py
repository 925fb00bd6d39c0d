"""What all queues share: the payload, and how their jobs are timed. Each queue brings `Peer`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version

import uvloop

__all__ = ["AT_ONCE", "CALLERS", "PAYLOAD", "POLL", "RESULT", "Done", "Front", "Peer", "report"]

# Text that does not repeat itself: what compresses would get too much for nothing.
TEXT = (
    "the a of and to in that it is was sea harbour calendar keeps reads aloud its own essay argues clearly but leaves "
    "evidence open second first writer structure better than weaker claim paragraph because however reader follows "
    "tone steady conclusion repeats question sources cited three times without saying why grade between four five"
)
WORDS = TEXT.split(" ")
PAYLOAD = " ".join(WORDS[sha256(b"%d" % place).digest()[0] % len(WORDS)] for place in range(500))[:2048]
RESULT = PAYLOAD[:512]
# Jobs that one worker has in hand.
AT_ONCE = 64
CALLERS = 32
WARM_UP = 50
# What comes after the last job has run: its result is stored, and nothing shows when.
SETTLING = 0.5
# How often those look that wait for nothing to tell them, in seconds.
POLL = 0.002

Done = Callable[[], None]


@dataclass(frozen=True)
class Front:
    """How jobs are submitted.

    Attributes:
        enqueue: Store one.
        call: Store one and return when its result is here.
        enqueue_many: Store so many, as the queue does that best; none when it takes them one by one only.
    """

    enqueue: Callable[[], Awaitable[object]]
    call: Callable[[], Awaitable[object]]
    enqueue_many: Callable[[int], Awaitable[object]] | None = None


@dataclass(frozen=True)
class Peer:
    """One queue: how to open it for submitting, and a worker that runs until it is cancelled."""

    opened: Callable[[str], AbstractAsyncContextManager[Front]]
    work: Callable[[str, Done], Coroutine[object, object, object]]
    packages: tuple[str, ...]


async def one_by_one(front: Front, jobs: int) -> None:
    """Submit jobs, each after the other."""
    for _ in range(jobs):
        await front.enqueue()


async def by_callers(front: Front, jobs: int) -> None:
    """Submit jobs by some callers at once."""
    turns = iter(range(jobs))

    async def caller() -> None:
        for _ in turns:
            await front.enqueue()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def in_lots(front: Front, jobs: int) -> None:
    """Submit jobs in the queue's own lots."""
    if front.enqueue_many is not None:
        await front.enqueue_many(jobs)


WAYS = {"one": one_by_one, "callers": by_callers, "lots": in_lots}


async def enqueued(peer: Peer, url: str, way: str, jobs: int) -> dict[str, float]:
    """Measure submits a second."""
    async with peer.opened(url) as front:
        if way == "lots" and front.enqueue_many is None:
            return {}
        await WAYS[way](front, WARM_UP)
        wall, cpu = time.perf_counter(), time.process_time()
        await WAYS[way](front, jobs)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"per_second": jobs / wall, "cpu_us": cpu / jobs * 1e6}


async def drained(peer: Peer, url: str, way: str, jobs: int) -> dict[str, float]:
    """Measure jobs a second of a worker, from the first job that it runs to the last."""
    async with peer.opened(url) as front:
        await WAYS[way](front, jobs)
    ended, left = asyncio.Event(), iter(range(jobs - 1, -1, -1))
    clocks = list[tuple[float, float]]()

    def done() -> None:
        left_now = next(left, None)
        if left_now in {jobs - 1, 0}:
            clocks.append((time.perf_counter(), time.process_time()))
        if left_now == 0:
            ended.set()

    worker = asyncio.create_task(peer.work(url, done))
    waiting = asyncio.create_task(ended.wait())
    await asyncio.wait({worker, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if worker.done():
        worker.result()
        message = "the worker ended before the jobs did"
        raise RuntimeError(message)
    await asyncio.sleep(SETTLING)
    worker.cancel()
    await asyncio.wait({worker}, timeout=1.0)
    (began, cpu), (finished, spent) = clocks
    return {"per_second": (jobs - 1) / (finished - began), "cpu_us": (spent - cpu) / (jobs - 1) * 1e6}


async def idle(peer: Peer, url: str, _: str, jobs: int) -> dict[str, object]:
    """Measure from submit to result with nothing else to do, the worker in a process of its own."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, sys.argv[0], url, "work", "one", "0", stdout=asyncio.subprocess.DEVNULL
    )
    waits = list[float]()
    try:
        async with peer.opened(url) as front:
            for number in range(jobs + WARM_UP):
                before = time.perf_counter()
                await front.call()
                if number >= WARM_UP:
                    waits.append((time.perf_counter() - before) * 1e3)
    finally:
        with suppress(ProcessLookupError):
            worker.kill()
        await worker.wait()
    return {"waits": waits, "warm_up": WARM_UP}


async def filled(peer: Peer, url: str, way: str, jobs: int) -> dict[str, float]:
    """Leave so many jobs in the queue."""
    async with peer.opened(url) as front:
        await WAYS[way](front, jobs)
    return {}


async def working(peer: Peer, url: str, _way: str, _jobs: int) -> dict[str, float]:
    """Work until killed."""
    await peer.work(url, lambda: None)
    return {}


PHASES = {"enqueue": enqueued, "drain": drained, "idle": idle, "fill": filled, "work": working}


def report(peer: Peer) -> None:
    """Read ``URL PHASE WAY JOBS`` from the command line, measure, and print one line of JSON."""
    url, phase, way, jobs = sys.argv[1:5]
    result: dict[str, object] = dict(uvloop.run(PHASES[phase](peer, url, way, int(jobs))))
    print(json.dumps(result | {"versions": {name: version(name) for name in peer.packages}}), flush=True)
    # Some leave behind what would keep the process.
    os._exit(0)
