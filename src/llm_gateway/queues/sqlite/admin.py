"""What an operator needs, in the file."""

from __future__ import annotations

from llm_gateway._core.jobs import JobView, Lane, QueueStats
from llm_gateway.protocols import QueueAdmin
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.rows import Record, blob, read_time
from llm_gateway.queues.sqlite.schema import one
from llm_gateway.queues.sqlite.work import FileWork

__all__ = ["FileAdmin"]


class FileAdmin(FileWork, QueueAdmin):
    """Looking, pausing, resuming."""

    async def stats(self) -> QueueStats:
        """Counts, each kept up to date: nothing is scanned but the list of lanes."""
        return await self._write(counted)

    async def list_jobs(self, *, tenant: str | None = None, failed: bool = False, limit: int = 100) -> list[JobView]:
        """Return the newest jobs, or the newest that have failed, newest first, but for those that are damaged."""
        which = "j.buried = 0 AND j.state = 'failed'" if failed else "j.buried = 0"
        everybodys = f"WHERE {which} ORDER BY j.id DESC LIMIT ?"
        tenants = f"WHERE {which} AND j.tenant = ? ORDER BY j.id DESC LIMIT ?"
        if tenant is None:
            return await self._read(lambda ledger: views(ledger.readable(everybodys, limit)))
        return await self._read(lambda ledger: views(ledger.readable(tenants, tenant, limit)))

    async def pause(self, lane: Lane) -> None:
        """Stop claims of a lane."""

        def stop(ledger: Ledger) -> None:
            ledger.db.execute("UPDATE lanes SET paused = 1 WHERE id = ?", (ledger.lanes.id_of(lane),))

        await self._write(stop)

    async def limit(self, lane: Lane, max_in_flight: int | None) -> None:
        """Let at most so many jobs of a lane run at once, in all processes together; ``None``: as many as there are."""

        def bound(ledger: Ledger) -> None:
            row = (max_in_flight, ledger.lanes.id_of(lane))
            ledger.db.execute("UPDATE lanes SET max_in_flight = ? WHERE id = ?", row)
            ledger.nudge()

        await self._write(bound)

    async def resume(self, lane: Lane) -> None:
        """Undo `pause`, and un-park the lane, its groups and its jobs."""

        def let_go(ledger: Ledger) -> None:
            ledger.db.execute("UPDATE lanes SET paused = 0 WHERE id = ?", (ledger.lanes.id_of(lane),))

        await self._write(let_go)
        await self._unparked(lane, None)

    async def payload(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored request; ``None`` once it was dropped.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """

        def look(ledger: Ledger) -> bytes | None:
            found = one(ledger.db, "SELECT payload FROM contents WHERE id = ?", ledger.visible(tenant, ticket_id).id)
            return None if found is None or found[0] is None else blob(found[0])

        return await self._read(look)


def counted(ledger: Ledger) -> QueueStats:
    """Return the counts."""
    lanes = tuple(ledger.lanes.stats(ledger.clock.now()))
    held = ledger.tally.totals
    leaving = "SELECT at FROM events WHERE outbox = 1 AND typeof(at) = 'integer' ORDER BY number LIMIT 1"
    oldest = one(ledger.db, leaving)
    return QueueStats(
        depth=held.depth,
        bytes=held.bytes,
        outbox=held.outbox,
        outbox_oldest_at=read_time(oldest[0]) if oldest is not None else None,
        max_depth=ledger.options.max_depth,
        max_bytes=ledger.options.max_bytes,
        oldest_created_at=min((at for lane in lanes if (at := lane.oldest_created_at) is not None), default=None),
        lanes=lanes,
    )


def views(records: list[Record]) -> list[JobView]:
    """Return what the queue shows of jobs."""
    return [record.view for record in records]
