"""HTTP/1.1 on loopback, as little of it as a provider needs: one request is read, then a plan of steps is played.

A plan is data (`Step` values), so that every fault is decided before anything is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

__all__ = [
    "HOST",
    "Close",
    "CloseWhenReused",
    "Hold",
    "HttpReply",
    "HttpRequest",
    "LoopbackServer",
    "Pause",
    "Reset",
    "Send",
    "Stage",
    "Step",
]

HOST: Final = "127.0.0.1"
READ_LIMIT: Final = 1024 * 1024
BACKLOG: Final = 1024
REASONS: Final[Mapping[int, str]] = {529: "Overloaded", **{status.value: status.phrase for status in HTTPStatus}}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it arrived, header names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """One reply about to be sent."""

    status: int
    body: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = ()

    def adding(self, headers: Iterable[tuple[str, str]]) -> HttpReply:
        """Return it with *headers* too; a name that is there already is replaced."""
        added = tuple(headers)
        names = {name.lower() for name, _ in added}
        kept = tuple((name, value) for name, value in self.headers if name.lower() not in names)
        return HttpReply(self.status, self.body, kept + added)

    def head(self, *framing: tuple[str, str]) -> bytes:
        """Return status line and headers, with the *framing* headers last."""
        lines = [f"HTTP/1.1 {self.status} {REASONS.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *framing)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def encode(self) -> bytes:
        """Return the whole reply, framed by its content length."""
        return self.head(("Content-Length", str(len(self.body)))) + self.body


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait seconds of the server's clock."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait until the server releases what it holds."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in good order (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Cut the connection (RST)."""


@dataclass(frozen=True, slots=True)
class CloseWhenReused:
    """Keep the connection open and reset it at the first byte of the next request on it."""


Step = Send | Pause | Hold | Close | Reset | CloseWhenReused


@dataclass(frozen=True, slots=True)
class Stage:
    """What the server asks its owner for.

    Attributes:
        respond: Decides the steps that answer a request.
        sleep: Waits for a `Pause`.
        released: Waits for a `Hold`.
    """

    respond: Callable[[HttpRequest], tuple[Step, ...]]
    sleep: Callable[[float], Awaitable[None]]
    released: Callable[[], Awaitable[None]]


class LoopbackServer:
    """Serves on one port of 127.0.0.1. The port stays its own while it refuses connections.

    Args:
        stage: What it plays.
        tls: Context to serve TLS with; ``None``: plain HTTP.
    """

    def __init__(self, stage: Stage, *, tls: ssl.SSLContext | None = None) -> None:
        self._stage = stage
        self._tls = tls
        self._socket: socket.socket | None = None
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._starting: asyncio.Task[None] | None = None
        self._connections: set[_Connection] = set()
        self._broken: list[BaseException] = []
        self.port = 0

    async def start(self) -> None:
        """Bind a free port and accept connections."""
        self._reserve()
        self.accept()
        if self._starting is not None:
            await self._starting

    def accept(self) -> None:
        """Accept connections from now on; the kernel queues them until the loop comes round."""
        if self._socket is None:
            return
        self._socket.listen(BACKLOG)
        self._listening, self._socket = self._socket, None
        self._starting = asyncio.get_running_loop().create_task(self._listen(self._listening))

    def refuse(self) -> None:
        """Refuse connections from now on, and end those that are idle at once, the others after their reply."""
        if self._socket is not None:
            return
        self._stop_listening()
        self._reserve()
        for connection in tuple(self._connections):
            connection.retire()

    async def aclose(self) -> None:
        """Stop, cut every connection and wait until nothing is left.

        Raises:
            BaseException: what the stage raised while answering, which its client saw as a closed connection.
        """
        self._stop_listening()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        tasks = [connection.task for connection in tuple(self._connections)]
        for task in tasks:
            task.cancel()
        if self._starting is not None:
            tasks.append(self._starting)
        await asyncio.gather(*tasks, return_exceptions=True)
        for error in self._broken:
            raise error

    def _reserve(self) -> None:
        # Bound but not listening: the kernel refuses connections, and nobody else can take the port.
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind((HOST, self.port))
        self.port = int(self._socket.getsockname()[1])

    async def _listen(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # Started in two steps: a server that exists can be closed at any moment without losing its socket.
        self._server = await loop.create_server(self._connect, sock=listening, ssl=self._tls, start_serving=False)
        await self._server.start_serving()

    def _stop_listening(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
        if self._server is not None:
            self._server.close()
        elif self._listening is not None:
            self._listening.close()
        self._server = self._listening = None

    def _connect(self) -> asyncio.Protocol:
        return _Connection(self._stage, self._connections, self._broken)


class _Connection(asyncio.StreamReaderProtocol):
    """One client's connection. A client that leaves while it is being answered ends its task."""

    task: asyncio.Task[None]
    _link: socket.socket

    def __init__(self, stage: Stage, peers: set[_Connection], broken: list[BaseException]) -> None:
        self._input = asyncio.StreamReader(limit=READ_LIMIT)
        super().__init__(self._input, self._accepted)
        self._stage = stage
        self._peers = peers
        self._broken = broken
        self._answering = False
        self._retired = False

    def retire(self) -> None:
        """End it now when idle, else after the reply that is being sent."""
        self._retired = True
        if not self._answering:
            # At once, so that no pooled client takes it for alive; the task would be a loop round late.
            with contextlib.suppress(OSError):
                self._link.shutdown(socket.SHUT_RDWR)
            self.task.cancel()

    def eof_received(self) -> bool | None:
        """The client has closed its side."""
        keep = super().eof_received()
        self._abandon()
        return keep

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        super().connection_lost(exc)
        self._abandon()

    def _abandon(self) -> None:
        if self._answering:
            self.task.cancel()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._link = writer.get_extra_info("socket")
        self.task = asyncio.get_running_loop().create_task(self._serve(writer))
        self._peers.add(self)
        self.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._peers.discard(self)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._broken.append(error)

    async def _serve(self, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while not self._retired:
                    await self._exchange(writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, writer: asyncio.StreamWriter) -> None:
        request = await read_request(self._input)
        steps = self._stage.respond(request)
        self._answering = True
        for step in steps:
            await self._play(step, writer)
        self._answering = False

    async def _play(self, step: Step, writer: asyncio.StreamWriter) -> None:
        match step:
            case Send(data):
                writer.write(data)
                await writer.drain()
            case Pause(seconds):
                await self._stage.sleep(seconds)
            case Hold():
                await self._stage.released()
            case Close():
                writer.close()
                await writer.wait_closed()
                raise ConnectionAbortedError
            case CloseWhenReused():
                self._answering = False
                await self._input.readexactly(1)
                reset(writer)
            case Reset():
                reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Make the kernel send RST instead of FIN.

    Raises:
        ConnectionAbortedError: always, which ends the connection's task.
    """
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionAbortedError


async def read_request(reader: asyncio.StreamReader) -> HttpRequest:
    """Read one request, its body framed by length or in chunks.

    Raises:
        IncompleteReadError: the client closed first.
        ConnectionAbortedError: what came is not HTTP.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, target, _ = first.split(" ")
        pairs = (line.partition(":") for line in lines)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await _read_chunks(reader)
        else:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
    except (ValueError, asyncio.LimitOverrunError):
        raise ConnectionAbortedError from None
    return HttpRequest(method, target, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)
