"""The counts of a shard and of its lanes, as the server tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from llm_gateway._core.jobs import Lane, LaneGate, LaneStats
from llm_gateway.queues.redis.keys import lane_of
from llm_gateway.queues.redis.rows import integer, items, raw, read_time, text

__all__ = ["Look", "joined", "read_look"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a shard found, or several put together.

    Attributes:
        depth: Jobs that have not ended.
        bytes: Of their payloads.
        outbox: Events that have not left.
        outbox_oldest_at: Time of the first of them.
        lanes: Every lane.
        due_in: Seconds until time alone makes something claimable.
    """

    depth: int
    bytes: int
    outbox: int
    outbox_oldest_at: datetime | None
    lanes: tuple[LaneStats, ...]
    due_in: float | None


def read_look(reply: object) -> Look:
    """Read what the script replied."""
    now, depth, size, outbox, waiting, *lanes = items(reply)
    at = read_time(now)
    rows = [items(lane) for lane in lanes]
    times = [time for row in rows for time in (when(row[8]), when(row[13])) if time is not None and time > at]
    return Look(
        depth=integer(depth),
        bytes=integer(size),
        outbox=integer(outbox),
        outbox_oldest_at=when(waiting),
        lanes=tuple(sorted(map(lane_stats, rows), key=lambda stats: stats.lane)),
        due_in=(min(times) - at).total_seconds() if times else None,
    )


def joined(looks: Sequence[Look]) -> Look:
    """Put the looks at all shards together."""
    first, *others = looks
    for other in others:
        oldest = [at for at in (first.outbox_oldest_at, other.outbox_oldest_at) if at is not None]
        times = [time for time in (first.due_in, other.due_in) if time is not None]
        first = Look(
            depth=first.depth + other.depth,
            bytes=first.bytes + other.bytes,
            outbox=first.outbox + other.outbox,
            outbox_oldest_at=min(oldest, default=None),
            lanes=merged((*first.lanes, *other.lanes)),
            due_in=min(times, default=None),
        )
    return first


def merged(lanes: Sequence[LaneStats]) -> tuple[LaneStats, ...]:
    """Add up what the shards tell of the same lane."""
    found = dict[Lane, LaneStats]()
    for stats in lanes:
        known = found.get(stats.lane)
        found[stats.lane] = stats if known is None else added(known, stats)
    return tuple(found[lane] for lane in sorted(found))


def added(one: LaneStats, other: LaneStats) -> LaneStats:
    """Add up two counts of one lane; the gate is the same in each shard."""
    oldest = [at for at in (one.oldest_created_at, other.oldest_created_at) if at is not None]
    beats = [at for at in (one.last_heartbeat_at, other.last_heartbeat_at) if at is not None]
    return one._replace(
        ready=one.ready + other.ready,
        delayed=one.delayed + other.delayed,
        processing=one.processing + other.processing,
        parked=one.parked + other.parked,
        dead=one.dead + other.dead,
        oldest_created_at=min(oldest, default=None),
        last_heartbeat_at=max(beats, default=None),
        gate=replace(one.gate, parked=one.gate.parked or other.gate.parked),
    )


def lane_stats(row: Sequence[object]) -> LaneStats:
    """Read the counts of one lane."""
    limit = raw(row[9])
    return LaneStats(
        lane=lane_of(text(row[0])),
        ready=integer(row[1]),
        delayed=integer(row[2]),
        processing=integer(row[3]),
        parked=integer(row[4]),
        dead=integer(row[5]),
        oldest_created_at=when(row[6]),
        last_heartbeat_at=when(row[12]),
        gate=LaneGate(
            circuit=text(row[7]) or "closed",
            not_before=when(row[8]),
            max_in_flight=int(limit) if limit else None,
            paused=raw(row[10]) == b"1",
            parked=text(row[11]) or None,
        ),
    )


def when(value: object) -> datetime | None:
    """Read a time, if there is one."""
    return None if value == b"" else read_time(value)
