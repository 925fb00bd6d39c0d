"""A queue file under test."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

from llm_gateway.options import QueueOptions
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import Bench

__all__ = ["SECOND", "OpenQueue", "bench", "content", "fill", "miscounts", "modes_beside", "sql"]

SECOND: Final = timedelta(seconds=1)
# Each count that the file keeps beside the rows that it counts.
COUNTED: Final = (
    "SELECT depth, (SELECT count(*) FROM jobs WHERE live) FROM totals",
    "SELECT bytes, (SELECT coalesce(sum(size), 0) FROM jobs WHERE live) FROM totals",
    "SELECT outbox, (SELECT count(*) FROM events WHERE outbox) FROM totals",
    "SELECT latest, (SELECT max(number) FROM events) FROM totals",
    "SELECT ready, (SELECT count(*) FROM jobs WHERE place = 'ready' AND lane = lanes.id) FROM lanes",
    "SELECT delayed, (SELECT count(*) FROM jobs WHERE place = 'delayed' AND lane = lanes.id) FROM lanes",
    "SELECT held, (SELECT count(*) FROM jobs WHERE place = 'held' AND lane = lanes.id) FROM lanes",
    "SELECT parked, (SELECT count(*) FROM jobs WHERE place = 'parked' AND lane = lanes.id) FROM lanes",
    "SELECT dead, (SELECT count(*) FROM jobs WHERE state = 'failed' AND NOT buried AND lane = lanes.id) FROM lanes",
)


@asynccontextmanager
async def bench(
    path: Path, options: QueueOptions | None = None, *, clock: FakeClock | None = None, outbox: bool = True
) -> AsyncGenerator[Bench]:
    """Open a queue and close it afterwards."""
    time = clock or FakeClock()
    queue = OpenQueue(path, options or QueueOptions(), clock=time)
    await queue.start(outbox=outbox)
    try:
        yield Bench(queue, time, count(1))
    finally:
        await queue.aclose()


class OpenQueue(SqliteQueue):
    """A queue whose file can be worked on from a test, in its own thread."""

    async def do(self, work: Callable[[Ledger], object]) -> object:
        """Work on the file."""
        return await self._write(work)

    @property
    def waiting(self) -> int:
        """How many wait for a change of the file."""
        return self._open.wakes.waiting


def content(path: Path) -> bytes:
    """Read a file and those beside it."""
    return b"".join(each.read_bytes() for each in sorted(path.parent.iterdir()))


def fill(path: Path, what: bytes) -> None:
    """Write a file."""
    path.write_bytes(what)


def miscounts(path: Path) -> list[tuple[str, int, int]]:
    """Tell which counts of a file differ from the rows that they count: how, as kept and as counted."""
    with closing(sqlite3.connect(path)) as db:
        found = [(query, *row) for query in COUNTED for row in db.execute(query).fetchall()]
    return [(query, kept, counted) for query, kept, counted in found if kept != counted]


def modes_beside(path: Path) -> set[int]:
    """Tell who may do what with a file and those beside it."""
    return {each.stat().st_mode & 0o777 for each in path.parent.iterdir()}


async def sql(b: Bench, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement in the queue's own thread and transaction."""
    assert isinstance(b.queue, OpenQueue)
    rows: list[tuple[object, ...]] = []
    await b.queue.do(lambda ledger: rows.extend(ledger.db.execute(statement, values).fetchall()))
    return rows
