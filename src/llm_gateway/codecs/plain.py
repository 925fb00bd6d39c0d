"""Payloads as they are: for development, tests, and queues whose storage is sealed otherwise."""

from __future__ import annotations

import hashlib
from typing import Final

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway.errors import ErrorInfo, UnknownKey
from llm_gateway.protocols import PayloadCodec

__all__ = ["SEALED_MARK", "PlainCodec"]

# How sealed bytes begin; what this codec stores is JSON.
SEALED_MARK: Final = b"LGS"


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
        """Return *data*.

        Raises:
            UnknownKey: it is sealed, and this process has no keys at all.
        """
        if data.startswith(SEALED_MARK):
            message = "What is stored is sealed, and this process has no keys."
            raise UnknownKey(message, info=ErrorInfo(ticket_id=ticket_id))
        return data

    async def digest(self, data: bytes, *, tenant: str) -> str:
        """Return the SHA-256 of *data*, in hexadecimal digits."""
        return hashlib.sha256(data).hexdigest()

    async def shred(self, tenant: str) -> bool:
        """Return False: there is no key to forget."""
        return False
