"""One lane: who is ready, who waits for a time, who waits for an operator, who runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from llm_gateway._core.fairness import FairShare
from llm_gateway._core.jobs import JobView, Lane, LaneGate, LaneStats
from llm_gateway.queues.memory.index import SortedIndex

__all__ = ["Hold", "LaneBook", "Record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Who works on a job: the inside of a lease.

    Attributes:
        ends: Monotonic time at which the lease lapses; a jump of the wall clock costs nobody a lease.
    """

    token: str
    worker: str
    claim_id: str
    since: datetime
    deadline: datetime
    ends: float


@dataclass(slots=True, eq=False)
class Record:
    """All that is kept of one job.

    Attributes:
        settled: Token of the finish that was accepted last, by which its repetition is known.
        event: Number of its latest event.
        tagged: Whether it has stood among the ready before.
        buried: True once only its id, key and fingerprint are left.
    """

    view: JobView
    payload: bytes | None
    size: int
    result: bytes | None = None
    hold: Hold | None = None
    settled: str | None = None
    event: int = 0
    tagged: bool = False
    buried: bool = False


class LaneBook:
    """The jobs of one lane that have not ended, and its dead letters.

    Args:
        lane: Provider and model.
        records: All jobs of the queue by ticket.
    """

    def __init__(self, lane: Lane, records: dict[str, Record]) -> None:
        self.lane = lane
        self.gate = LaneGate()
        self.ready = SortedIndex()
        self.delayed = SortedIndex()
        self.oldest = SortedIndex()
        self.parked: dict[str, None] = {}
        self.running: set[str] = set()
        self.dead: set[str] = set()
        self.fair = FairShare()
        self.last_heartbeat_at: datetime | None = None
        self._records = records

    @property
    def holds_jobs(self) -> bool:
        """Whether a job that has not ended is here."""
        return len(self.oldest) > 0

    def lift(self, ticket_id: str) -> None:
        """Take a job from wherever it stands."""
        self.ready.discard(ticket_id)
        self.delayed.discard(ticket_id)
        self.parked.pop(ticket_id, None)
        self.running.discard(ticket_id)

    def wait(self, record: Record, now: datetime) -> None:
        """Put a job among the ready, or among those that wait for their time."""
        view = record.view
        if view.not_before is not None and view.not_before > now:
            self.delayed.put(view.ticket_id, view.not_before.timestamp())
            return
        weight = view.priority.weight
        flow = (view.tenant, view.priority.value)
        self.ready.put(view.ticket_id, self.fair.reentry(weight) if record.tagged else self.fair.tag(flow, weight))
        record.tagged = True

    def promote(self, now: datetime) -> None:
        """Make those ready whose time has come."""
        for ticket_id in self.delayed.due(now.timestamp()):
            self.delayed.discard(ticket_id)
            self.wait(self._records[ticket_id], now)

    def next_due(self, now: datetime) -> datetime | None:
        """Tell when time alone will next make something claimable here."""
        self.promote(now)
        first = self.delayed.first()
        times = [self.gate.not_before, None if first is None else self._records[first[1]].view.not_before]
        return min((time for time in times if time is not None and time > now), default=None)

    def stats(self, now: datetime) -> LaneStats:
        """Tell the counts."""
        self.promote(now)
        first = self.oldest.first()
        return LaneStats(
            lane=self.lane,
            ready=len(self.ready),
            delayed=len(self.delayed),
            processing=len(self.running),
            parked=len(self.parked),
            dead=len(self.dead),
            oldest_created_at=None if first is None else self._records[first[1]].view.created_at,
            last_heartbeat_at=self.last_heartbeat_at,
            gate=self.gate,
        )
