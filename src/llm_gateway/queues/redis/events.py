"""Events that leave, and events that are watched, in Redis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

from llm_gateway._core.jobs import Ending, JobEvent, JobView
from llm_gateway._core.journal import cursor_of, event_of, number_of
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import InvalidRequest, QueueError
from llm_gateway.protocols import Outbox, Watch
from llm_gateway.queues.redis.desk import Body, OnRedis, first_of
from llm_gateway.queues.redis.rows import (
    content_of,
    event_from,
    fields_of,
    integer,
    items,
    micros,
    raw,
    text,
    view_of,
)
from llm_gateway.queues.redis.scripts import Script
from llm_gateway.queues.redis.wakes import Signals, Wakes

__all__ = ["RedisOutbox", "RedisWatch"]

PAGE: Final = 500
AHEAD: Final = 3


class RedisOutbox(OnRedis, Outbox):
    """Events that still have to leave."""

    @property
    def outbox_shards(self) -> int:
        """One outbox for each shard."""
        return self._shards.count

    async def lead(self, shard: int, token: str, seconds: float) -> bool:
        """Take, or renew, the right to relay a shard for so many *seconds*; False while another token holds it."""
        return await self._run(Script.RELAY, shard, "lead", token, micros(seconds)) == 1

    async def yield_lead(self, shard: int, token: str) -> None:
        """Give the right back, if it is still this token's."""
        await self._run(Script.RELAY, shard, "yield", token, "")

    async def unrelayed(self, shard: int, limit: int = 100) -> list[JobEvent]:
        """Return the oldest events that nobody acknowledged, once they are as durable as the queue is set to."""
        reply = items(await self._run(Script.TELL, shard, "", limit, "", "", durable=True))
        return readable(reply[AHEAD:])

    async def relayed(self, shard: int, cursor: str, token: str) -> bool:
        """Acknowledge all events up to this one; retention starts for jobs whose terminal event was among them.

        False when the token leads no longer; then nothing changes.

        Raises:
            InvalidRequest: the cursor is none of this queue's.
        """
        return await self._run(Script.RELAY, shard, "ack", token, number_of(cursor)) == 1

    async def close_outbox(self, shard: int, token: str) -> bool:
        """Write no more events for a relay, in any process, until one starts that publishes.

        False, and nothing changes, unless this token leads and all events have left.
        """
        return await self._run(Script.RELAY, shard, "close", token, "") == 1

    async def wait_unrelayed(self, shard: int) -> None:
        """Return when there is an event to relay.

        Raises:
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        wakes = self._open.wakes[shard]
        with wakes.log.needed():
            while True:
                written = wakes.written.listen()
                if len(items(await self._run(Script.TELL, shard, "", 1, "", ""))) > AHEAD:
                    return
                await written.wait()


class RedisWatch(OnRedis, Watch):
    """Being told of changes."""

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        """Return the job once its version exceeds *beyond*.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's; also when it goes meanwhile.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        wakes = self._wakes_of(ticket_id)
        with wakes.turns.needed():
            # Only of a job that waits could the next change be one that the turns leave out.
            view = await self._view_when(
                tenant,
                ticket_id,
                wakes.endings,
                lambda view: view.version > beyond or view.state is TicketState.QUEUED,
            )
        if view.version > beyond:
            return view
        with wakes.log.needed():
            return await self._view_when(tenant, ticket_id, wakes.changes, lambda view: view.version > beyond)

    async def ended(self, tenant: str, ticket_id: str) -> Ending:
        """Return the job, and the result if it is completed, once it has ended.

        Raises:
            TicketNotFound: unknown, gone, or another tenant's; also when it goes meanwhile.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        wakes = self._wakes_of(ticket_id)
        signal = wakes.endings.of(ticket_id)
        with wakes.turns.needed():
            while True:
                changed = signal.listen()
                # Of what was stored here a moment ago the end will be told; nobody need ask for it before.
                if not wakes.lasts(ticket_id, tenant):
                    view, result = await self._visible(tenant, ticket_id, body=Body.RESULT)
                    if view.state.terminal:
                        return Ending(view, result)
                await changed.wait()
                self._require_open()

    async def _view_when(
        self, tenant: str, ticket_id: str, signals: Signals, enough: Callable[[JobView], bool]
    ) -> JobView:
        signal = signals.of(ticket_id)
        while True:
            changed = signal.listen()
            view, _ = await self._visible(tenant, ticket_id)
            if enough(view):
                return view
            await changed.wait()

    def _wakes_of(self, ticket_id: str) -> Wakes:
        return self._open.wakes[self._shards.of_ticket(ticket_id) or 0]

    async def events(self, tenant: str, *, group: str | None, after: str | None, limit: int = 100) -> list[JobEvent]:
        """Wait for events after a cursor (from now on when ``None``).

        The log keeps the latest 10 000 of each shard. Past a gap come first the current states of the jobs that
        changed within it, in the order of their latest change, each with the cursor of that change: going on from any
        loses nothing. With several shards the order across tickets is that of each shard.

        Raises:
            InvalidRequest: the cursor is none of this queue's.
            QueueUnavailable: the queue is closed, or was closed meanwhile.
        """
        session = self._open
        places = await self._places(after)
        with ExitStack() as stack:
            for wakes in session.wakes:
                stack.enter_context(wakes.log.needed())
            while True:
                heard = [wakes.written.listen() for wakes in session.wakes]
                batch = await self._batch(tenant, group, places, limit)
                if batch:
                    return batch
                await first_of([event.wait() for event in heard])
                self._require_open()

    async def _batch(self, tenant: str, group: str | None, places: list[int], limit: int) -> list[JobEvent]:
        batch = list[JobEvent]()
        for shard in self._all_shards:
            for event in await self._news((tenant, group or ""), shard, places, limit=limit - len(batch)):
                places[shard] = number_of(event.cursor)
                batch.append(replace(event, cursor=cursor_over(places)))
        return batch

    async def _news(self, whose: tuple[str, str], shard: int, places: list[int], *, limit: int) -> Sequence[JobEvent]:
        """Return what a watcher has not seen of a shard, and move its place past what does not concern it."""
        while limit > 0:
            reply = items(await self._run(Script.TELL, shard, places[shard] + 1, limit, *whose))
            oldest, onward, latest = map(integer, reply[:AHEAD])
            if places[shard] > latest:
                # The server has forgotten what it told, as after a failover.
                places[shard] = 0
                continue
            if places[shard] < oldest - 1:
                missed = await self._missed(whose, shard, (places[shard], oldest))
                if missed:
                    return missed[:limit]
                places[shard] = oldest - 1
                continue
            events = readable(reply[AHEAD:])
            if events:
                return events
            places[shard] = onward - 1
            if onward > latest:
                break
        return ()

    async def _missed(self, whose: tuple[str, str], shard: int, gap: tuple[int, int]) -> list[JobEvent]:
        found, first = list[JobEvent](), 0
        tenant, group = whose
        count = integer(await self._plain(shard, "ZCARD", f"{self._shards.prefix(shard)}l:{tenant}"))
        while first < count:
            page = (*gap, group, first, first + PAGE - 1)
            found += standing(items(await self._run(Script.MISSED, shard, tenant, *page)))
            first += PAGE
        return sorted(found, key=lambda event: event.cursor)

    async def _places(self, after: str | None) -> list[int]:
        if after is None:
            return [
                integer(await self._plain(shard, "HGET", f"{self._shards.prefix(shard)}cnt", "seq") or 0)
                for shard in self._all_shards
            ]
        places = [number_of(number) for number in after.split(".")]
        if len(places) != self._shards.count:
            message = "The cursor of an event is not one that this queue gave out."
            raise InvalidRequest(message, next_step="Pass the cursor of the last event that was received, or none.")
        return places


def cursor_over(places: Sequence[int]) -> str:
    """Write where a watcher stands in each shard."""
    return ".".join(map(cursor_of, places))


def readable(rows: Sequence[object]) -> list[JobEvent]:
    """Read events, but for those of jobs that are damaged: these end with an event that can be read."""
    found = list[JobEvent]()
    for row in rows:
        number, fact, fields, content = items(row)
        with suppress(QueueError):
            found.append(event_from(integer(number), items(fact), fields_of(fields), raw(content)))
    return found


def standing(rows: Sequence[object]) -> list[JobEvent]:
    """Read where jobs stand, as the event that brought each there."""
    found = list[JobEvent]()
    for row in rows:
        number, ticket, fields, content = items(row)
        told = fields_of(fields)
        echo, body = content_of(told, raw(content))
        with suppress(QueueError):
            view = view_of(text(ticket), told, echo)
            done = view.state is TicketState.COMPLETED
            found.append(event_of(view, body if done else None, integer(number)))
    return found
