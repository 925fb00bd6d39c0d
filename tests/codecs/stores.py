"""Keys for tests, and a store of tenants' keys that counts, fails and waits on command."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from llm_gateway.codecs.aesgcm import AesGcmCodec
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeClock

__all__ = ["NEW", "OLD", "TICKET", "ShakyQueue", "opened", "sealed"]

OLD: Final = base64.b64encode(bytes(range(32))).decode()
NEW: Final = base64.b64encode(bytes(range(100, 132))).decode()
TICKET: Final = "01JTICKET"


class ShakyQueue(MemoryQueue):
    """A memory queue whose store of keys can be made to fail.

    Attributes:
        asked: How often each of its methods was called.
        failures: What the next call of a method raises.
        between: Called after a key was read, before the reader is told.
    """

    def __init__(self, clock: FakeClock | None = None) -> None:
        super().__init__(clock=clock)
        self.asked: Counter[str] = Counter()
        self.failures: dict[str, list[Exception]] = {}
        self.between: Callable[[], Awaitable[object]] | None = None

    async def tenant_key(self, tenant: str) -> bytes | None:
        """Fail, or read and wait."""
        self._fail("tenant_key")
        found = await super().tenant_key(tenant)
        if self.between is not None:
            await self.between()
        return found

    async def keep_tenant_key(self, tenant: str, wrapped: bytes, *, replacing: bytes | None = None) -> bytes:
        """Fail or keep."""
        self._fail("keep_tenant_key")
        return await super().keep_tenant_key(tenant, wrapped, replacing=replacing)

    async def drop_tenant_key(self, tenant: str) -> bool:
        """Fail or drop."""
        self._fail("drop_tenant_key")
        return await super().drop_tenant_key(tenant)

    def _fail(self, name: str) -> None:
        self.asked[name] += 1
        if self.failures.get(name):
            raise self.failures[name].pop(0)


async def sealed(codec: AesGcmCodec, data: bytes, tenant: str = "a") -> bytes:
    """Seal the payload of the ticket."""
    return await codec.seal(data, tenant=tenant, ticket_id=TICKET, kind="payload")


async def opened(codec: AesGcmCodec, data: bytes, tenant: str = "a") -> bytes:
    """Open the payload of the ticket."""
    return await codec.open(data, tenant=tenant, ticket_id=TICKET, kind="payload")
