"""Events that leave, and events that are watched, in the file."""

from __future__ import annotations

from functools import partial
from typing import Final

from llm_gateway._core.jobs import JobEvent, JobView
from llm_gateway._core.journal import LOG_LENGTH, event_of, number_of
from llm_gateway._core.lifecycle import TERMINAL, TicketState
from llm_gateway.protocols import Outbox, Watch
from llm_gateway.queues.sqlite.desk import OnFile
from llm_gateway.queues.sqlite.ledger import JOB_COLUMNS, JOB_TABLES, Ledger
from llm_gateway.queues.sqlite.rows import Damaged, blob, integer, read_record
from llm_gateway.queues.sqlite.schema import joined, one

__all__ = ["FileOutbox", "FileWatch"]

RESULT: Final = ", CASE WHEN j.state = 'completed' THEN c.result END"
EVENT: Final = joined(
    "SELECT",
    JOB_COLUMNS,
    RESULT,
    ", e.number, e.state, e.version, e.at, e.facts, e.echo FROM events e JOIN jobs j ON j.id = e.job"
    " LEFT JOIN lanes l ON l.id = j.lane LEFT JOIN contents c ON c.id = j.id ",
)
STANDING: Final = joined("SELECT", JOB_COLUMNS, RESULT, ", j.event FROM", JOB_TABLES)
WIDTH: Final = JOB_COLUMNS.count(",") + 1
# Where the columns of an event take the place of the job's own.
# Retention begins with a job's end, and the key of an erased one is kept until all of its events have left.
LAST: Final = (
    "WHERE j.id = ? AND (? OR j.buried) AND NOT EXISTS (SELECT 1 FROM events e WHERE e.job = j.id AND e.outbox = 1)"
)
STATE, VERSION, UPDATED, FACTS, ECHO = 6, 7, 13, 16, 17


class FileOutbox(OnFile, Outbox):
    """Events that still have to leave."""

    @property
    def outbox_shards(self) -> int:
        """One."""
        return 1

    async def lead(self, shard: int, token: str, seconds: float) -> bool:
        """Take, or renew, the right to relay for *seconds*; False while another token holds it.

        It is shared by all processes of the host, and void once the machine has started anew.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
        """

        def take(ledger: Ledger) -> bool:
            now = ledger.clock.monotonic()
            if one(ledger.db, "SELECT 1 FROM leads WHERE token != ? AND ends > ?", token, now) is not None:
                return False
            ledger.db.execute("INSERT OR REPLACE INTO leads VALUES (?, ?, ?, ?)", (shard, token, now + seconds, now))
            return True

        return await self._write(take)

    async def yield_lead(self, shard: int, token: str) -> None:
        """Give the right back, if it is still this token's.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
        """
        await self._write(lambda ledger: ledger.db.execute("DELETE FROM leads WHERE token = ?", (token,)))

    async def unrelayed(self, shard: int, limit: int = 100) -> list[JobEvent]:
        """Return the oldest events that nobody acknowledged. What can be read of the file is on the disk.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
        """
        return await self._read(lambda ledger: leaving(ledger, limit))

    async def relayed(self, shard: int, cursor: str, token: str) -> bool:
        """Acknowledge all events up to this one; retention starts for jobs whose terminal event was among them.

        False when the token no longer leads: then nothing changes.

        Raises:
            InvalidRequest: the cursor is none of this queue's.
            QueueUnavailable: the queue is closed or its file cannot be used.
        """
        number = number_of(cursor)

        def fenced(ledger: Ledger) -> bool:
            if not leads(ledger, token):
                return False
            acknowledge(ledger, number)
            return True

        return await self._write(fenced)

    async def close_outbox(self, shard: int, token: str) -> bool:
        """Write no more events for a relay, in any process, until one starts that publishes.

        False, and nothing changes, unless this token leads and all events have left.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
        """

        def close(ledger: Ledger) -> bool:
            if not leads(ledger, token) or leaving(ledger, 1):
                return False
            ledger.tally.relay(on=False)
            return True

        return await self._write(close)

    async def wait_unrelayed(self, shard: int) -> None:
        """Return when there is an event to relay.

        Raises:
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        writer = self._open
        with writer.wakes.watching():
            while True:
                written = writer.wakes.written.listen()
                if await self._read(lambda ledger: leaving(ledger, 1)):
                    return
                await written.wait()


class FileWatch(OnFile, Watch):
    """Being told of changes."""

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        """Return the job once its version exceeds *beyond*.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's; also when it goes meanwhile.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        writer = self._open
        signal = writer.wakes.of_ticket(ticket_id)
        with writer.wakes.watching():
            while True:
                changed = signal.listen()
                view = await self._read(lambda ledger: ledger.shown(ledger.visible(tenant, ticket_id)))
                if view.version > beyond:
                    return view
                await changed.wait()

    async def events(self, tenant: str, *, group: str | None, after: str | None, limit: int = 100) -> list[JobEvent]:
        """Wait for events after a cursor (from now on when ``None``).

        The log keeps the latest 10 000. Past a gap come first the current states of the jobs that changed within it,
        in the order of their latest change, each with the cursor of that change: going on from any loses nothing.

        Raises:
            InvalidRequest: the cursor is none of this queue's.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        writer, whose = self._open, (tenant, group)
        place = None if after is None else number_of(after)
        with writer.wakes.watching():
            while True:
                written = writer.wakes.written.listen()
                batch, place = await self._read(partial(told, place=place, whose=whose, limit=limit))
                if batch:
                    return batch
                await written.wait()


def leads(ledger: Ledger, token: str) -> bool:
    """Whether a token leads."""
    return (
        one(ledger.db, "SELECT 1 FROM leads WHERE token = ? AND ends > ?", token, ledger.clock.monotonic()) is not None
    )


def leaving(ledger: Ledger, limit: int) -> list[JobEvent]:
    """Return the oldest events of the outbox. One whose row is damaged does not hold up those behind it."""
    found, after = list[JobEvent](), 0
    where = "WHERE e.outbox = 1 AND e.number > ? ORDER BY e.number LIMIT ?"
    while rows := ledger.db.execute(EVENT + where, (after, limit)).fetchall():
        found += readable_events(rows, to_leave=True)
        if found or len(rows) < limit:
            break
        after = integer(rows[-1][WIDTH + 1])
    return found


def acknowledge(ledger: Ledger, number: int) -> None:
    """Take events out of the outbox."""
    leaving = "SELECT job, state FROM events WHERE outbox = 1 AND number <= ?"
    rows = ledger.db.execute(leaving, (number,)).fetchall()
    ledger.db.execute("UPDATE events SET outbox = 0, echo = NULL WHERE outbox = 1 AND number <= ?", (number,))
    ledger.tally.count(outbox=-len(rows))
    floor = min(number, ledger.latest() - LOG_LENGTH)
    ledger.db.execute("DELETE FROM events WHERE outbox = 0 AND number <= ?", (floor,))
    now = ledger.clock.now()
    for row, state in rows:
        # A job that was erased is not shown any more; its key is what is still kept.
        for record in ledger.readable(LAST, row, state in TERMINAL):
            ends = ledger.key_ends(record.view) if record.buried else ledger.retained_until(record.view, now)
            ledger.db.execute("UPDATE jobs SET retain = ? WHERE id = ?", (ends, row))


def told(ledger: Ledger, *, place: int | None, whose: tuple[str, str | None], limit: int) -> tuple[list[JobEvent], int]:
    """Return what a watcher has not seen, and where it stands."""
    latest = ledger.latest()
    if place is None:
        return [], latest
    place = 0 if place > latest else place
    first = latest - LOG_LENGTH + 1
    batch = missed(ledger, (place, first), whose, limit) if place < first - 1 else []
    return batch or logged(ledger, max(place, first - 1), whose, limit), latest


def logged(ledger: Ledger, place: int, whose: tuple[str, str | None], limit: int) -> list[JobEvent]:
    """Return the events after a place."""
    tenant, group = whose
    where = "WHERE e.number > ? AND j.tenant = ? AND (? IS NULL OR j.grp = ?) ORDER BY e.number LIMIT ?"
    return readable_events(ledger.db.execute(EVENT + where, (place, tenant, group, group, limit)).fetchall())


def missed(ledger: Ledger, gap: tuple[int, int], whose: tuple[str, str | None], limit: int) -> list[JobEvent]:
    """Return where the jobs stand whose latest change lies in a gap of the log."""
    tenant, group = whose
    where = (
        "WHERE j.buried = 0 AND j.tenant = ? AND j.event > ? AND j.event < ? AND (? IS NULL OR j.grp = ?)"
        " ORDER BY j.event LIMIT ?"
    )
    found = list[JobEvent]()
    for row in ledger.db.execute(STANDING + where, (tenant, *gap, group, group, limit)).fetchall():
        try:
            found.append(event_of(read_record(row).view, read_result(row[WIDTH]), integer(row[WIDTH + 1])))
        except Damaged:
            continue
    return found


def readable_events(rows: list[tuple[object, ...]], *, to_leave: bool = False) -> list[JobEvent]:
    """Read events, but for those of rows that are damaged: these end with an event that can be read."""
    found = list[JobEvent]()
    for row in rows:
        result, number, state, version, at, facts, echo = row[WIDTH:]
        columns = list(row[:WIDTH])
        columns[STATE], columns[VERSION], columns[UPDATED], columns[FACTS] = state, version, at, facts
        columns[ECHO] = echo if to_leave and echo is not None else columns[ECHO]
        try:
            view = read_record(tuple(columns)).view
        except Damaged:
            continue
        kept = read_result(result) if view.state is TicketState.COMPLETED else None
        found.append(event_of(view, kept, integer(number)))
    return found


def read_result(value: object) -> bytes | None:
    """Read a stored result."""
    return None if value is None else blob(value)
