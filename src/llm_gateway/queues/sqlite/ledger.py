"""All jobs of the file and the one place where they change. Everything here runs in the writer's thread."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from typing import Final

from llm_gateway._core.intake import first_view
from llm_gateway._core.jobs import JobError, JobView, Lease, NewJob
from llm_gateway._core.journal import LOG_LENGTH
from llm_gateway._core.lifecycle import TRANSITIONS, TicketState, Trigger
from llm_gateway._core.settlement import lost_attempt, remember
from llm_gateway._facts import Attempt, Fault
from llm_gateway.errors import ErrorInfo, QueueError, TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock
from llm_gateway.queues.sqlite.lanes import LaneTable, Standing
from llm_gateway.queues.sqlite.rows import Damaged, Hold, Record, blob, facts_of, integer, read_record, time_of
from llm_gateway.queues.sqlite.schema import joined, one
from llm_gateway.queues.sqlite.tally import Tally
from llm_gateway.queues.sqlite.wakes import Changes

__all__ = ["JOB", "JOB_COLUMNS", "JOB_TABLES", "Ledger"]

JOB_COLUMNS: Final = (
    "j.id, j.lane, l.provider, l.model, j.ticket, j.tenant, j.state, j.version, j.priority, j.key, j.fingerprint,"
    " j.created, j.expires, j.updated, j.grp, j.requeued_from, j.facts, c.echo, c.subjects, j.size, j.place, j.sort,"
    " j.tagged, j.token, j.worker, j.claim, j.since, j.deadline, j.renewed, j.settled, j.buried"
)
JOB_TABLES: Final = "jobs j LEFT JOIN lanes l ON l.id = j.lane LEFT JOIN contents c ON c.id = j.id "
JOB: Final = joined("SELECT", JOB_COLUMNS, "FROM", JOB_TABLES)
INSERT: Final = (
    "INSERT INTO jobs (ticket, tenant, lane, state, version, priority, key, fingerprint, created, expires, updated,"
    " grp, requeued_from, facts, size, place, sort, tagged, event)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# Apart, since an index costs whenever a column it leans on is set, whether or not the value is another.
MOVE: Final = (
    "UPDATE jobs SET state = ?, version = ?, updated = ?, facts = ?, settled = ?, event = ?, place = ?, sort = ?,"
    " tagged = ?, token = ?, worker = ?, claim = ?, since = ?, deadline = ?, renewed = ? WHERE id = ?"
)
END: Final = (
    "UPDATE jobs SET state = ?, version = ?, updated = ?, facts = ?, settled = ?, event = ?, live = 0, retain = ?,"
    " place = NULL, sort = NULL, token = NULL, worker = NULL, claim = NULL, since = NULL, deadline = NULL,"
    " renewed = NULL WHERE id = ?"
)
NOTE: Final = "INSERT INTO events (number, job, state, version, at, facts, outbox) VALUES (?, ?, ?, ?, ?, ?, ?)"
# What can be saved of a row that cannot be read: its ids, its times where they are times, whom to tell.
MEND: Final = (
    "UPDATE jobs SET facts = '{}', priority = 'batch', state = 'processing', token = NULL,"
    " created = CASE typeof(created) WHEN 'integer' THEN created ELSE updated END,"
    " expires = CASE typeof(expires) WHEN 'integer' THEN expires ELSE updated END WHERE id = ?"
)
MEND_CONTENTS: Final = (
    "UPDATE contents SET subjects = '[]', echo = CASE typeof(echo) WHEN 'blob' THEN echo ELSE CAST('{}' AS BLOB) END"
    " WHERE id = ?"
)
# A group is held for jobs that are still to come too, but not when the last that was known of it is forgotten.
RELEASE: Final = (
    "DELETE FROM parked_groups WHERE (tenant, grp) = (SELECT tenant, grp FROM jobs WHERE id = ?) AND NOT EXISTS"
    " (SELECT 1 FROM jobs j WHERE j.tenant = parked_groups.tenant AND j.grp = parked_groups.grp AND j.id <> ?)"
)
DAMAGED: Final = JobError(
    type="QueueError", message="The stored request is damaged.", fault=Fault.UNKNOWN, code="damaged"
)
CHANGES_AT_ONCE: Final = 1_000
TRIMMED_AT_ONCE: Final = 2_000
TRIM_EVERY: Final = 100


class Ledger:
    """The state of a queue, in the file.

    Args:
        db: The file.
        options: Bounds and retention.
        clock: Time.
    """

    def __init__(self, db: sqlite3.Connection, options: QueueOptions, clock: Clock) -> None:
        self.db = db
        self.options = options
        self.clock = clock
        self.tally = Tally(db)
        self.lanes = LaneTable(db, self.tally)
        self._seen = self.latest()
        oldest = one(db, "SELECT min(number) FROM events")
        self._trimmed = 0 if oldest is None or oldest[0] is None else integer(oldest[0]) - 1
        self._nudges: object = None

    @property
    def relaying(self) -> bool:
        """Whether events go to the outbox: one process that relays has all that share the file write it."""
        return self.tally.totals.relaying

    def visible(self, tenant: str, ticket_id: str) -> Record:
        """Return a job as its tenant may see it.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
            QueueError: its row is damaged.
        """
        record = self.record(ticket_id)
        if record is None or record.buried or record.view.tenant != tenant:
            message = "There is no such ticket."
            raise TicketNotFound(message, info=ErrorInfo(ticket_id=ticket_id))
        return record

    def at_hand(self, tenant: str, ticket_id: str) -> Record:
        """Return a job that is to be changed: one that is damaged is ended first.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        self.mended("WHERE j.ticket = ?", ticket_id)
        return self.visible(tenant, ticket_id)

    def record(self, ticket_id: str) -> Record | None:
        """Return a job, if there is one."""
        return self.first("WHERE j.ticket = ?", ticket_id)

    def first(self, where: str, *values: object) -> Record | None:
        """Return the first job that fits.

        Raises:
            QueueError: its row is damaged.
        """
        records, damaged = self.all(where, *values)
        if damaged:
            message = "The stored ticket is damaged; it ends as a dead letter when its turn comes."
            raise QueueError(message, next_step="Submit the request again under a new key.")
        return records[0] if records else None

    def all(self, where: str, *values: object) -> tuple[list[Record], list[int]]:
        """Return the jobs that fit, and apart from them the rows that are damaged."""
        records, damaged = list[Record](), list[int]()
        for row in self.db.execute(JOB + where, values).fetchall():
            try:
                records.append(read_record(row))
            except Damaged:
                damaged.append(integer(row[0]))
        return records, damaged

    def mended(self, where: str, *values: object) -> list[Record]:
        """Return the jobs that fit, after ending those whose rows are damaged."""
        records, damaged = self.all(where, *values)
        for row in damaged:
            self.condemn(row)
        return self.readable(where, *values) if damaged else records

    def readable(self, where: str, *values: object) -> list[Record]:
        """Return the jobs that fit and can be read."""
        return self.all(where, *values)[0]

    def shown(self, record: Record) -> JobView:
        """Return a job with its place in the lane; ``None`` unless it is near the front of the ready."""
        if record.place != "ready" or record.sort is None:
            return record.view
        ahead = self.lanes.ahead(record.lane_id, record.sort, record.id)
        return record.view if ahead is None else record.view._replace(position=ahead)

    def insert(self, job: NewJob) -> Record:
        """Store a job as queued."""
        view = first_view(job, self.clock.now())
        lane_id, size, facts = self.lanes.id_of(job.lane), len(job.payload), facts_of(view)
        stands = self._waiting(view, lane_id, tagged=False)
        number = self.tally.next_number()
        times = (time_of(view.created_at), time_of(view.expires_at), time_of(view.updated_at))
        made = self.db.execute(
            INSERT,
            (
                *(view.ticket_id, view.tenant, lane_id, view.state, 1, view.priority, view.idempotency_key),
                *(view.fingerprint, *times, view.group, view.requeued_from, facts, size),
                *(stands.place, stands.sort, stands.tagged, number),
            ),
        )
        row = made.lastrowid or 0
        self._put_contents(row, job)
        self.db.execute(NOTE, (number, row, view.state, 1, times[2], facts, self.relaying))
        self.lanes.shift(lane_id, None, stands.place)
        self.tally.count(depth=1, size=size)
        return Record(
            id=row,
            lane_id=lane_id,
            view=view,
            size=size,
            place=stands.place,
            sort=stands.sort,
            tagged=stands.tagged,
            hold=None,
            settled=None,
            buried=False,
        )

    def apply(
        self,
        record: Record,
        trigger: Trigger,
        draft: JobView,
        *,
        hold: Hold | None = None,
        settled: str | None = None,
        result: bytes | None = None,
    ) -> Record:
        """Make one transition: state, version, counters, result and event. The only place that moves a state."""
        now, state = self.clock.now(), TRANSITIONS[record.view.state, trigger]
        view = draft._replace(state=state, version=record.view.version + 1, updated_at=now)
        stands = self._standing(record, view, trigger, hold)
        moved = record._replace(
            view=view,
            place=None if stands is None else stands.place,
            sort=None if stands is None else stands.sort,
            tagged=record.tagged if stands is None else stands.tagged,
            hold=hold,
            settled=settled or record.settled,
        )
        self._move(moved)
        self.lanes.shift(record.lane_id, record.place, moved.place, dead=state is TicketState.FAILED)
        if stands is None:
            self.tally.count(depth=-1, size=-record.size)
            if state is not TicketState.FAILED:
                self.db.execute("UPDATE contents SET payload = NULL, result = ? WHERE id = ?", (result, record.id))
        return moved

    def end(self, record: Record, trigger: Trigger, fault: Fault) -> Record:
        """Expire or cancel a job; a call that was under way may be billed, and the history says so."""
        view = record.view._replace(reason=None, not_before=None)
        return self.apply(record, trigger, remember(view, self.lost(record, fault)))

    def lost(self, record: Record, fault: Fault) -> Attempt | None:
        """Return the attempt that nobody will report, if a call was under way."""
        since = None if record.hold is None else record.hold.since
        return lost_attempt(record.view, since, fault, self.clock.now())

    def condemn(self, row: int) -> None:
        """End a job whose row cannot be read as a dead letter that says so.

        What had ended before, and what cannot even be mended, is removed.
        """
        if one(self.db, "SELECT place FROM jobs WHERE id = ?", row) in {None, (None,)}:
            self.forget(row)
            return
        self.db.execute(MEND, (row,))
        self.db.execute(MEND_CONTENTS, (row,))
        mended, lost = self.all("WHERE j.id = ?", row)
        for record in mended:
            self.apply(record, Trigger.FAILED, record.view._replace(error=DAMAGED))
        if lost:
            self._write_off(row)
            self.forget(row)

    def lease(self, record: Record, hold: Hold) -> Lease:
        """Return the lease that a hold stands for."""
        found = one(self.db, "SELECT payload FROM contents WHERE id = ?", record.id)
        payload = b"" if found is None or found[0] is None else blob(found[0])
        return Lease(job=record.view, payload=payload, token=hold.token, deadline=hold.deadline, worker=hold.worker)

    def bury(self, record: Record) -> None:
        """Remove all content of a job that has ended; its id and key stay taken for as long as the key must live."""
        view, row = record.view, record.id
        leaving = one(self.db, "SELECT 1 FROM events WHERE job = ? AND outbox = 1 LIMIT 1", row) is not None
        # What still has to leave keeps its echo, which names whom to tell.
        self.db.execute("UPDATE events SET echo = ? WHERE job = ? AND outbox = 1", (view.echo, row))
        self.db.execute("UPDATE events SET facts = '{}' WHERE job = ?", (row,))
        self.db.execute("DELETE FROM contents WHERE id = ?", (row,))
        self.db.execute("INSERT INTO contents VALUES (?, CAST('{}' AS BLOB), '[]', NULL, NULL)", (row,))
        held = [(view.tenant, subject, row) for subject in view.subjects]
        self.db.executemany("DELETE FROM subjects WHERE tenant = ? AND subject = ? AND job = ?", held)
        retain = None if leaving else self.key_ends(view)
        self.db.execute("UPDATE jobs SET buried = 1, facts = '{}', retain = ? WHERE id = ?", (retain, row))
        self.lanes.shift(record.lane_id, None, None, dead=-(view.state is TicketState.FAILED))
        self.nudge()

    def forget(self, row: int) -> None:
        """Remove the last of a buried job: its id and its key."""
        self.db.execute(RELEASE, (row, row))
        # What goes without having left must not be waited for.
        leaving = one(self.db, "SELECT count(*) FROM events WHERE job = ? AND outbox = 1", row) or (0,)
        self.tally.count(outbox=-integer(leaving[0]))
        for statement in ("DELETE FROM contents WHERE id = ?", "DELETE FROM events WHERE job = ?"):
            self.db.execute(statement, (row,))
        self.db.execute("DELETE FROM jobs WHERE id = ?", (row,))

    def retained_until(self, view: JobView, now: datetime) -> int:
        """Tell when the content of a job goes whose retention starts now."""
        failed = view.state is TicketState.FAILED
        return time_of(now + (self.options.dead_letter_retention if failed else self.options.result_retention))

    def key_ends(self, view: JobView) -> int:
        """Tell when the key of a job may be forgotten."""
        return time_of(view.expires_at + self.options.result_retention)

    def nudge(self) -> None:
        """Have every process look again: something changed that no event tells of."""
        self.db.execute("UPDATE totals SET nudge = nudge + 1")

    def latest(self) -> int:
        """Return the number of the latest event."""
        return self.tally.totals.latest

    def tidy(self) -> None:
        """Drop the events that have left and that the log no longer keeps, some at once."""
        until = min(self.latest() - LOG_LENGTH, self._trimmed + TRIMMED_AT_ONCE)
        if until - self._trimmed >= TRIM_EVERY:
            gone = (self._trimmed, until)
            self.db.execute("DELETE FROM events WHERE number > ? AND number <= ? AND outbox = 0", gone)
            self._trimmed = until

    def changes(self) -> Changes:
        """Tell what was committed since this was last asked."""
        rows: Iterable[tuple[int, str, str]] = self.db.execute(
            "SELECT e.number, e.state, j.ticket FROM events e LEFT JOIN jobs j ON j.id = e.job WHERE e.number > ?"
            " ORDER BY e.number LIMIT ?",
            (self._seen, CHANGES_AT_ONCE + 1),
        ).fetchall()
        told = list(rows)
        nudges, latest = one(self.db, "SELECT nudge, latest FROM totals") or (0, 0)
        nudged, self._nudges = self._nudges not in (None, nudges), nudges
        self._seen = told[-1][0] if told else self._seen
        if len(told) > CHANGES_AT_ONCE:
            self._seen, nudged = integer(latest), True
        queued = any(state == TicketState.QUEUED for _, state, _ in told)
        return Changes([ticket for _, _, ticket in told], ready=queued, everything=nudged)

    def _waiting(self, view: JobView, lane_id: int, *, tagged: bool) -> Standing:
        if view.not_before is not None and view.not_before > self.clock.now():
            return Standing("delayed", time_of(view.not_before), tagged=tagged)
        return self.lanes.standing(lane_id, view.tenant, view.priority, tagged=tagged)

    def _standing(self, record: Record, view: JobView, trigger: Trigger, hold: Hold | None) -> Standing | None:
        if view.state.terminal:
            return None
        if hold is not None:
            return Standing("held", hold.ends, tagged=record.tagged)
        if trigger is Trigger.PARKED:
            return Standing("parked", None, tagged=record.tagged)
        return self._waiting(view, record.lane_id, tagged=record.tagged)

    def _move(self, record: Record) -> None:
        view, hold, facts = record.view, record.hold, facts_of(record.view)
        at = time_of(view.updated_at)
        number = self.tally.next_number()
        self.db.execute(NOTE, (number, record.id, view.state, view.version, at, facts, self.relaying))
        moved = (view.state, view.version, at, facts, record.settled, number)
        if view.state.terminal:
            # What is relayed is kept until it has left.
            retain = None if self.relaying else self.retained_until(view, view.updated_at)
            self.db.execute(END, (*moved, retain, record.id))
            return
        held: tuple[object, ...] = (None,) * 6
        if hold is not None:
            times = (time_of(hold.since), time_of(hold.deadline), hold.renewed)
            held = (hold.token, hold.worker, hold.claim_id, *times)
        self.db.execute(MOVE, (*moved, record.place, record.sort, record.tagged, *held, record.id))

    def _write_off(self, row: int) -> None:
        # What cannot be read is counted as far as it can be: it must not take the room of others for ever.
        size, lane_id, place = one(self.db, "SELECT size, lane, place FROM jobs WHERE id = ?", row) or (0, 0, "")
        held = self.tally.totals.bytes
        self.tally.count(depth=-1, size=-min(size, held) if isinstance(size, int) else 0)
        if isinstance(lane_id, int) and isinstance(place, str):
            self.lanes.shift(lane_id, place, None)

    def _put_contents(self, row: int, job: NewJob) -> None:
        subjects = json.dumps(job.subjects)
        self.db.execute("INSERT INTO contents VALUES (?, ?, ?, ?, NULL)", (row, job.echo, subjects, job.payload))
        for subject in set(job.subjects):
            self.db.execute("INSERT INTO subjects VALUES (?, ?, ?)", (job.tenant, subject, row))
