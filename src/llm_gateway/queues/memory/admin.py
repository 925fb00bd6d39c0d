"""What an operator needs, in memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from llm_gateway._core.jobs import JobView, Lane, QueueStats
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.protocols import QueueAdmin
from llm_gateway.queues.memory.ledger import OnLedger
from llm_gateway.queues.memory.work import let_go

__all__ = ["MemoryAdmin"]


class MemoryAdmin(OnLedger, QueueAdmin):
    """Looking, pausing, resuming."""

    async def stats(self) -> QueueStats:
        """Counts, each kept up to date: nothing is scanned but the list of lanes."""
        now = self._ledger.clock.now()
        lanes, outbox = tuple(book.stats(now) for book in self._ledger.lanes.values()), self._ledger.journal.outbox
        return QueueStats(
            depth=self._ledger.depth,
            bytes=self._ledger.bytes,
            outbox=len(outbox),
            outbox_oldest_at=outbox[0].at if outbox else None,
            max_depth=self._ledger.options.max_depth,
            max_bytes=self._ledger.options.max_bytes,
            oldest_created_at=min((at for lane in lanes if (at := lane.oldest_created_at) is not None), default=None),
            lanes=lanes,
        )

    async def list_jobs(self, *, tenant: str | None = None, failed: bool = False, limit: int = 100) -> list[JobView]:
        """Return the newest jobs, or the newest that have failed, newest first."""
        views = (record.view for record in reversed(self._ledger.records.values()) if not record.buried)
        wanted = (view for view in views if not failed or view.state is TicketState.FAILED)
        chosen = (view for view in wanted if tenant in (None, view.tenant))
        return list(islice(chosen, limit))

    async def pause(self, lane: Lane) -> None:
        """Stop claims of a lane."""
        book = self._ledger.book(lane)
        book.gate = replace(book.gate, paused=True)

    async def limit(self, lane: Lane, max_in_flight: int | None) -> None:
        """Let at most so many jobs of a lane run at once; ``None``: as many as there are."""
        book = self._ledger.book(lane)
        book.gate = replace(book.gate, max_in_flight=max_in_flight)
        self._ledger.ready.fire()

    async def resume(self, lane: Lane) -> None:
        """Undo `pause`, and un-park the lane, its groups and its jobs."""
        book = self._ledger.book(lane)
        book.gate = replace(book.gate, paused=False)
        let_go(self._ledger, lane, None)

    async def payload(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored request; ``None`` once it was dropped.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        return self._ledger.visible(tenant, ticket_id).payload
