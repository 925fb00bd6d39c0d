"""The keys of tenants, in the file."""

from __future__ import annotations

from llm_gateway.protocols import KeyStore
from llm_gateway.queues.sqlite.desk import OnFile
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.rows import blob
from llm_gateway.queues.sqlite.schema import one

__all__ = ["FileKeys"]


class FileKeys(OnFile, KeyStore):
    """Keeping and dropping wrapped keys. A dropped one is overwritten in the file, later in its write-ahead log."""

    async def tenant_key(self, tenant: str) -> bytes | None:
        """Return the wrapped key that is kept for a tenant.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
        """
        return await self._read(lambda ledger: kept(ledger, tenant))

    async def keep_tenant_key(self, tenant: str, wrapped: bytes, *, replacing: bytes | None = None) -> bytes:
        """Keep *wrapped* if no key is kept, or only in place of *replacing*; return what is kept afterwards.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used; nothing is stored.
            DurabilityUnknown: the commit failed in a way that may or may not have stored it.
        """

        def keep(ledger: Ledger) -> bytes:
            if kept(ledger, tenant) == replacing:
                ledger.db.execute("INSERT OR REPLACE INTO tenant_keys VALUES (?, ?)", (tenant, wrapped))
            return kept(ledger, tenant) or b""

        return await self._write(keep)

    async def drop_tenant_key(self, tenant: str) -> bool:
        """Forget the key of a tenant; True when there was one.

        Raises:
            QueueUnavailable: the queue is closed or its file cannot be used.
            DurabilityUnknown: the commit failed in a way that may or may not have dropped it.
        """
        drop = "DELETE FROM tenant_keys WHERE tenant = ?"
        return await self._write(lambda ledger: ledger.db.execute(drop, (tenant,)).rowcount > 0)


def kept(ledger: Ledger, tenant: str) -> bytes | None:
    """Return the key that is kept."""
    found = one(ledger.db, "SELECT wrapped FROM tenant_keys WHERE tenant = ?", tenant)
    return None if found is None else blob(found[0])
