"""Measures the queue in Redis against its peers, all on one server of its own, and prints one report.

Every figure is the median of several rounds with the lowest and the highest in brackets; the peers take turns in
rotated order, each in a process and an environment of its own, on an emptied server that appends to its file and
syncs it every second. Where there are two cores the server has one of them. The same payload, the same number of
callers and of jobs in hand for all. Compare within one class of guarantee: what is promised has its price. What
clients send is counted apart from what scripts call within the server, as is memory, in runs of the first round
that are not timed: it hardly differs from round to round. Nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Final

from queue_server import SETTINGS, Seen, served
from redis import Redis
from run import HERE, VENVS, Figures, Peer, in_turn, ran, table

__all__ = ["Queue", "main"]

OURS: Final = "llm_gateway"
SEALED: Final = "llm_gateway, sealed"
RAW: Final = "raw stream"
FAST: Final = ("hiredis", "uvloop")
FENCED: Final = "at least once, fenced"
AT_LEAST: Final = "at least once"
PATIENCE: Final = 120.0
COUNTED: Final = 500
IDLE: Final = 200
LONE: Final = 50
# Past what logs of events hold, and twice that: tables of the server double at powers of two.
FILLED: Final = (10_500, 21_000)


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: how it is run, and what it promises of a job whose worker stands still past its time.

    Attributes:
        peer: Its script and what its environment holds.
        promise: Its class of guarantee.
        tuned: What was set for its latency.
    """

    peer: Peer
    promise: str
    tuned: str = "-"


def needs(name: str, *others: str) -> tuple[str, ...]:
    """Say what an environment holds; it is named after the first."""
    return (name, *others, *FAST)


LOCAL: Final = ("jobs", "--editable", f"{HERE.parent}[hiredis]", "cryptography", *FAST)
QUEUES: Final = {
    OURS: Queue(Peer("ours.py", LOCAL), FENCED),
    SEALED: Queue(Peer("ours_sealed.py", LOCAL), FENCED),
    "bullmq": Queue(Peer("bullmq_jobs.py", needs("bullmq")), FENCED, "results from its event stream"),
    "arq": Queue(Peer("arq_jobs.py", needs("arq")), AT_LEAST, "looks every 2 ms, not 500"),
    "saq": Queue(Peer("saq_jobs.py", needs("saq[redis]", "typing_extensions")), AT_LEAST, "looks every 2 ms, not 500"),
    "taskiq": Queue(Peer("taskiq_jobs.py", needs("taskiq", "taskiq-redis")), AT_LEAST, "looks every 2 ms, not 200"),
    "streaq": Queue(Peer("streaq_jobs.py", needs("streaq")), AT_LEAST, "nothing to set"),
    RAW: Queue(Peer("raw_stream.py", LOCAL), AT_LEAST),
}


@dataclass(slots=True)
class Found:
    """What was measured, each by name of the queue."""

    single: Figures = field(default_factory=Figures)
    callers: Figures = field(default_factory=Figures)
    lots: Figures = field(default_factory=Figures)
    drain: Figures = field(default_factory=Figures)
    drain_cpu: Figures = field(default_factory=Figures)
    p50: Figures = field(default_factory=Figures)
    p99: Figures = field(default_factory=Figures)
    sent: Figures = field(default_factory=Figures)
    within: Figures = field(default_factory=Figures)
    lone: Figures = field(default_factory=Figures)
    size: Figures = field(default_factory=Figures)
    versions: dict[str, str] = field(default_factory=dict[str, str])
    absent: dict[str, str] = field(default_factory=dict[str, str])


async def set_up(found: Found, names: list[str]) -> None:
    """Make the environments that are missing; a queue whose packages cannot be installed is left out, and named."""
    for name in names:
        peer = QUEUES[name].peer
        python = interpreter(peer)
        if (python.parent / ".complete").exists():
            continue
        print(f"setting up {python.parent.parent.name} ...", flush=True)
        packages = peer.needs[1:] if peer.needs[0] == LOCAL[0] else peer.needs
        try:
            await ran(sys.executable, "-m", "venv", python.parent.parent)
            await ran(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
        except RuntimeError as error:
            found.absent[name] = f"could not be set up: {error}"
        else:
            (python.parent / ".complete").touch()


def interpreter(peer: Peer) -> Path:
    """Return the Python that runs *peer*."""
    return VENVS / f"venv-{peer.needs[0].partition('[')[0]}" / "bin" / "python"


class Race:
    """Measures the queues on one server.

    Args:
        admin: The server.
        found: Takes the figures.
        jobs: Of each way, in each round.
    """

    def __init__(self, admin: Redis, found: Found, jobs: int) -> None:
        self._admin = admin
        self._port = admin.connection_pool.connection_kwargs["port"]
        self._found = found
        self._jobs = jobs

    async def one_round(self, name: str) -> None:
        """Measure one queue once; what fails is told beside its name, and the queue left out from then on."""
        if name in self._found.absent:
            return
        try:
            await self._rates(name)
            await self._latency(name)
            if name not in self._found.size.of:
                await self._costs(name)
        except (RuntimeError, TimeoutError) as error:
            self._found.absent[name] = f"failed: {error or type(error).__name__}"

    async def _rates(self, name: str) -> None:
        found = self._found
        ways = {
            "one": (found.single, self._jobs // 2),
            "callers": (found.callers, self._jobs),
            "lots": (found.lots, self._jobs),
        }
        for way, (figures, jobs) in ways.items():
            told = await self._run(name, "enqueue", way, jobs)
            if "per_second" in told:
                figures.add(name, told["per_second"])
        told = await self._run(name, "drain", "callers", self._jobs)
        found.drain.add(name, told["per_second"])
        found.drain_cpu.add(name, told["cpu_us"])

    async def _latency(self, name: str) -> None:
        told = await self._run(name, "idle", "one", IDLE)
        cuts = quantiles(told["waits"], n=100)
        self._found.p50.add(name, cuts[49])
        self._found.p99.add(name, cuts[98])

    async def _costs(self, name: str) -> None:
        seen = Seen(self._port)
        await self._run(name, "drain", "one", COUNTED)
        seen.close()
        self._found.sent.add(name, seen.sent / COUNTED)
        self._found.within.add(name, seen.within / COUNTED)
        seen = Seen(self._port)
        told = await self._run(name, "idle", "one", LONE)
        seen.close()
        # Those that warmed up are no less jobs.
        self._found.lone.add(name, seen.sent / (LONE + told["warm_up"]))
        sizes = list[int]()
        for jobs in FILLED:
            await self._run(name, "fill", "callers", jobs)
            sizes.append(self._admin.info("memory")["used_memory"])
        self._found.size.add(name, (sizes[1] - sizes[0]) / (FILLED[1] - FILLED[0]))

    async def _run(self, name: str, phase: str, way: str, jobs: int) -> dict:
        self._admin.flushall()
        peer = QUEUES[name].peer
        url = f"redis://127.0.0.1:{self._port}/0"
        script = HERE / "jobs" / peer.script
        async with asyncio.timeout(PATIENCE):
            told = json.loads(await ran(interpreter(peer), script, url, phase, way, str(jobs)))
        self._found.versions[name] = ", ".join(f"{package} {number}" for package, number in told["versions"].items())
        return told


def show(found: Found, names: list[str]) -> None:
    """Print the tables."""
    there = [name for name in names if name not in found.absent]
    head = (
        "jobs a second",
        "one by one",
        "32 callers",
        "in lots, pipelined",
        "drain, one worker",
        "worker CPU us per job",
    )
    rates = (found.single, found.callers, found.lots, found.drain, found.drain_cpu)
    table(head, [(name, *(figures.shown(name) for figures in rates)) for name in there])
    table(
        ("submit to result, idle", "p50 ms", "p99 ms", "tuned"),
        [(name, found.p50.shown(name, 2), found.p99.shown(name, 2), QUEUES[name].tuned) for name in there],
    )
    costs = ((found.sent, 1), (found.within, 1), (found.lone, 1), (found.size, 0))
    head = (
        "cost per job",
        "sent by clients",
        "within scripts",
        "sent, one job at a time",
        "bytes queued",
        "promise",
    )
    table(head, [(n, *(figures.shown(n, d) for figures, d in costs), QUEUES[n].promise) for n in there])
    for name, why in found.absent.items():
        print(f"\nleft out: {name}, which {why}")
    judge(found, [name for name in there if name not in {OURS, SEALED, RAW}])


def judge(found: Found, peers: list[str]) -> None:
    """Print what was aimed at beside what came out: over the best of all peers, and of those that promise as much."""
    fenced = [name for name in peers if QUEUES[name].promise == FENCED]
    if OURS in found.absent or not fenced:
        return

    def over(figures: Figures, others: Figures, best: Callable[[Iterable[float]], float]) -> tuple[str, str]:
        ours = figures.median(OURS)
        of = [[others.median(name) for name in names if name in others.of] for names in (peers, fenced)]
        every, alike = (f"{ours / best(medians):,.2f} x" for medians in of)
        return every, alike

    def alone(value: float, digits: int = 1) -> tuple[str, str]:
        return f"{value:,.{digits}f}", "-"

    rows = [
        ("enqueue one by one", ">= 1.0 x", *over(found.single, found.single, max)),
        ("enqueue by 32 callers", ">= 1.0 x", *over(found.callers, found.callers, max)),
        ("enqueue in lots, over peers by 32 callers", ">= 1.5 x", *over(found.lots, found.callers, max)),
        ("enqueue in lots, over peers in lots", "-", *over(found.lots, found.lots, max)),
        ("drain, one worker", ">= 2 x", *over(found.drain, found.drain, max)),
        ("idle p50", "<= 1 x", *over(found.p50, found.p50, min)),
        ("idle p99, ms", "<= 3", *alone(found.p99.median(OURS), 2)),
        ("commands per job, many at a time", "<= 8", *alone(found.sent.median(OURS))),
        ("commands per job, one at a time", "<= 8", *alone(found.lone.median(OURS))),
        ("bytes per queued job", "<= 1.1 x", *over(found.size, found.size, min)),
    ]
    table(("target", "aim", "over the best peer", f"over the best that is {FENCED}"), rows)


async def measure(names: list[str], rounds: int, jobs: int, minutes: float) -> None:
    """Measure and print everything."""
    found = Found()
    await set_up(found, names)
    with TemporaryDirectory(prefix=".bench-", dir=HERE.parent) as folder:
        async with served(Path(folder)) as admin:
            about = admin.info("server")
            race = Race(admin, found, jobs)
            ends = asyncio.get_running_loop().time() + minutes * 60.0
            for name in in_turn(names, rounds):
                if asyncio.get_running_loop().time() > ends:
                    print("the time is over: what follows has fewer rounds", flush=True)
                    break
                print(f"{name} ...", file=sys.stderr, flush=True)
                await race.one_round(name)
    print(f"Python {platform.python_version()}, Redis {about['redis_version']}, {' '.join(SETTINGS)}")
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, load {load:.1f}; {rounds} rounds of {jobs} jobs; median (lowest-highest)")
    print("; ".join(f"{name}: {versions}" for name, versions in found.versions.items()))
    show(found, names)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(
        prog="make bench-queue-peers", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=4_000, help="of each way of submitting, in each round")
    parser.add_argument("--minutes", type=float, default=30.0, help="no turn begins after that")
    parser.add_argument("--only", nargs="+", choices=list(QUEUES), default=list(QUEUES), help="these queues alone")
    arguments = parser.parse_args()
    try:
        asyncio.run(measure(arguments.only, arguments.rounds, arguments.jobs, arguments.minutes))
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
