"""Keeps a queue busy for some minutes and tells whether anything grows.

Run as ``python -m bench.soak --minutes 10 --backend sqlite``; ``redis``, the default, gets a server of its own. Each
round befalls its jobs with everything there is, all at once, then waits until all of them have been forgotten; what is
left is read. The first third of the rounds fills what is bounded. Exits with 1 if afterwards the keys or rows, what
they hold, the memory without the log of events, the file or this process grow, or if anything was ever stored that
neither ends by itself nor is found from the few names that everything is found from.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.table import Table
from tests.queues.redis_server import BINARIES, RedisServer
from tests.queues.soak import OPTIONS, Reading, Soak, growth
from tests.queues.soak_redis import RedisCensus
from tests.queues.soak_sqlite import FileCensus

from llm_gateway.options import RedisOptions
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.sqlite import SqliteQueue

__all__ = ["main"]

NAMESPACE: Final = "soak"
REDIS: Final = RedisOptions(durability="process", reply_timeout=2.0)
JOBS: Final = 1_000
# Fewer rounds show no growth.
ROUNDS: Final = 6
SHOWN: Final = 12
MIB: Final = 1024 * 1024
# What Redis needs for itself varies; a file is as large as its fullest round.
SLACK: Final = {"redis": 128 * 1024, "sqlite": MIB}
RESIDENT_SLACK: Final = 16 * MIB


@asynccontextmanager
async def on_redis(folder: Path, jobs: int, seed: int) -> AsyncGenerator[Soak]:
    """Start a server and a queue on it."""
    server = RedisServer(folder, BINARIES[0], "--appendonly", "yes").start()
    queue = RedisQueue(server.url, OPTIONS, namespace=NAMESPACE, redis=REDIS, strict=False)
    census = RedisCensus(server.url, f"{{{NAMESPACE}:0}}:")
    try:
        await queue.start(outbox=True)
        yield Soak(queue, census, jobs=jobs, seed=seed)
    finally:
        await queue.aclose()
        await census.aclose()
        server.stop()


@asynccontextmanager
async def on_file(folder: Path, jobs: int, seed: int) -> AsyncGenerator[Soak]:
    """Start a queue in a new file."""
    queue = SqliteQueue(folder / "queue.db", OPTIONS)
    await queue.start(outbox=True)
    try:
        yield Soak(queue, FileCensus(folder / "queue.db"), jobs=jobs, seed=seed)
    finally:
        await queue.aclose()


Opened = Callable[[Path, int, int], AbstractAsyncContextManager[Soak]]
BACKENDS: Final[dict[str, Opened]] = {"redis": on_redis, "sqlite": on_file}


async def soaked(opened: Opened, minutes: float, jobs: int, seed: int) -> list[Reading]:
    """Do rounds for so long, and no fewer than show growth."""
    until = time.monotonic() + minutes * 60
    with TemporaryDirectory() as folder:
        async with opened(Path(folder), jobs, seed) as soak:
            return [reading async for reading in soak.rounds(lambda done: done < ROUNDS or time.monotonic() < until)]


def table_of(backend: str, readings: Sequence[Reading]) -> Table:
    """Show some of the rounds, the first and the last among them."""
    table = Table(title=f"{backend}: {len(readings)} rounds, what was left after some of them")
    for name in (
        "round",
        "jobs",
        "keys" if backend == "redis" else "rows",
        "elements",
        "log",
        "MiB",
        "RSS MiB",
        "strays",
    ):
        table.add_column(name, justify="right")
    step = max((len(readings) - 1) / (SHOWN - 1), 1.0)
    for index in sorted({min(round(place * step), len(readings) - 1) for place in range(SHOWN)}):
        reading = readings[index]
        size = f"{reading.bytes / MIB:.2f}"
        counts = (index + 1, reading.jobs, sum(reading.kinds.values()), reading.elements, reading.log)
        resident = f"{reading.resident / MIB:.1f}"
        table.add_row(*(f"{count:,}" for count in counts), size, resident, str(len(reading.strays)))
    return table


def main() -> int:
    """Run, show, and judge."""
    parser = argparse.ArgumentParser(description="Keep a queue busy and tell whether anything grows.")
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="redis")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--jobs", type=int, default=JOBS, help="in each round")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    backend: str = asked.backend
    readings = asyncio.run(soaked(BACKENDS[backend], asked.minutes, asked.jobs, asked.seed))
    grown = growth(readings, slack=SLACK[backend], resident_slack=RESIDENT_SLACK)
    console = Console()
    console.print(table_of(backend, readings))
    console.print("left: ", dict(readings[-1].kinds))
    for complaint in grown:
        console.print(f"grown: {complaint}", style="red", markup=False)
    console.print("Nothing grows." if not grown else "Something grows.")
    return int(bool(grown))


if __name__ == "__main__":
    sys.exit(main())
