"""Commands that look at the queue and change nothing."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Mapping

from llm_gateway._core.jobs import JobView, LaneStats
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.cli.desk import WINDOW, OperatorDesk, lane_of
from llm_gateway.cli.documents import job_document, stats_document
from llm_gateway.cli.showing import Table, age, note, plain, show, show_json

__all__ = ["lane_table", "list_tickets", "newest", "show_stats", "show_ticket"]

LANE_TITLES = (
    "lane",
    "ready",
    "delayed",
    "processing",
    "parked",
    "failed",
    "at most",
    "oldest",
    "worker seen",
    "held back by",
)


async def show_stats(desk: OperatorDesk, options: Namespace) -> int:
    """Tell how much waits, runs and has failed."""
    before = stats = await desk.queue.stats()
    if options.over is not None:
        await asyncio.sleep(options.over)
        stats = await desk.queue.stats()
    pace: Mapping[str, float | None] = {} if options.over is None else drained(before.depth, stats.depth, options.over)
    if options.json:
        show_json({**stats_document(stats), **pace})
        return 0
    totals = (
        ("tickets", f"{stats.depth} of {stats.max_depth}"),
        ("bytes", f"{stats.bytes} of {stats.max_bytes}"),
        ("events to publish", str(stats.outbox)),
        ("oldest of them", age(stats.outbox_oldest_at)),
        ("oldest ticket", age(stats.oldest_created_at)),
        *((name.replace("_", " "), "not at this pace" if value is None else value) for name, value in pace.items()),
    )
    show(Table(("queue", ""), totals), lane_table(stats.lanes))
    return 0


def drained(before: int, after: int, seconds: float) -> Mapping[str, float | None]:
    """Tell how fast a queue shrank, and when it will be empty at that pace; ``None``: not at this pace."""
    pace = (before - after) / seconds if seconds > 0.0 else 0.0
    empty = 0.0 if after == 0 else after / pace if pace > 0.0 else None
    return {"drained_per_minute": round(pace * 60.0, 1), "empty_in_seconds": None if empty is None else round(empty)}


def lane_table(lanes: tuple[LaneStats, ...]) -> Table:
    """Lay out lanes."""
    rows = [
        (
            stats.lane,
            stats.ready,
            stats.delayed,
            stats.processing,
            stats.parked,
            stats.dead,
            stats.gate.max_in_flight,
            age(stats.oldest_created_at),
            age(stats.last_heartbeat_at),
            held_back_by(stats),
        )
        for stats in lanes
    ]
    return Table(LANE_TITLES, rows)


def held_back_by(stats: LaneStats) -> str:
    """Tell what keeps a lane's requests waiting."""
    gate = stats.gate
    causes = [
        "paused" if gate.paused else "",
        f"parked: {gate.parked}" if gate.parked is not None else "",
        f"circuit {gate.circuit}" if gate.circuit != "closed" else "",
        f"until {plain(gate.not_before)}" if gate.not_before is not None else "",
    ]
    return ", ".join(cause for cause in causes if cause)


async def list_tickets(desk: OperatorDesk, options: Namespace) -> int:
    """List the newest tickets that the filters pick."""
    jobs, looked_at = await newest(desk, options, tenant=options.tenant, state=options.state)
    if options.json:
        show_json({"tickets": [job_document(job) for job in jobs], "looked_at": looked_at})
        return 0
    whose = ("tenant",) if any(job.tenant for job in jobs) else ()
    rows = [
        (job.ticket_id, *(job.tenant for _ in whose), job.state, job.lane, job.group, age(job.created_at), told(job))
        for job in jobs
    ]
    show(Table(("ticket", *whose, "state", "lane", "group", "age", "why"), rows))
    if looked_at == WINDOW:
        note(f"Looked at the newest {WINDOW} tickets only.")
    return 0


async def newest(
    desk: OperatorDesk, options: Namespace, *, tenant: str | None, state: str | None
) -> tuple[list[JobView], int]:
    """Return the newest tickets that the filters pick, and how many were looked at: a bounded number."""
    lane = None if options.lane is None else lane_of(options.lane)
    filtered, failed = not (lane is options.group is state is None), state == TicketState.FAILED
    # Failed ones have lists of their own: the newest tickets of a busy queue may be none of them.
    jobs = await desk.queue.list_jobs(tenant=tenant, failed=failed, limit=WINDOW if filtered else options.limit)
    picked = [
        job
        for job in jobs
        if lane in (None, job.lane) and options.group in (None, job.group) and state in (None, job.state)
    ]
    return picked[: options.limit], len(jobs)


def told(job: JobView) -> str:
    """Tell why a ticket stands where it does."""
    return job.error.type if job.error is not None else job.reason or ""


async def show_ticket(desk: OperatorDesk, options: Namespace) -> int:
    """Show one ticket; what it asks is shown only when that is wanted."""
    job = await desk.queue.get(options.tenant, options.ticket)
    contents: dict[str, object] = {}
    if options.payload:
        payload = await desk.payload(job)
        contents = {"echo": job.echo.decode(errors="replace"), "payload": payload}
        if payload is None:
            note("What was asked is not kept any more: the ticket has ended.")
    document = {**job_document(job), **contents}
    if options.json:
        show_json(document)
        return 0
    error = None if job.error is None else f"{job.error.type}: {job.error.message}"
    told_apart = {"subjects": ", ".join(job.subjects), "error": error, "history": len(job.history)}
    rows = [(name, told_apart.get(name, value)) for name, value in document.items()]
    attempts = [
        (attempt.started_at, age(attempt.started_at, attempt.ended_at), attempt.fault, attempt.possibly_billed)
        for attempt in job.history
    ]
    tables = [Table(("attempt began", "took", "fault", "possibly billed"), attempts)] if attempts else []
    show(Table(("ticket", ""), rows), *tables)
    return 0
