"""The durable queue for a fleet, in Redis 6.2 or newer, or Valkey."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from functools import partial
from typing import Final

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._core.findings import Finding
from llm_gateway._io.redis import Ask, Greet, LinkLost, RedisLink, Refused
from llm_gateway.errors import ConfigurationError
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.protocols import Clock, QueueBackend
from llm_gateway.queues.redis.admin import RedisAdmin, RedisKeys
from llm_gateway.queues.redis.desk import Session, refusal
from llm_gateway.queues.redis.events import RedisOutbox, RedisWatch
from llm_gateway.queues.redis.greeting import examine, report, teach
from llm_gateway.queues.redis.keys import Shards
from llm_gateway.queues.redis.reader import BLOCK_SECONDS, Place
from llm_gateway.queues.redis.routes import CLUSTER, ClusterRoutes, Node, OneServer, Routes
from llm_gateway.queues.redis.rows import items, text
from llm_gateway.queues.redis.scripts import Script
from llm_gateway.queues.redis.server import judge
from llm_gateway.queues.redis.wakes import Wakes

__all__ = ["RedisQueue"]

SCHEMA: Final = "1"
NAMESPACE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
DEFAULT_OPTIONS: Final = QueueOptions()
DEFAULT_REDIS: Final = RedisOptions()
BLOCK_MARGIN: Final = 5.0


class RedisQueue(RedisAdmin, RedisKeys, RedisOutbox, RedisWatch, QueueBackend):
    """A queue that any number of hosts share, and that survives them.

    Time is the server's own, so that a host whose clock is wrong neither expires nor revives anything. To be started
    and used in one event loop.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, with user, password and database; ``?ssl_ca_certs=``
            and kin as redis-py reads them. Of a cluster, any one node by ``redis+cluster://`` or ``rediss+cluster://``.
        options: Bounds and retention.
        namespace: What all keys of this queue begin with.
        redis: How the server is used.
        strict: Refuse a server that does not keep what it is given; otherwise warn of it.
        clock: Time, in tests.

    Raises:
        ConfigurationError: the URL or the namespace cannot be used.
    """

    def __init__(
        self,
        url: str,
        options: QueueOptions = DEFAULT_OPTIONS,
        *,
        namespace: str = "llm_gateway",
        redis: RedisOptions = DEFAULT_REDIS,
        strict: bool = True,
        clock: Clock | None = None,
    ) -> None:
        if NAMESPACE.fullmatch(namespace) is None:
            message = "The namespace of the queue takes 1 to 64 letters, digits, dots, hyphens and underscores."
            raise ConfigurationError(message, next_step="Give another namespace.")
        super().__init__(options, redis, Shards(namespace, redis.shards), clock)
        self._url = url
        self._strict = strict
        self._findings: Sequence[Finding] = ()
        self._changing = asyncio.Lock()
        # Made once to have the URL read: a mistake in it is told here and not when the first request comes.
        self._link(url.replace(CLUSTER, "://", 1))

    def __repr__(self) -> str:
        return f"<RedisQueue {self._shards.namespace} {'closed' if self._session is None else 'open'}>"

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    @property
    def durable(self) -> bool:
        """True: an accepted job survives this process, and whatever the options' durability says."""
        return True

    @property
    def findings(self) -> Sequence[Finding]:
        """What the latest check of the server found."""
        return self._findings

    async def start(self, *, outbox: bool) -> None:
        """Connect, check the server, and take work; write the outbox if asked to.

        Once any process has asked for the outbox it is written by all, until an operator says otherwise.

        Raises:
            ConfigurationError: the server does not keep what it is given, or the namespace holds a queue of another
                shape.
            QueueUnavailable: the server cannot be reached.
        """
        async with self._changing:
            if self._session is None:
                session = self._new_session()
                self._session = session
                try:
                    await session.routes.renew()
                    await self._check_shape()
                except BaseException:
                    self._session = None
                    await closed(session)
                    raise
            for shard in self._all_shards:
                await self._run(Script.OPEN, shard, int(outbox))

    async def aclose(self) -> None:
        """Take no more work and close the connections. Stored jobs stay.

        Whoever waits gets `QueueUnavailable`.
        """
        session = self._session
        if session is None or session.closing:
            return
        if self._errands:
            await asyncio.wait(set(self._errands))
        session.closing = True
        await closed(session)
        self._session = None

    def _new_session(self) -> Session:
        wakes = [Wakes(partial(self._read, shard), self._clock.monotonic) for shard in self._all_shards]
        return Session(self._routes(), wakes, asyncio.get_running_loop())

    def _routes(self) -> Routes:
        if CLUSTER in self._url:
            return ClusterRoutes(self._url, self._shards, self._node)
        return OneServer(self._node(self._url))

    def _node(self, url: str) -> Node:
        link = self._link(url, self._greet)
        # What waits for the disk blocks its connection; what need not wait goes over another.
        patience = self._redis.reply_timeout + self._redis.wait_timeout
        safe = link if self._redis.durability == "process" else self._link(url, self._greet, reply_timeout=patience)
        return Node(url, link, safe)

    def _link(self, url: str, greet: Greet | None = None, *, reply_timeout: float | None = None) -> RedisLink:
        try:
            return RedisLink(
                url,
                connect_timeout=self._redis.connect_timeout,
                reply_timeout=reply_timeout or self._redis.reply_timeout,
                greet=greet,
            )
        except ValueError:
            # Its text may quote the URL, and that a password.
            message = "The URL of the Redis server cannot be read."
        raise ConfigurationError(message, next_step="Write it as redis://user:password@host:6379/0, or rediss://.")

    async def _greet(self, link: RedisLink, ask: Ask) -> None:
        """Examine a server before it is used: also one that took another's place."""
        server = await examine(ask)
        self._findings = judge(server, self._options, self._redis)
        report(self._findings, strict=self._strict)
        self._flags = server.flags
        link.barrier = server.barrier(self._redis)
        await teach(ask, flags=server.flags)

    async def _check_shape(self) -> None:
        """Refuse a namespace that holds a queue of another shape.

        Raises:
            ConfigurationError: it has another schema or another count of shards.
        """
        key, wanted = f"{self._shards.prefix(0)}meta", {"schema": SCHEMA, "shards": str(self._shards.count)}
        for name, value in wanted.items():
            await self._plain(0, "HSETNX", key, name, value)
            found = text(await self._plain(0, "HGET", key, name))
            if found != value:
                message = f"The namespace holds a queue whose {name} is {found}, not {value}."
                step = (
                    "Use the same shards in every process, or another namespace; a newer schema needs a newer release."
                )
                raise ConfigurationError(message, next_step=step)

    async def _read(self, shard: int, name: str, place: Place, most: int) -> Sequence[object]:
        """Wait for what comes after an event and a nudge in a stream of events."""
        prefix, (events, nudges) = self._shards.prefix(shard), place
        streams = (f"{prefix}{name}", f"{prefix}nudge", f"{events}-0", f"{nudges}-0")
        block = round(BLOCK_SECONDS * 1000)
        command = ("XREAD", "COUNT", most, "BLOCK", block, "STREAMS", *streams)
        session = self._open
        try:
            (reply,) = await (await self._reader(session, shard, name)).ask(command)
        except LinkLost:
            await session.routes.renew()
            raise
        if isinstance(reply, Refused):
            await session.routes.renew()
            raise refusal(reply)
        return () if reply is None else items(reply)

    async def _reader(self, session: Session, shard: int, name: str) -> RedisLink:
        """Return the link over which a stream of a shard is read, to whoever holds it now."""
        url, known = session.routes.of(shard).url, session.readers.get((shard, name))
        if known is not None and known[0] == url:
            return known[1]
        if known is not None:
            await known[1].aclose()
        link = self._link(url, reply_timeout=BLOCK_SECONDS + BLOCK_MARGIN)
        session.readers[shard, name] = (url, link)
        return link


async def closed(session: Session) -> None:
    """Close what a session holds."""
    for wakes in session.wakes:
        await wakes.aclose()
    for _, link in session.readers.values():
        await link.aclose()
    await session.routes.aclose()
