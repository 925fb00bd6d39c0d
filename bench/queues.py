"""Measures one queue backend: submitting, claiming and finishing, and what the same costs as the queue grows.

Run as ``python bench/queues.py --backend sqlite``; ``redis`` takes the server of ``LLM_GATEWAY_REDIS_URL``, which
it does not clean up. Every figure is the median of several rounds with the lowest and
the highest in brackets; each round has a queue of its own. One process does everything, so the rates are those of one
event loop and, for the file, of its one writing thread. CPU is that of the whole process and, of it, of the loop's
thread. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from llm_gateway._core.jobs import Complete, Lane, Lease, NewJob
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Sent
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.protocols import QueueBackend
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.queues.sqlite import SqliteQueue

__all__ = ["Load", "Sample", "main"]

LANE: Final = Lane("simulated", "judge-1")
TENANT: Final = "school-1"
PAYLOAD: Final = os.urandom(2048)
RESULT: Final = os.urandom(512)
ECHO: Final = b'{"metadata":{"essay_a_id":"e-104","essay_b_id":"e-877"},"correlation_id":"c-55021"}'
TTL: Final = timedelta(hours=3)
LEASE: Final = 60.0
AT_ONCE: Final = 100
CLAIMED: Final = 32
DRAINERS: Final = 2
CALLERS: Final = (1, 64)
SIZES: Final = (1_000, 10_000, 100_000)
PROBES: Final = 50
SYNCS: Final = 200
OPTIONS: Final = QueueOptions(max_depth=1_000_000, max_bytes=1 << 40)
SERVER: Final = "LLM_GATEWAY_REDIS_URL"


def on_redis(folder: Path) -> QueueBackend:
    """Make a queue on the server that the variable names, in a namespace of its own."""
    from llm_gateway.queues.redis import RedisQueue

    url = os.environ.get(SERVER, "redis://127.0.0.1:6379/0")
    name = f"bench-{os.getpid()}-{folder.name.strip('.')}"
    return RedisQueue(url, OPTIONS, namespace=name, redis=RedisOptions(durability="process"), strict=False)


BACKENDS: Final[dict[str, Callable[[Path], QueueBackend]]] = {
    "memory": lambda _: MemoryQueue(OPTIONS),
    "redis": on_redis,
    "sqlite": lambda folder: SqliteQueue(folder / "queue.db", OPTIONS),
}


@dataclass(frozen=True, slots=True)
class Sample:
    """What one stretch of work took, for each job of it; times are microseconds."""

    rate: float
    cpu: float
    loop: float
    waits: tuple[float, ...] = ()


class Load:
    """Jobs without end, made beforehand so that making them is not measured."""

    def __init__(self, queue: QueueBackend) -> None:
        self._queue = queue
        self._numbers = count()

    def make(self, jobs: int) -> list[NewJob]:
        """Make some jobs."""
        now = datetime.now(UTC)
        return [self._job(f"key-{next(self._numbers)}", now) for _ in range(jobs)]

    def _job(self, key: str, now: datetime) -> NewJob:
        return NewJob(
            ticket_id=self._queue.mint(TENANT, key),
            tenant=TENANT,
            lane=LANE,
            idempotency_key=key,
            fingerprint=f"content of {key}",
            priority=Priority.BATCH,
            created_at=now,
            expires_at=now + TTL,
            group="batch-7",
            echo=ECHO,
            payload=PAYLOAD,
        )


async def timed(jobs: int, work: Awaitable[object], waits: list[float] | None = None) -> Sample:
    """Do the work of some jobs and tell what it took."""
    clock, cpu, loop = time.perf_counter(), time.process_time(), time.thread_time()
    await work
    took = time.perf_counter() - clock
    spent, of_loop = time.process_time() - cpu, time.thread_time() - loop
    return Sample(jobs / took, spent / jobs * 1e6, of_loop / jobs * 1e6, tuple(waits or ()))


async def submit(queue: QueueBackend, jobs: list[NewJob], callers: int, waits: list[float]) -> None:
    """Submit each job by itself, some callers at once."""
    turns = iter(jobs)

    async def caller() -> None:
        for job in turns:
            before = time.perf_counter()
            await queue.enqueue(job)
            waits.append((time.perf_counter() - before) * 1e6)

    await asyncio.gather(*(caller() for _ in range(callers)))


async def submit_many(queue: QueueBackend, jobs: list[NewJob]) -> None:
    """Submit the jobs in lots, one lot after the other."""
    for first in range(0, len(jobs), AT_ONCE):
        await queue.enqueue_many(jobs[first : first + AT_ONCE])


async def finish(queue: QueueBackend, lease: Lease) -> None:
    """Complete a job with one attempt in its history."""
    now = datetime.now(UTC)
    tried = Attempt(id=f"{lease.job.ticket_id}-1", started_at=now, ended_at=now, sent=Sent.YES)
    if not (await queue.finish(lease, Complete(result=RESULT, attempt=tried))).accepted:
        message = "a finish was refused"
        raise RuntimeError(message)


async def drain(queue: QueueBackend, claims: Iterator[int]) -> None:
    """Claim lots and finish each of a lot at once, until nothing is left."""

    async def drainer() -> None:
        while leases := await claim(queue, CLAIMED, next(claims)):
            await asyncio.gather(*(finish(queue, lease) for lease in leases))

    await asyncio.gather(*(drainer() for _ in range(DRAINERS)))


async def claim(queue: QueueBackend, jobs: int, number: int) -> list[Lease]:
    """Claim some jobs."""
    return await queue.claim(LANE, jobs, worker="worker-1", lease_seconds=LEASE, claim_id=f"claim-{number}")


async def one_round(queue: QueueBackend, jobs: int) -> dict[str, Sample]:
    """Measure everything once."""
    load, claims, found = Load(queue), count(), dict[str, Sample]()
    for callers in CALLERS:
        made, waits = load.make(jobs if callers > 1 else jobs // 4), list[float]()
        name = f"submit, {callers} caller{'s' * (callers > 1)}"
        found[name] = await timed(len(made), submit(queue, made, callers, waits), waits)
    made = load.make(jobs)
    found[f"submit, lots of {AT_ONCE}"] = await timed(jobs, submit_many(queue, made))
    waiting = (await queue.stats()).depth
    found[f"claim {CLAIMED} + finish each"] = await timed(waiting, drain(queue, claims))
    return found


async def growth(queue: QueueBackend) -> dict[int, dict[str, float]]:
    """Tell the microseconds of one step with more and more jobs waiting."""
    load, claims, held, found = Load(queue), count(), 0, dict[int, dict[str, float]]()
    for size in SIZES:
        await submit_many(queue, load.make(size - held))
        held = size - PROBES
        steps = {name: list[float]() for name in ("submit", "claim 1", "finish", "stats", "sweep")}
        for _ in range(PROBES):
            job = load.make(1)[0]
            steps["submit"].append(await took(queue.enqueue(job)))
            leases = list[Lease]()
            steps["claim 1"].append(await took(claim_into(leases, queue, next(claims))))
            steps["finish"].append(await took(finish(queue, leases[0])))
            steps["stats"].append(await took(queue.stats()))
            steps["sweep"].append(await took(queue.sweep()))
        found[size] = {name: median(times) for name, times in steps.items()}
    return found


async def claim_into(leases: list[Lease], queue: QueueBackend, number: int) -> None:
    """Claim one job and keep its lease."""
    leases += await claim(queue, 1, number)


async def took(work: Awaitable[object]) -> float:
    """Tell the microseconds that something takes."""
    before = time.perf_counter()
    await work
    return (time.perf_counter() - before) * 1e6


def sync_time(folder: Path) -> float:
    """Tell the median microseconds that 4 KiB take to reach the disk."""
    times = list[float]()
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(PAYLOAD * 2)
            before = time.perf_counter()
            os.fsync(file.fileno())
            times.append((time.perf_counter() - before) * 1e6)
    return median(times)


def spread(values: list[float]) -> str:
    """Show a median with its range."""
    return f"{median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def row(name: str, samples: list[Sample]) -> str:
    """Lay out what one way of working took in all rounds."""
    waits = [wait for sample in samples for wait in sample.waits]
    cuts = quantiles(waits, n=100) if waits else []
    latency = f"{cuts[49]:,.0f} / {cuts[98]:,.0f}" if cuts else "-"
    rates, cpus, loops = ([getattr(sample, field) for sample in samples] for field in ("rate", "cpu", "loop"))
    return f"| {name} | {spread(rates)} | {spread(cpus)} | {spread(loops)} | {latency} |"


async def measure(backend: str, folder: Path, rounds: int, jobs: int, *, outbox: bool) -> list[dict[str, Sample]]:
    """Measure some rounds, each on a queue of its own, after one that does not count."""
    found = list[dict[str, Sample]]()
    for number in range(rounds + 1):
        place = folder / f"round-{number}"
        place.mkdir()
        queue = BACKENDS[backend](place)
        await queue.start(outbox=outbox)
        try:
            found.append(await one_round(queue, jobs if number else jobs // 4))
        finally:
            await queue.aclose()
    return found[1:]


async def grown(backend: str, folder: Path) -> dict[int, dict[str, float]]:
    """Measure growth on a queue of its own."""
    queue = BACKENDS[backend](folder)
    await queue.start(outbox=False)
    try:
        return await growth(queue)
    finally:
        await queue.aclose()


def main() -> None:
    """Measure and print one report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="sqlite")
    parser.add_argument("--jobs", type=int, default=4_000, help="of each way of submitting, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--outbox", action="store_true", help="keep events for a relay, too")
    parser.add_argument("--no-growth", action="store_true", help="leave out how costs grow with the queue")
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent.parent, help="on the disk to be measured")
    options = parser.parse_args()
    with TemporaryDirectory(prefix=".bench-", dir=options.folder) as name:
        folder = Path(name)
        print(f"{options.backend}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, ", end="")
        print(f"payload {len(PAYLOAD)} B, result {len(RESULT)} B, fsync of 4 KiB {sync_time(folder):,.0f} µs")
        print(f"{options.rounds} rounds of {options.jobs} jobs, outbox {'on' if options.outbox else 'off'}\n")
        work = measure(options.backend, folder, options.rounds, options.jobs, outbox=options.outbox)
        rounds = asyncio.run(work)
        print("| | jobs/s | CPU µs per job | of it the loop | wait p50 / p99, µs |\n| --- | --- | --- | --- | --- |")
        for step in rounds[0]:
            print(row(step, [found[step] for found in rounds]))
        if options.no_growth:
            return
        sizes = asyncio.run(grown(options.backend, folder))
        print(f"\n| one step, µs, with jobs waiting | {' | '.join(f'{size:,}' for size in SIZES)} |")
        print(f"| --- |{' --- |' * len(SIZES)}")
        for step in sizes[SIZES[0]]:
            print(f"| {step} | {' | '.join(f'{sizes[size][step]:,.0f}' for size in SIZES)} |")


if __name__ == "__main__":
    main()
