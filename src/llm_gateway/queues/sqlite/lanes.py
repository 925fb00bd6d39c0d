"""Lanes in the file: gates, counters, fair order."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import Final, NamedTuple

from llm_gateway._core.fairness import entry_tag
from llm_gateway._core.jobs import Lane, LaneGate, LaneStats
from llm_gateway._core.requests import Priority
from llm_gateway.queues.sqlite.rows import integer, number, optional, read_time, text, time_of
from llm_gateway.queues.sqlite.schema import one
from llm_gateway.queues.sqlite.tally import RANKED, Tally

__all__ = ["LaneTable", "Standing"]

PROMOTED_AT_ONCE: Final = 256
LANE: Final = (
    "SELECT id, provider, model, ready, delayed, held, parked, dead, circuit, not_before, max_in_flight,"
    " paused, parked_why, heartbeat FROM lanes "
)
AHEAD: Final = (
    "SELECT count(*) FROM (SELECT 1 FROM jobs WHERE place = 'ready' AND lane = ? AND sort <= ?"
    " AND (sort < ? OR id < ?) LIMIT ?)"
)


class Standing(NamedTuple):
    """Where a job stands in its lane: its place, its order there, and whether it has had a tag before."""

    place: str
    sort: float | None
    tagged: bool


class LaneTable:
    """The lanes of a file. To be used inside a transaction of the writer's thread."""

    def __init__(self, db: sqlite3.Connection, tally: Tally) -> None:
        self._db = db
        self._tally = tally

    def id_of(self, lane: Lane) -> int:
        """Return the row of a lane, new if need be."""
        found = one(self._db, "SELECT id FROM lanes WHERE provider = ? AND model = ?", lane.provider, lane.model)
        if found is not None:
            return integer(found[0])
        made = self._db.execute("INSERT INTO lanes (provider, model) VALUES (?, ?)", (lane.provider, lane.model))
        return made.lastrowid or 0

    def shift(self, lane_id: int, before: str | None, after: str | None, *, dead: int = 0, count: int = 1) -> None:
        """Count jobs that went from one place to another."""
        for place, by in ((before, -count), (after, count), ("dead", dead)):
            if place is not None and by:
                self._tally.move(lane_id, place, by)

    def standing(self, lane_id: int, tenant: str, priority: Priority, *, tagged: bool) -> Standing:
        """Give a job its tag among the ready: after those of its flow, or soon when it comes back."""
        virtual = self._tally.virtual(lane_id)
        if tagged:
            return Standing("ready", entry_tag(virtual, None, priority.weight), tagged=True)
        flow = (lane_id, tenant, priority.value)
        tag = entry_tag(virtual, self._tally.last(flow), priority.weight)
        self._tally.tag(flow, tag)
        return Standing("ready", tag, tagged=True)

    def served(self, lane_id: int, tag: float) -> None:
        """Move the virtual time up to the largest tag handed out, and forget the flows that it has passed."""
        self._tally.reach(lane_id, tag)

    def ahead(self, lane_id: int, sort: float, row: int) -> int | None:
        """Tell how many ready jobs stand before one; ``None`` unless it is near the front."""
        if self._tally.far_back(lane_id, sort):
            return None
        found = one(self._db, AHEAD, lane_id, sort, sort, row, RANKED)
        ahead = RANKED if found is None else integer(found[0])
        return ahead if ahead < RANKED else None

    def forget_flows(self) -> None:
        """Forget the flows of lanes without jobs: where jobs only expire or are cancelled, nobody passes them."""
        self._tally.forget_idle()

    def promote(self, lane_id: int, now: datetime) -> None:
        """Make those ready whose time has come, some at once."""
        due = self._db.execute(
            "SELECT id, tenant, priority, tagged FROM jobs WHERE place = 'delayed' AND lane = ? AND sort <= ?"
            " ORDER BY sort LIMIT ?",
            (lane_id, time_of(now), PROMOTED_AT_ONCE),
        ).fetchall()
        for row, tenant, priority, tagged in due:
            known = Priority(priority) if priority in set(Priority) else Priority.BATCH
            stands = self.standing(lane_id, str(tenant), known, tagged=bool(tagged))
            self._db.execute("UPDATE jobs SET place = 'ready', sort = ?, tagged = 1 WHERE id = ?", (stands.sort, row))
        self.shift(lane_id, "delayed", "ready", count=len(due))

    def gate(self, lane_id: int) -> tuple[LaneGate, int]:
        """Return the gate of a lane and how many of its jobs run."""
        self._tally.write()
        row = one(self._db, LANE + "WHERE id = ?", lane_id)
        return (LaneGate(), 0) if row is None else (read_gate(row), integer(row[5]))

    def next_due(self, now: datetime) -> datetime | None:
        """Tell when time alone will next make something claimable in any lane."""
        self._tally.write()
        at = time_of(now)
        times = [one(self._db, "SELECT min(not_before) FROM lanes WHERE not_before > ?", at)]
        for (lane_id,) in self._db.execute("SELECT id FROM lanes WHERE delayed > 0").fetchall():
            times.append(
                one(
                    self._db,
                    "SELECT sort FROM jobs WHERE place = 'delayed' AND lane = ? AND sort > ? ORDER BY sort LIMIT 1",
                    lane_id,
                    at,
                )
            )
        due = [number(found[0]) for found in times if found is not None and found[0] is not None]
        return read_time(int(min(due))) if due else None

    def stats(self, now: datetime) -> list[LaneStats]:
        """Tell the counts of every lane."""
        self._tally.write()
        for (lane_id,) in self._db.execute("SELECT id FROM lanes WHERE delayed > 0").fetchall():
            self.promote(lane_id, now)
        self._tally.write()
        return [self._stats_of(row) for row in self._db.execute(LANE + "ORDER BY id").fetchall()]

    def _stats_of(self, row: tuple[object, ...]) -> LaneStats:
        oldest = one(
            self._db,
            "SELECT created FROM jobs WHERE live = 1 AND lane = ? ORDER BY created LIMIT 1",
            row[0],
        )
        return LaneStats(
            lane=Lane(text(row[1]), text(row[2])),
            ready=integer(row[3]),
            delayed=integer(row[4]),
            processing=integer(row[5]),
            parked=integer(row[6]),
            dead=integer(row[7]),
            oldest_created_at=None if oldest is None else read_time(oldest[0]),
            last_heartbeat_at=None if row[13] is None else read_time(row[13]),
            gate=read_gate(row),
        )


def read_gate(row: tuple[object, ...]) -> LaneGate:
    """Read the gate from the columns of a lane."""
    return LaneGate(
        circuit=text(row[8]),
        not_before=None if row[9] is None else read_time(row[9]),
        max_in_flight=None if row[10] is None else integer(row[10]),
        paused=bool(row[11]),
        parked=optional(row[12]),
    )
