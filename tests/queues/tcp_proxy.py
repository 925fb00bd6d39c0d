"""A way to a server that can be cut, in the ways that networks cut it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final

__all__ = ["Cut", "TcpProxy", "proxy_to"]

CHUNK: Final = 65_536


class Cut(StrEnum):
    """What becomes of bytes on their way."""

    NONE = "none"
    RESET_AFTER_REQUEST = "reset_after_request"
    BLACKHOLE_REPLIES = "blackhole_replies"
    BLACKHOLE = "blackhole"
    REFUSE = "refuse"


class TcpProxy:
    """Passes bytes on until told otherwise. `cut` may be set at any time; it spares so many replies first.

    Args:
        port: Of the server on the loopback.
        tls: What it shows to clients, which then have to speak TLS with it.
    """

    def __init__(self, port: int, tls: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = Cut.NONE
        self.spare = 0
        self.cuts = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Where the server is reached through it."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def aclose(self) -> None:
        """Cut all connections and listen no more."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def sever(self) -> None:
        """Cut the connections there are, unless they are to be left standing without a word."""
        if self.cut in {Cut.REFUSE, Cut.NONE}:
            for task in list(self._tasks):
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.cut is Cut.REFUSE:
                return
            upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._pass_on(reader, upstream, replies=False))
                    ways.create_task(self._pass_on(upstream_reader, writer, replies=True))
            finally:
                upstream.transport.abort()
        except* (OSError, asyncio.CancelledError, EOFError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await reader.read(CHUNK):
            if replies and self.cut is Cut.RESET_AFTER_REQUEST and self.spare > 0:
                self.spare -= 1
            elif replies and self.cut is Cut.RESET_AFTER_REQUEST:
                # The server has carried it out; nobody is told. Once.
                self.cut, self.cuts = Cut.NONE, self.cuts + 1
                raise ConnectionResetError
            if self.cut is Cut.BLACKHOLE or (replies and self.cut is Cut.BLACKHOLE_REPLIES):
                self.cuts += 1
                continue
            with suppress(ConnectionError):
                writer.write(data)
                await writer.drain()
        raise EOFError


@asynccontextmanager
async def proxy_to(port: int, tls: ssl.SSLContext | None = None) -> AsyncGenerator[TcpProxy]:
    """Run a proxy meanwhile."""
    proxy = TcpProxy(port, tls)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.aclose()
