"""The keys of tenants, in memory."""

from __future__ import annotations

from llm_gateway.protocols import KeyStore
from llm_gateway.queues.memory.ledger import OnLedger

__all__ = ["MemoryKeys"]


class MemoryKeys(OnLedger, KeyStore):
    """Keeping and dropping wrapped keys. Those of a closed queue stay readable: its results do too."""

    async def tenant_key(self, tenant: str) -> bytes | None:
        """Return the wrapped key that is kept for a tenant."""
        return self._ledger.tenant_keys.get(tenant)

    async def keep_tenant_key(self, tenant: str, wrapped: bytes, *, replacing: bytes | None = None) -> bytes:
        """Keep *wrapped* if no key is kept, or only in place of *replacing*; return what is kept afterwards."""
        keys = self._ledger.tenant_keys
        if keys.get(tenant) == replacing:
            keys[tenant] = wrapped
        return keys.get(tenant, b"")

    async def drop_tenant_key(self, tenant: str) -> bool:
        """Forget the key of a tenant; True when there was one."""
        return self._ledger.tenant_keys.pop(tenant, None) is not None
