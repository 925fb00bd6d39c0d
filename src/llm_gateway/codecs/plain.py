"""Payloads as they are: for development, tests, and queues whose storage is sealed otherwise."""

from __future__ import annotations

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway.protocols import PayloadCodec

__all__ = ["PlainCodec"]


class PlainCodec(PayloadCodec):
    """Seals nothing."""

    __slots__ = ()

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere; staging and production take it only with ``allow_plaintext_queue=True``."""
        return EVERYWHERE

    @property
    def sealed(self) -> bool:
        """False."""
        return False

    async def seal(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Return *data*."""
        return data

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Return *data*."""
        return data
