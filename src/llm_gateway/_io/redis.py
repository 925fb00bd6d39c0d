"""One connection to Redis that many callers share: the one file that talks to it.

Commands of callers that come at once leave in one write, and replies are read in order by a task of their own. So a
caller that is cancelled leaves the connection in step, and nothing is ever sent twice behind a caller's back: whether
to ask again is decided above, where it is known what asking again does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, cast

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

__all__ = ["Ask", "Command", "Greet", "LinkLost", "RedisLink", "Refused"]

Command = tuple[str | bytes | int | float, ...]
Ask = Callable[..., Awaitable[list[object]]]
Greet = Callable[["RedisLink", Ask], Awaitable[None]]
MOST_AT_ONCE: Final = 1_000
# The client takes the first word off these errors, and some servers wrap it.
CODES: Final = (
    (OutOfMemoryError, "OOM"),
    (ReadOnlyError, "READONLY"),
    (NoPermissionError, "NOPERM"),
    (NoScriptError, "NOSCRIPT"),
    (MovedError, "MOVED"),
    (TryAgainError, "TRYAGAIN"),
    (ClusterDownError, "CLUSTERDOWN"),
)
WRAPPED: Final = ("OOM command not allowed", "-OOM", "-READONLY", "-MISCONF", "-NOREPLICAS")
CLOSED: Final = "closed"


class LinkLost(Exception):
    """The connection is not there, or broke before the reply came.

    Args:
        because: Name of what happened; never a text of the server, which may quote.
        sent: Whether the command may have been carried out.
    """

    def __init__(self, because: str, *, sent: bool) -> None:
        super().__init__(because)
        self.because = because
        self.sent = sent


class Wire(Protocol):
    """What is used of a connection of redis-py."""

    async def connect(self) -> None:
        """Connect, authenticate and choose the database."""
        ...

    async def send_packed_command(self, command: list[bytes], *, check_health: bool) -> None:
        """Send what `packed` wrote."""
        ...

    async def read_response(self, *, disable_decoding: bool) -> object:
        """Read one reply."""
        ...

    async def disconnect(self, *, nowait: bool) -> None:
        """Close it."""
        ...


@dataclass(frozen=True, slots=True)
class Refused:
    """The server answered with an error, of which only the first word is kept, such as ``OOM``."""

    code: str


@dataclass(slots=True, eq=False)
class Unit:
    """Commands that leave together, and who waits for their replies.

    Attributes:
        barred: The replies are told only with the barrier's.
        behind: The units that a barrier lets go.
    """

    commands: Sequence[Command]
    done: asyncio.Future[list[object]]
    barred: bool = False
    behind: Sequence[Unit] = ()
    replies: list[object] = field(default_factory=list[object])

    def add(self, reply: object) -> bool:
        """Take one reply; True with the last."""
        self.replies.append(reply)
        if len(self.replies) < len(self.commands):
            return False
        if not self.barred:
            self.tell()
        for unit in self.behind:
            unit.replies.append(reply)
            unit.tell()
        return True

    def tell(self) -> None:
        """Give the replies to who waits, unless that one was cancelled."""
        if not self.done.done():
            self.done.set_result(self.replies)

    def fail(self, error: LinkLost) -> None:
        """Tell that no reply will come."""
        for unit in (self, *self.behind):
            if not unit.done.done():
                unit.done.set_exception(error)


class RedisLink:
    """A connection that is made when it is needed, and made anew after it broke. To be used from one event loop.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user, password and database.
        connect_timeout: Most seconds to connect and greet.
        reply_timeout: Most seconds for a reply; a connection that takes longer is given up.
        greet: Run on each new connection before anything else is sent on it.

    Raises:
        ValueError: the URL cannot be read.

    Attributes:
        barrier: Sent once behind the commands of each write that asked for it; they are answered with its reply.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout: float,
        reply_timeout: float,
        greet: Greet | None = None,
    ) -> None:
        self._make = maker(url, connect_timeout)
        self._connect_timeout = connect_timeout
        self._reply_timeout = reply_timeout
        self._greet = greet
        self.barrier: Command | None = None
        self._connection: Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._flushing: asyncio.Task[None] | None = None
        self._waiting: list[Unit] = []
        self._under_way: deque[Unit] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    async def ask(self, *commands: Command, barred: bool = False) -> list[object]:
        """Send commands back to back and return their replies, errors of the server as `Refused`.

        With *barred*, the barrier's reply comes last. A caller that is cancelled does not stop what was sent.

        Raises:
            LinkLost: no connection, or it broke meanwhile.
        """
        if self._connection is None or self._opening is not None:
            await self._open()
        return await self._post(*commands, barred=barred)

    async def aclose(self) -> None:
        """Close the connection; whoever waits for a reply is told."""
        self._closed = True
        for task in (self._opening, self._flushing, self._reader):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        self._fail(LinkLost(CLOSED, sent=True))
        await self._drop(self._connection, LinkLost(CLOSED, sent=True))

    async def _open(self) -> None:
        if self._closed:
            raise LinkLost(CLOSED, sent=False)
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect(), name="llm_gateway redis connect")
            self._opening.add_done_callback(seen)
        # Shielded: a caller that gives up does not break off what others wait for.
        await asyncio.shield(self._opening)

    async def _connect(self) -> None:
        connection = self._make()
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()
                self._connection = connection
                self._reader = asyncio.create_task(self._read(connection), name="llm_gateway redis replies")
                if self._greet is not None:
                    await self._greet(self, self._post)
        except (RedisError, OSError, TimeoutError) as error:
            await self._drop(connection, LinkLost(type(error).__name__, sent=True))
            raise LinkLost(type(error).__name__, sent=False) from None
        except BaseException:
            await self._drop(connection, LinkLost("no greeting", sent=True))
            raise
        finally:
            self._opening = None

    async def _post(self, *commands: Command, barred: bool = False) -> list[object]:
        unit = Unit(commands, asyncio.get_running_loop().create_future(), barred and self.barrier is not None)
        unit.done.add_done_callback(seen)
        self._waiting.append(unit)
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="llm_gateway redis commands")
        return await unit.done

    async def _flush(self) -> None:
        # All that came before this task had its turn leaves in one write.
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._send(batch)
        finally:
            self._flushing = None

    async def _send(self, batch: list[Unit]) -> None:
        connection = self._connection
        if connection is None:
            for unit in batch:
                unit.fail(LinkLost("no connection", sent=False))
            return
        barred = [unit for unit in batch if unit.barred]
        if barred and self.barrier is not None:
            told: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()
            told.add_done_callback(seen)
            batch.append(Unit((self.barrier,), told, behind=barred))
        self._under_way.extend(batch)
        self._arrived.set()
        written = packed(command for unit in batch for command in unit.commands)
        try:
            async with asyncio.timeout(self._reply_timeout):
                await connection.send_packed_command(written, check_health=False)
        except (RedisError, OSError, TimeoutError) as error:
            await self._drop(connection, LinkLost(type(error).__name__, sent=True))

    async def _read(self, connection: Wire) -> None:
        because = CLOSED
        try:
            while True:
                while not self._under_way:
                    self._arrived.clear()
                    await self._arrived.wait()
                reply = await self._reply(connection)
                if self._under_way[0].add(reply):
                    self._under_way.popleft()
        except (RedisError, OSError, TimeoutError, EOFError) as error:
            because = type(error).__name__
        finally:
            await self._drop(connection, LinkLost(because, sent=True))

    async def _reply(self, connection: Wire) -> object:
        try:
            async with asyncio.timeout(self._reply_timeout):
                reply: object = await connection.read_response(disable_decoding=True)
        except ResponseError as error:
            return Refused(code_of(error))
        return reply

    async def _drop(self, connection: Wire | None, error: LinkLost) -> None:
        # The reader of an old connection may end when a new one stands already.
        if connection is self._connection:
            self._connection = None
            reader, self._reader = self._reader, None
            if reader is not None and reader is not asyncio.current_task():
                reader.cancel()
            self._fail(error)
        if connection is not None:
            with suppress(RedisError, OSError, TimeoutError):
                await connection.disconnect(nowait=True)

    def _fail(self, error: LinkLost) -> None:
        under_way, self._under_way = self._under_way, deque()
        for unit in under_way:
            unit.fail(error)
        if self._closed:
            waiting, self._waiting = self._waiting, []
            for unit in waiting:
                unit.fail(error)


def maker(url: str, connect_timeout: float) -> Callable[[], Wire]:
    """Return what makes connections to a URL. Pools of redis-py are not used: they hide when a connection is new.

    Raises:
        ValueError: the URL cannot be read. Its text may quote it.
    """
    found = dict(parse_url(url))
    kind = cast("Callable[..., Wire]", found.pop("connection_class", Connection))
    # A retry behind our back would send a command twice.
    ours = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": None, "health_check_interval": 0}
    make = partial(kind, **found, **ours, socket_connect_timeout=connect_timeout)
    try:
        make()
    except TypeError:
        raise ValueError from None
    return make


def packed(commands: Iterable[Command]) -> list[bytes]:
    """Write commands in the server's protocol: each is an array of strings that are as long as they say.

    redis-py cuts a command into pieces, which costs more than all else that sending takes.
    """
    written = list[bytes]()
    for command in commands:
        written.append(b"*%d\r\n" % len(command))
        for part in command:
            sent = part if isinstance(part, bytes) else str(part).encode()
            written += (b"$%d\r\n" % len(sent), sent, b"\r\n")
    return [b"".join(written)]


def seen(done: asyncio.Future[list[object]] | asyncio.Task[None]) -> None:
    """Take note of an outcome whose caller was cancelled: it is no error that nobody saw."""
    if not done.cancelled():
        done.exception()


def code_of(error: ResponseError) -> str:
    """Return the first word of a server's error; its text could quote a command."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code
    text = str(error)
    for inner in WRAPPED:
        if inner in text:
            return inner.split(" ", 1)[0].lstrip("-")
    word = text.split(" ", 1)[0]
    return word if word.isupper() else "ERR"
