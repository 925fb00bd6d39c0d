"""A queue file under test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

from llm_gateway.options import QueueOptions
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import Bench

__all__ = ["SECOND", "OpenQueue", "bench", "content", "fill", "modes_beside", "sql"]

SECOND: Final = timedelta(seconds=1)


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


def modes_beside(path: Path) -> set[int]:
    """Tell who may do what with a file and those beside it."""
    return {each.stat().st_mode & 0o777 for each in path.parent.iterdir()}


async def sql(b: Bench, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Run a statement in the queue's own thread and transaction."""
    assert isinstance(b.queue, OpenQueue)
    rows: list[tuple[object, ...]] = []
    await b.queue.do(lambda ledger: rows.extend(ledger.db.execute(statement, values).fetchall()))
    return rows
