"""What every job changes: counters, fair tags, the number of the latest event. The file is told once for each commit.

Jobs that share a commit would raise the same counters over and over. Within a transaction they are counted here, and
`Tally.write` brings them into the file before it commits, or before something of them is about to be read there.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from llm_gateway.queues.sqlite.rows import integer, number
from llm_gateway.queues.sqlite.schema import one

__all__ = ["RANKED", "Flow", "Pending", "Tally", "Totals"]

# How near to the front a job is told its place.
RANKED: Final = 64
PLACES: Final = ("ready", "delayed", "held", "parked", "dead")
LANE: Final = (
    "UPDATE lanes SET ready = ready + ?, delayed = delayed + ?, held = held + ?, parked = parked + ?, dead = dead + ?"
    " WHERE id = ?"
)
TOTALS: Final = "UPDATE totals SET depth = ?, bytes = ?, outbox = ?, latest = ?, relaying = ?"
PASSED: Final = "DELETE FROM flows WHERE lane = ? AND last <= ?"
IDLE: Final = "DELETE FROM flows WHERE lane IN (SELECT id FROM lanes WHERE ready + delayed + held + parked = 0)"
FRONT: Final = "SELECT sort FROM jobs WHERE place = 'ready' AND lane = ? ORDER BY sort LIMIT 1 OFFSET ?"

Flow = tuple[int, str, str]


class Totals(NamedTuple):
    """Jobs that have not ended, bytes of their payloads, events to leave, the latest event, whether events leave."""

    depth: int
    bytes: int
    outbox: int
    latest: int
    relaying: bool


class Pending(NamedTuple):
    """What one transaction has counted: the totals as they are and as the file has them, what it was not told.

    Attributes:
        moved: Jobs that came to a place of a lane, or left it.
        tagged: The last tags of flows.
    """

    totals: Totals | None
    stored: Totals | None
    moved: dict[tuple[int, str], int]
    tagged: dict[Flow, float]


class Tally:
    """The counts of one transaction of the writer's thread.

    Args:
        db: The file.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.begin()

    def begin(self) -> None:
        """Forget everything: another process may have written since."""
        self.restore(Pending(None, None, {}, {}))

    def mark(self) -> Pending:
        """Return what `restore` goes back to, when the file goes back to its savepoint."""
        return Pending(self._totals, self._stored, self._moved.copy(), self._tagged.copy())

    def restore(self, mark: Pending) -> None:
        """Go back to a mark. What was read meanwhile may have been undone."""
        self._totals, self._stored, self._moved, self._tagged = mark
        self._virtual = dict[int, float]()
        self._fronts = dict[int, float | None]()

    @property
    def totals(self) -> Totals:
        """The counts of the whole queue."""
        if self._totals is None:
            found = one(self._db, "SELECT depth, bytes, outbox, latest, relaying FROM totals") or (0,) * 5
            depth, size, outbox, latest, relaying = (integer(value) for value in found)
            self._totals = self._stored = Totals(depth, size, outbox, latest, bool(relaying))
        return self._totals

    def count(self, *, depth: int = 0, size: int = 0, outbox: int = 0) -> None:
        """Count jobs, bytes, and events to leave."""
        known = self.totals
        self._totals = known._replace(depth=known.depth + depth, bytes=known.bytes + size, outbox=known.outbox + outbox)

    def relay(self, *, on: bool) -> None:
        """Have all processes write the outbox from now on, or none."""
        self._totals = self.totals._replace(relaying=on)

    def next_number(self) -> int:
        """Give an event its number, and count it if it is to leave. No number comes twice."""
        known = self.totals
        self._totals = known._replace(latest=known.latest + 1, outbox=known.outbox + known.relaying)
        return known.latest + 1

    def move(self, lane_id: int, place: str, count: int) -> None:
        """Count jobs that came to a place of a lane, or left it."""
        key, moved = (lane_id, place), self._moved
        moved[key] = moved.get(key, 0) + count
        if place == "ready" and count < 0:
            self._fronts.pop(lane_id, None)

    def virtual(self, lane_id: int) -> float:
        """Return the virtual time of a lane."""
        known = self._virtual
        if lane_id not in known:
            found = one(self._db, "SELECT virtual FROM lanes WHERE id = ?", lane_id)
            known[lane_id] = 0.0 if found is None else number(found[0])
        return known[lane_id]

    def reach(self, lane_id: int, tag: float) -> None:
        """Move the virtual time of a lane up to a tag, and forget the flows that it has passed."""
        self._virtual[lane_id] = virtual = max(self.virtual(lane_id), tag)
        self._db.execute("UPDATE lanes SET virtual = ? WHERE id = ?", (virtual, lane_id))
        self._db.execute(PASSED, (lane_id, virtual))

    def forget_idle(self) -> None:
        """Forget the flows of lanes without jobs."""
        self.write()
        self._db.execute(IDLE)

    def last(self, flow: Flow) -> float | None:
        """Return the last tag of a flow, if it is known."""
        if flow in self._tagged:
            return self._tagged[flow]
        found = one(self._db, "SELECT last FROM flows WHERE lane = ? AND tenant = ? AND priority = ?", *flow)
        return None if found is None else number(found[0])

    def tag(self, flow: Flow, tag: float) -> None:
        """Take note of the last tag of a flow."""
        self._tagged[flow] = tag

    def far_back(self, lane_id: int, sort: float) -> bool:
        """Whether so many of a lane's ready jobs stand before this tag that nobody is told how many."""
        known = self._fronts
        if lane_id not in known:
            found = one(self._db, FRONT, lane_id, RANKED - 1)
            known[lane_id] = None if found is None else number(found[0])
        front = known[lane_id]
        return front is not None and sort > front

    def write(self) -> None:
        """Tell the file what it has not been told."""
        if self._totals is not None and self._totals != self._stored:
            self._db.execute(TOTALS, self._totals)
            self._stored = self._totals
        for lane_id in {lane_id for lane_id, _ in self._moved}:
            self._db.execute(LANE, (*(self._moved.get((lane_id, place), 0) for place in PLACES), lane_id))
        for flow, tag in self._tagged.items():
            self._db.execute("INSERT OR REPLACE INTO flows VALUES (?, ?, ?, ?)", (*flow, tag))
        self._moved, self._tagged = {}, {}
