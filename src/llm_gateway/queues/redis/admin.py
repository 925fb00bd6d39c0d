"""What an operator needs, and the keys of tenants, in Redis."""

from __future__ import annotations

from llm_gateway._core.jobs import JobView, Lane, QueueStats
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import QueueError, TicketNotFound
from llm_gateway.protocols import KeyStore, QueueAdmin
from llm_gateway.queues.redis.desk import Body
from llm_gateway.queues.redis.rows import integer, items, raw, text
from llm_gateway.queues.redis.scripts import Script
from llm_gateway.queues.redis.store import RedisStore
from llm_gateway.queues.redis.work import RedisWork

__all__ = ["RedisAdmin", "RedisKeys"]


class RedisAdmin(RedisStore, RedisWork, QueueAdmin):
    """Looking, pausing, resuming."""

    async def stats(self) -> QueueStats:
        """Counts, each kept up to date: nothing is scanned but the list of lanes."""
        look = await self._look()
        return QueueStats(
            depth=look.depth,
            bytes=look.bytes,
            outbox=look.outbox,
            outbox_oldest_at=look.outbox_oldest_at,
            max_depth=self._options.max_depth,
            max_bytes=self._options.max_bytes,
            oldest_created_at=min(
                (at for lane in look.lanes if (at := lane.oldest_created_at) is not None), default=None
            ),
            lanes=look.lanes,
        )

    async def list_jobs(self, *, tenant: str | None = None, failed: bool = False, limit: int = 100) -> list[JobView]:
        """Return the newest jobs, or the latest that have failed, newest first, but for those that are damaged."""
        found = list[tuple[int, str]]()
        for shard in self._all_shards:
            for name in await self._lists(shard, tenant, failed=failed):
                rows = items(await self._plain(shard, "ZREVRANGE", name, 0, limit - 1, "WITHSCORES"))
                found += [(integer(at), text(ticket)) for ticket, at in zip(rows[::2], rows[1::2], strict=True)]
        views = list[JobView]()
        for _, ticket in sorted(found, reverse=True)[:limit]:
            try:
                view, _, buried = await self._shown(ticket)
            except (QueueError, TicketNotFound):
                # Damaged, or gone meanwhile.
                continue
            views += [] if buried or tenant not in (None, view.tenant) else [view]
        return views

    async def _lists(self, shard: int, tenant: str | None, *, failed: bool) -> list[str]:
        """Name the keys that list what is looked for: dead letters by lane, everything by tenant."""
        prefix = self._shards.prefix(shard)
        kind, names = ("dlq", "lanes") if failed else ("l", "tenants")
        if tenant is not None and not failed:
            return [f"{prefix}l:{tenant}"]
        return [f"{prefix}{kind}:{text(name)}" for name in items(await self._plain(shard, "SMEMBERS", prefix + names))]

    async def pause(self, lane: Lane) -> None:
        """Stop claims of a lane."""
        await self._gates([lane], "pause", "", "")

    async def limit(self, lane: Lane, max_in_flight: int | None) -> None:
        """Let at most so many jobs of a lane run at once, in all processes together; ``None``: as many as there are.

        Of several shards each has its part, rounded up.
        """
        await self._gates([lane], "limit", "" if max_in_flight is None else str(self._share(max_in_flight)), "")

    async def resume(self, lane: Lane) -> None:
        """Undo `pause`, and un-park the lane, its groups and its jobs."""
        await self._unparked(lane, "")

    async def payload(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored request of a job; ``None`` once it was dropped.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
        """
        view, body = await self._visible(tenant, ticket_id, body=Body.ALL)
        kept = not view.state.terminal or view.state is TicketState.FAILED
        return body if kept else None


class RedisKeys(RedisStore, KeyStore):
    """The wrapped keys of tenants."""

    async def tenant_key(self, tenant: str) -> bytes | None:
        """Return the wrapped key kept for a tenant."""
        found = await self._plain(self._shards.of(tenant, ""), "GET", self._key_of(tenant))
        return None if found is None else raw(found)

    async def keep_tenant_key(self, tenant: str, wrapped: bytes, *, replacing: bytes | None = None) -> bytes:
        """Keep *wrapped* if no key is kept, or only in place of *replacing*; return what is kept afterwards."""
        shard = self._shards.of(tenant, "")
        reply = await self._run(Script.KEEP, shard, f"k:{tenant}", wrapped, replacing or b"", durable=True)
        return raw(reply)

    async def drop_tenant_key(self, tenant: str) -> bool:
        """Forget the key of a tenant, as durably as requests are stored; True when there was one.

        Raises:
            QueueUnavailable: the server cannot be reached or does not take it; the key is still there.
            DurabilityUnknown: it may be there still, or come back with a failover.
        """
        shard = self._shards.of(tenant, "")
        return integer(await self._run(Script.DROP, shard, f"k:{tenant}", durable=True)) > 0

    def _key_of(self, tenant: str) -> str:
        return f"{self._shards.prefix(self._shards.of(tenant, ''))}k:{tenant}"
