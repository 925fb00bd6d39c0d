"""What a queue has stored in its file, table by table. Everything is counted: for tests and measurements alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.queues.resident import resident
from tests.queues.soak import Reading

from llm_gateway.queues.sqlite.schema import joined

__all__ = ["FileCensus"]

# Rows of jobs and of what goes with them.
OF_JOBS: Final = ("jobs", "contents", "subjects", "parked_groups", "flows")
# Here the events of a job go with it.
LOG: Final = "events"
STRAYS: Final = {
    "contents": "SELECT count(*) FROM contents WHERE id NOT IN (SELECT id FROM jobs)",
    "subjects": "SELECT count(*) FROM subjects WHERE job NOT IN (SELECT id FROM jobs)",
    "jobs": "SELECT count(*) FROM jobs WHERE place IS NULL AND retain IS NULL AND id NOT IN"
    " (SELECT job FROM events WHERE outbox = 1)",
}


class FileCensus:
    """The file of a queue.

    Args:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    async def unsettled(self) -> int:
        """Count the rows of jobs and of what goes with them."""
        with closing(sqlite3.connect(self._path)) as db:
            return sum(count(db, joined("SELECT count(*) FROM", table)) for table in OF_JOBS)

    async def strays(self) -> list[str]:
        """Name the tables with rows that no sweep comes to."""
        with closing(sqlite3.connect(self._path)) as db:
            return [table for table, query in STRAYS.items() if count(db, query)]

    async def read(self, jobs: int, strays: Sequence[str]) -> Reading:
        """Read what is left, after writing the log of changes into the file."""
        with closing(sqlite3.connect(self._path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            rows = {table: count(db, joined("SELECT count(*) FROM", table)) for table in tables if table != LOG}
            log = count(db, "SELECT count(*) FROM events")
        return Reading(
            jobs=jobs,
            kinds={table: number for table, number in rows.items() if number},
            elements=sum(rows.values()),
            bytes=self._path.stat().st_size,
            log=log,
            resident=resident(),
            strays=tuple(strays),
        )


def count(db: sqlite3.Connection, query: str) -> int:
    """Return the one number that a query gives."""
    ((number,),) = db.execute(query).fetchall()
    assert isinstance(number, int)
    return number
