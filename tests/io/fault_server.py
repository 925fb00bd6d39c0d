"""A server that answers over raw sockets exactly as a test's script says, right or wrong."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

__all__ = ["FaultServer", "Peer", "Script", "answer", "reply"]

LINGER_ZERO: Final = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Peer:
    """One connection, seen from the server.

    Attributes:
        number: 1 for the first connection.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._reader = reader
        self._writer = writer
        self.number = number

    async def request(self) -> bytes:
        """Read one whole request; an empty one when the client has gone."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        lines = head.lower().split(b"\r\n")
        size = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
        try:
            return head + await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(content)
        await self._writer.drain()

    async def gone(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionError):
            while await self._reader.read(65_536):
                pass

    def pause(self) -> None:
        """Take no more bytes than the kernel does by itself."""
        transport = self._writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self._writer.get_extra_info("socket").setsockopt(*LINGER_ZERO)
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection."""
        with suppress(ConnectionError, ssl.SSLError):
            self._writer.close()
            await self._writer.wait_closed()


Script = Callable[[Peer], Awaitable[None]]


class FaultServer:
    """Runs *script* for each connection, on a free port of the loopback.

    Attributes:
        port: Where it listens.
        connections: How many there have been.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script = script
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.port = 0

    @property
    def url(self) -> str:
        """Base URL."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self._run(Peer(reader, writer, self.connections)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, peer: Peer) -> None:
        try:
            with suppress(ConnectionError):
                await self._script(peer)
        finally:
            await peer.close()


def reply(body: bytes = b"{}", *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    """Write a reply; *headers* are lines with their ends."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{headers}\r\n"
    return head.encode("latin-1") + body


def answer(content: bytes) -> Script:
    """Answer each request with the same bytes and keep the connection."""

    async def script(peer: Peer) -> None:
        while await peer.request():
            await peer.send(content)

    return script
