"""What every face of the queue shares: the links to the server, the shards, and how a script is run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count
from typing import Final

from llm_gateway._core.jobs import JobView
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._io.redis import Command, LinkLost, RedisLink, Refused
from llm_gateway._null import SystemClock
from llm_gateway.errors import (
    DurabilityUnknown,
    ErrorInfo,
    LLMGatewayError,
    QueueError,
    QueueFull,
    QueueUnavailable,
    TicketNotFound,
)
from llm_gateway.options import QueueOptions, RedisOptions
from llm_gateway.protocols import Clock
from llm_gateway.queues.redis.keys import Shards
from llm_gateway.queues.redis.routes import Node, Routes
from llm_gateway.queues.redis.rows import content_of, fields_of, integer, items, micros, raw, time_of, view_of
from llm_gateway.queues.redis.scripts import Script, source_of
from llm_gateway.queues.redis.wakes import Wakes

__all__ = ["TRIES", "Body", "OnRedis", "Part", "Session", "checked", "first_of", "refusal", "unknown_ticket"]

Part = str | bytes | int
Stream = tuple[int, str]
TRIES: Final = 2
MOVED: Final = frozenset({"MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})
LOOKING: Final = frozenset({Script.LOOK, Script.SHOW, Script.TELL, Script.MISSED})
NO_SCRIPT: Final = Refused("NOSCRIPT")
FULL_RETRY_AFTER: Final = 5.0


class Body(IntEnum):
    """What is asked for of a job's content, besides what is echoed on its events."""

    NONE = 0
    ALL = 1
    RESULT = 2


@dataclass(slots=True)
class Session:
    """What holds from start to close.

    Attributes:
        routes: Which server holds which shard.
        readers: The links of the blocking reads, by shard and stream, each with where it leads.
        wakes: Who waits in this process, by shard.
        loop: Where it was started.
        pid: The process in which it was started.
        closing: Whether no more is taken in.
    """

    routes: Routes
    wakes: Sequence[Wakes]
    loop: asyncio.AbstractEventLoop
    pid: int = field(default_factory=os.getpid)
    readers: dict[Stream, tuple[str, RedisLink]] = field(default_factory=dict[Stream, "tuple[str, RedisLink]"])
    closing: bool = False


class OnRedis:
    """A face of the queue.

    Args:
        options: Bounds and retention.
        redis: How the server is used.
        shards: Where jobs lie.
        clock: Time, when it is not to be the server's own.
    """

    def __init__(self, options: QueueOptions, redis: RedisOptions, shards: Shards, clock: Clock | None) -> None:
        self._options = options
        self._redis = redis
        self._shards = shards
        self._clock = clock or SystemClock()
        self._server_time = clock is None
        self._session: Session | None = None
        self._flags = True
        self._sweeps = count()
        self._errands = set[asyncio.Task[None]]()

    @property
    def _open(self) -> Session:
        session = self._session
        if session is None or session.closing:
            message = "The queue is closed."
            raise QueueUnavailable(message, next_step="Start it first; nothing was stored.")
        foreign = session.pid != os.getpid()
        if foreign or session.loop is not asyncio.get_running_loop():
            where = "a fork of the process" if foreign else "another event loop"
            message = f"The queue is used from {where} than it was started in."
            raise QueueError(message, next_step="Make and start a queue of its own there.")
        return session

    def _require_open(self) -> None:
        """Refuse what was closed meanwhile.

        Raises:
            QueueUnavailable: when it was.
        """
        _ = self._open

    @property
    def _all_shards(self) -> range:
        return range(self._shards.count)

    def _keep(self, errand: Coroutine[object, object, None]) -> None:
        """Let something run to its end although its caller is gone; closing waits for it."""
        task = asyncio.ensure_future(errand)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
        task.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    async def _run(self, script: Script, shard: int, *parts: Part, durable: bool = False) -> object:
        """Run a script on a shard and return what it replied; with *durable*, once that is on the disk.

        Raises:
            QueueUnavailable: the server cannot be reached or does not take it; nothing was changed.
            DurabilityUnknown: it may have been changed, or is not on as many disks as asked for.
        """
        (reply,) = await self._run_many(script, [(shard, parts)], durable=durable)
        return checked(reply)

    async def _run_many(
        self, script: Script, calls: Sequence[tuple[int, Sequence[Part]]], *, durable: bool = False
    ) -> list[object]:
        """Run a script for many in one round trip; each is answered for itself, by its reply or an error."""
        session = self._open
        outcomes = await self._sent(session, script, calls, durable=durable)
        # Every script knows its own repetition.
        again = [index for index, outcome in enumerate(outcomes) if elsewhere(outcome)]
        if again:
            await session.routes.renew()
            redone = await self._sent(session, script, [calls[index] for index in again], durable=durable)
            for index, outcome in zip(again, redone, strict=True):
                outcomes[index] = joined(outcomes[index], outcome)
        unsure = script not in LOOKING
        told = zip(calls, outcomes, strict=True)
        return [self._told(session, shard, outcome, unsure=unsure) for (shard, _), outcome in told]

    async def _sent(
        self, session: Session, script: Script, calls: Sequence[tuple[int, Sequence[Part]]], *, durable: bool
    ) -> list[object]:
        """Send each call to the server that holds its shard, and return what came of each."""
        by_node = dict[Node, list[int]]()
        for index, (shard, _) in enumerate(calls):
            by_node.setdefault(session.routes.of(shard), []).append(index)
        if len(by_node) == 1:
            (node,) = by_node
            return list(await self._asked(node, script, calls, durable=durable))
        outcomes: list[object] = [None] * len(calls)
        asked = (
            self._asked(node, script, [calls[index] for index in there], durable=durable)
            for node, there in by_node.items()
        )
        for there, replies in zip(by_node.values(), await asyncio.gather(*asked), strict=True):
            for index, reply in zip(there, replies, strict=True):
                outcomes[index] = reply
        return outcomes

    async def _asked(
        self, node: Node, script: Script, calls: Sequence[tuple[int, Sequence[Part]]], *, durable: bool
    ) -> Sequence[object]:
        link = node.safe if durable else node.link
        commands = [self._command(script, shard, parts) for shard, parts in calls]
        try:
            replies = await link.ask(*commands, barred=durable)
            if NO_SCRIPT in replies:
                commands = [self._command(script, shard, parts, whole=True) for shard, parts in calls]
                replies = await link.ask(*commands, barred=durable)
        except LinkLost as lost:
            return [lost] * len(calls)
        if len(replies) > len(calls):
            try:
                self._require_copies(replies.pop())
            except DurabilityUnknown as error:
                return [reply if isinstance(reply, Refused) else error for reply in replies]
        return replies

    async def _plain(self, shard: int, *command: Part) -> object:
        """Run one command on a shard that may be repeated.

        Raises:
            QueueUnavailable: the server cannot be reached or does not take it.
        """
        session, outcome = self._open, None
        for _ in range(TRIES):
            try:
                (outcome,) = await session.routes.of(shard).link.ask(command)
            except LinkLost as lost:
                outcome = lost
            if not elsewhere(outcome):
                break
            await session.routes.renew()
        if isinstance(outcome, LinkLost):
            raise unreachable(outcome.because, unsure=False)
        if isinstance(outcome, Refused):
            raise refusal(outcome)
        return outcome

    async def _visible(self, tenant: str, ticket_id: str, *, body: Body = Body.NONE) -> tuple[JobView, bytes | None]:
        """Return a job as its tenant may see it, and its payload or result if that is asked for.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's.
            QueueError: it is damaged.
        """
        view, content, buried = await self._shown(ticket_id, body=body)
        if buried or view.tenant != tenant:
            raise unknown_ticket(ticket_id)
        return view, content

    async def _shown(self, ticket_id: str, *, body: Body = Body.NONE) -> tuple[JobView, bytes | None, bool]:
        shard = self._shards.of_ticket(ticket_id)
        if shard is None:
            raise unknown_ticket(ticket_id)
        reply = items(await self._run(Script.SHOW, shard, ticket_id, body.value))
        if reply[0] == b"none":
            raise unknown_ticket(ticket_id)
        if reply[0] != b"job":
            return view_of(ticket_id, {}, b""), None, False
        fields, rank = fields_of(reply[1]), integer(reply[3])
        echo, rest = content_of(fields, raw(reply[2]))
        view = view_of(ticket_id, fields, echo, self._position(rank))
        wanted = body is Body.ALL or (body is Body.RESULT and view.state is TicketState.COMPLETED)
        return view, rest if wanted else None, b"b" in fields

    def _position(self, rank: int) -> int | None:
        """Tell how many stand ahead: of one shard's jobs alone that would be no honest answer."""
        return rank if rank >= 0 and self._shards.count == 1 else None

    def _command(self, script: Script, shard: int, parts: Sequence[Part], *, whole: bool = False) -> Command:
        source, prefix = source_of(script, flags=self._flags), self._shards.prefix(shard)
        how = ("EVAL", source.text) if whole else ("EVALSHA", source.digest)
        now = "" if self._server_time else time_of(self._clock.now())
        kept = (micros(self._options.result_retention), micros(self._options.dead_letter_retention))
        return (*how, 1, f"{prefix}cnt", prefix, now, *kept, *parts)

    def _told(self, session: Session, shard: int, reply: object, *, unsure: bool) -> object:
        if isinstance(reply, LinkLost):
            return unreachable(reply.because, unsure=unsure and reply.sent)
        if isinstance(reply, Refused):
            return refusal(reply)
        if isinstance(reply, LLMGatewayError):
            return reply
        events, nudges, body = items(reply)
        session.wakes[shard].know(integer(events), integer(nudges))
        return body

    def _require_copies(self, reply: object) -> None:
        """Refuse to call stored what fewer disks or replicas than asked for have confirmed.

        Raises:
            DurabilityUnknown: too few have.
        """
        if isinstance(reply, Refused):
            message = f"The server cannot tell whether it is on the disk ({reply.code})."
            raise DurabilityUnknown(message)
        replicas = self._redis.replicas if self._redis.durability == "replicated" else 0
        counts = [1, integer(reply)] if isinstance(reply, int) else [integer(count) for count in items(reply)]
        if counts[0] < 1 or counts[1] < replicas:
            message = f"Only {counts[0]} disk and {counts[1]} replicas have confirmed it; asked for: 1 and {replicas}."
            raise DurabilityUnknown(message)


def checked(reply: object) -> object:
    """Return a reply that is no error.

    Raises:
        LLMGatewayError: it is one.
    """
    if isinstance(reply, LLMGatewayError):
        raise reply
    return reply


def elsewhere(outcome: object) -> bool:
    """Whether to find out anew who holds the shard, and ask again."""
    return isinstance(outcome, LinkLost) or (isinstance(outcome, Refused) and outcome.code in MOVED)


def joined(first: object, second: object) -> object:
    """Return what came of asking twice: what may have been carried out the first time stays possible."""
    if isinstance(first, LinkLost) and isinstance(second, LinkLost):
        return LinkLost(second.because, sent=first.sent or second.sent)
    return second


async def first_of(waits: Sequence[Coroutine[object, object, object]]) -> None:
    """Return when the first of some waits is over, and end the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


def unknown_ticket(ticket_id: str) -> TicketNotFound:
    """Say that there is no such ticket."""
    return TicketNotFound("There is no such ticket.", info=ErrorInfo(ticket_id=ticket_id))


def unreachable(because: str, *, unsure: bool) -> QueueError:
    """Say that the server did not answer."""
    if unsure:
        return DurabilityUnknown(f"The connection to the queue broke before its reply came ({because}).")
    message = f"The queue cannot be reached ({because})."
    return QueueUnavailable(message, next_step="See to the Redis server and the way to it; nothing was stored.")


def refusal(reply: Refused) -> QueueError:
    """Say that the server did not take it."""
    if reply.code == "OOM":
        return QueueFull("The Redis server has no memory left for more.", retry_after=FULL_RETRY_AFTER)
    if reply.code == "WRONGTYPE":
        message = "A key of the queue holds something else."
        return QueueError(message, next_step="Give the queue a namespace of its own.")
    message = f"The Redis server did not take it ({reply.code})."
    return QueueUnavailable(message, next_step="See to the Redis server; nothing was stored.")
