"""One request on its way: how much of it has left, and what has come back so far."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextvars import ContextVar
from datetime import datetime
from typing import Final

import httpx

from llm_gateway._facts import Sent
from llm_gateway.protocols import Clock

__all__ = ["CURRENT", "BrokenContentError", "Content", "Exchange", "OversizeError", "Upload"]

PIECE: Final = 64 * 1024
GZIP: Final = 31


class Exchange:
    """What is known of one request while it is under way. It holds no content: a context may keep it for long."""

    __slots__ = ("_clock", "first_byte_at", "queued", "reused", "sent", "sent_at", "started_at")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_at = clock.now()
        self.sent_at: datetime | None = None
        self.first_byte_at: datetime | None = None
        self.sent = Sent.NO
        self.queued = False
        self.reused = False

    def began(self) -> None:
        """Note that the first byte is about to leave."""
        self.sent = Sent.PARTIAL
        self.sent_at = self._clock.now()


# How the traces of the pool, which cannot be handed anything, find the exchange they are about.
CURRENT: Final[ContextVar[Exchange]] = ContextVar("llm_gateway_http_exchange")


class Upload(httpx.AsyncByteStream):
    """The content in pieces. The writer asks for the next when the last is off, so it is known how far it came."""

    def __init__(self, body: bytes, exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange
        self._taken = 0

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self._body)

    # An iterator and not a generator: a cancelled one leaves nothing that the event loop has to close.
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        start = self._taken
        if start == 0:
            self._exchange.began()
        if start >= len(self._body):
            self._exchange.sent = Sent.YES
            raise StopAsyncIteration
        self._taken = start + PIECE
        return self._body[start : self._taken]


class Content:
    """Collects and decodes the content of a reply, and never holds more than one byte above the limit."""

    def __init__(self, coding: str, limit: int) -> None:
        coding = coding.strip().lower()
        if coding not in {"", "identity", "gzip", "x-gzip"}:
            raise BrokenContentError(coding)
        self._inflater = zlib.decompressobj(wbits=GZIP) if coding.endswith("gzip") else None
        self._decoded = bytearray()
        self._room = limit
        self._began = False

    def feed(self, chunk: bytes) -> None:
        """Take the next raw bytes."""
        self._began = True
        if self._inflater is not None:
            chunk = self._inflater.decompress(chunk, self._room + 1)
            if self._inflater.unused_data:
                raise BrokenContentError
        self._room -= len(chunk)
        if self._room < 0:
            raise OversizeError
        self._decoded += chunk

    def whole(self) -> bytes:
        """Return the decoded content; a compressed one must have its end."""
        if self._began and self._inflater is not None and not self._inflater.eof:
            raise BrokenContentError
        return bytes(self._decoded)


class BrokenContentError(Exception):
    """The content is cut or coded in a way that was not asked for."""


class OversizeError(Exception):
    """The content exceeds the limit."""
