"""What a client does with tickets: submit, follow, fetch, cancel, erase."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from copy import copy
from datetime import datetime
from typing import TypeVar

from llm_gateway._asking import Desk, with_key
from llm_gateway._callers import Patience
from llm_gateway._core.circuit import CircuitKey
from llm_gateway._core.given import (
    require_cursor,
    require_name,
    require_request,
    require_requests,
    require_ticket_id,
)
from llm_gateway._core.health import Health, LaneHealth
from llm_gateway._core.intake import check_erasure, dead_letter
from llm_gateway._core.jobs import (
    Enqueued,
    EnqueueReply,
    ErasureReport,
    JobEvent,
    JobView,
    Lane,
    LaneGate,
    LaneStats,
    NewJob,
)
from llm_gateway._core.outcomes import Completed, Pending, TicketEvent, TicketStatus, WaitReason
from llm_gateway._core.requests import LLMRequest, Priority
from llm_gateway._core.schema import OutputSchema, OutputType
from llm_gateway._engine import Engine
from llm_gateway.errors import ClientClosed, ConfigurationError, DurabilityUnknown, LLMGatewayError, QueueError

__all__ = ["Submitting"]

T = TypeVar("T")


class Submitting:
    """The queue's side of one client."""

    def __init__(self, engine: Engine, desk: Desk | None) -> None:
        self._engine = engine
        self._desk = desk

    async def submit(self, tenant: str, request: LLMRequest, schema: OutputSchema) -> Pending:
        """Store one request.

        Raises:
            InvalidRequest: it could never be sent.
            QueueError: it could not be stored.
        """
        desk = self._required()
        keyed = with_key(request)
        job = await self._job(tenant, keyed, schema)
        enqueued = await desk.tickets.store(job, keyed)
        return await desk.tickets.pending(enqueued.job)

    async def submit_many(
        self, tenant: str, requests: Sequence[LLMRequest], schema: OutputSchema
    ) -> list[Pending | LLMGatewayError]:
        """Store many requests in one go; each refusal takes the place of its ticket."""
        desk = self._required()
        outcomes: list[Pending | LLMGatewayError | None] = []
        jobs: list[NewJob] = []
        keyed: list[LLMRequest] = []
        for given in require_requests(requests):
            try:
                request = with_key(require_request(given))
                jobs.append(await self._job(tenant, request, schema))
            except LLMGatewayError as error:
                outcomes.append(error)
            else:
                keyed.append(request)
                outcomes.append(None)
        replies = zip(await _enqueued(desk, jobs), keyed, strict=True)
        for lane in {job.lane for job in jobs}:
            self._engine.mirror_outage(lane)
        return [outcome if outcome is not None else await self._told(desk, *next(replies)) for outcome in outcomes]

    async def status(self, tenant: str, ticket_id: str) -> TicketStatus:
        """Tell where a ticket stands."""
        desk = self._required()
        return desk.tickets.status(await self._current(desk, tenant, ticket_id))

    async def _current(self, desk: Desk, tenant: str, ticket_id: str) -> JobView:
        """Return a job, expired if it should be: there may be no worker to do that."""
        job = await desk.queue.get(tenant, ticket_id)
        if job.state.terminal or job.expires_at > self._engine.parts.clock.now():
            return job
        await desk.queue.sweep()
        return await desk.queue.get(tenant, ticket_id)

    async def result(
        self, tenant: str, ticket_id: str, output_type: OutputType[T], timeout: float
    ) -> Completed[T] | Pending:
        """Wait up to *timeout* seconds for the end of a ticket."""
        desk = self._required()
        job, sealed = await self._current(desk, tenant, ticket_id), None
        patience = Patience(self._engine.parts.clock, timeout)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                with self._engine.followers.waiting(patience), patience.cuts(limit):
                    if not job.state.terminal:
                        job, sealed = await desk.queue.ended(tenant, ticket_id)
        except TimeoutError:
            if not limit.expired():  # a backend's own
                raise
            if timeout > 0.0:  # it may have gone on meanwhile
                job = await self._current(desk, tenant, ticket_id)
        if patience.ended and not job.state.terminal:
            raise _sent_away()
        return await desk.tickets.outcome(job, output_type, sealed)

    async def cancel(self, tenant: str, ticket_id: str) -> TicketStatus:
        """Cancel a ticket unless it has ended."""
        desk = self._required()
        return desk.tickets.status(await desk.queue.cancel(tenant, ticket_id))

    async def cancel_group(self, tenant: str, group: str) -> int:
        """Cancel every ticket of a group that has not ended."""
        return await self._required().queue.cancel_group(tenant, group)

    async def requeue(self, tenant: str, ticket_id: str) -> Pending:
        """Make a new ticket from a dead letter, once."""
        desk = self._required()
        dead = await desk.queue.get(tenant, ticket_id)
        payload = dead_letter(dead, await desk.queue.payload(tenant, ticket_id))
        job = await desk.tickets.new_successor(dead, payload)
        try:
            enqueued = await desk.queue.enqueue(job)
        except DurabilityUnknown as error:
            error.next_step = "Requeue the ticket again: it becomes one new ticket at most."
            raise
        await desk.tickets.require_kept(enqueued)
        self._engine.mirror_outage(job.lane)
        return await desk.tickets.pending(enqueued.job)

    async def erase(self, tenant: str, *, ticket: str | None, subject: str | None, everything: bool) -> ErasureReport:
        """Erase a ticket, everything of a subject, or everything of the tenant together with its key.

        Raises:
            InvalidRequest: not exactly one was given, or no name.
        """
        check_erasure(ticket, subject, everything=everything)
        named = None if ticket is None else require_ticket_id(ticket)
        whose = None if subject is None else require_name(subject, "subject")
        desk = self._required()
        try:
            report = await desk.queue.erase(tenant, ticket_id=named, subject=whose, everything=everything)
            if everything:
                await desk.tickets.shred(tenant)
        except DurabilityUnknown as error:
            error.next_step = "Erase again once the queue is whole; what is gone by then stays gone."
            raise
        return report

    def events(self, tenant: str, *, group: str | None, after: str | None) -> AsyncIterator[TicketEvent]:
        """Follow the status changes of a tenant's tickets.

        Raises:
            InvalidRequest: what was given is no name of a group, or no cursor.
        """
        named = None if group is None else require_name(group, "group")
        return self._followed(tenant, named, None if after is None else require_cursor(after))

    async def _followed(self, tenant: str, group: str | None, after: str | None) -> AsyncIterator[TicketEvent]:
        desk = self._required()
        cursor = after
        while True:
            for event in await self._next_events(desk, tenant, group, cursor):
                cursor = event.cursor
                yield await desk.tickets.event(event)

    async def _next_events(self, desk: Desk, tenant: str, group: str | None, after: str | None) -> Sequence[JobEvent]:
        patience, limit = Patience(self._engine.parts.clock, math.inf), asyncio.timeout(None)
        try:
            async with limit:
                with self._engine.in_use(), self._engine.followers.waiting(patience), patience.cuts(limit):
                    return await desk.queue.events(tenant, group=group, after=after)
        except TimeoutError:
            if not limit.expired():  # a backend's own
                raise
        raise _sent_away()

    async def health(self) -> Health:
        """Tell how things stand, without asking any provider."""
        stats = await self._desk.queue.stats() if self._desk is not None else None
        queue = self._engine.queue
        return Health(
            environment=self._engine.environment,
            providers=tuple(sorted(self._engine.providers)),
            queue=self._engine.queue_name,
            durable=queue.durable if queue is not None else False,
            depth=stats.depth if stats is not None else 0,
            outbox=stats.outbox if stats is not None else 0,
            outbox_lag=self._age(stats.outbox_oldest_at if stats is not None else None),
            lanes=self._lanes(stats.lanes if stats is not None else ()),
        )

    def _age(self, since: datetime | None) -> float | None:
        """Seconds since then, never below zero: another host's clock may be ahead."""
        return None if since is None else max((self._engine.parts.clock.now() - since).total_seconds(), 0.0)

    def _lanes(self, queued: Sequence[LaneStats]) -> tuple[LaneHealth, ...]:
        """Tell of every lane that holds requests, and of those that were only asked live."""
        held = {stats.lane for stats in queued}
        asked = (lane for lane in self._engine.asked_lanes if lane not in held)
        return tuple(map(self._lane, (*queued, *map(_empty, asked))))

    def _lane(self, stats: LaneStats) -> LaneHealth:
        provider = self._engine.providers.get(stats.lane.provider)
        endpoint, key_id = (provider.endpoint, provider.key_id) if provider is not None else ("", "")
        snapshot = self._engine.parts.breaker.snapshot(CircuitKey(endpoint, stats.lane))
        return LaneHealth(
            lane=stats.lane,
            circuit=snapshot.state,
            retry_in=snapshot.retry_in,
            latched=self._engine.latches.latched((endpoint, key_id)),
            paused=stats.gate.paused,
            parked=stats.gate.parked,
            ready=stats.ready,
            delayed=stats.delayed,
            processing=stats.processing,
            dead=stats.dead,
            oldest_created_at=stats.oldest_created_at,
            last_heartbeat_at=stats.last_heartbeat_at,
        )

    async def _job(self, tenant: str, request: LLMRequest, schema: OutputSchema) -> NewJob:
        # Prepared only to learn now what the worker would learn later: that it can never be sent.
        call = self._engine.prepare(request, schema, deadline=math.inf)
        self._engine.require_account(call)
        return await self._required().tickets.new_job(
            tenant, request, schema, priority=Priority.BATCH, reason=WaitReason.SUBMITTED
        )

    async def _told(
        self, desk: Desk, reply: Enqueued | LLMGatewayError, request: LLMRequest
    ) -> Pending | LLMGatewayError:
        if isinstance(reply, Enqueued):
            try:
                await desk.tickets.require_kept(reply)
            except LLMGatewayError as error:
                return error
            return await desk.tickets.pending(reply.job)
        if isinstance(reply, DurabilityUnknown):
            reply.request = request
        return reply

    def _required(self) -> Desk:
        if self._desk is None:
            message = "This client has no queue."
            raise ConfigurationError(message, next_step="Configure a queue to submit and follow tickets.")
        return self._desk


async def _enqueued(desk: Desk, jobs: Sequence[NewJob]) -> Sequence[EnqueueReply]:
    try:
        return await desk.queue.enqueue_many(jobs)
    except QueueError as error:
        # Each is told on its own, so that each has the key under which it may be stored.
        return [copy(error) for _ in jobs]


def _sent_away() -> ClientClosed:
    message = "The client closes."
    return ClientClosed(message, next_step="Follow the ticket with another client; the queue keeps it.")


def _empty(lane: Lane) -> LaneStats:
    return LaneStats(
        lane=lane,
        ready=0,
        delayed=0,
        processing=0,
        parked=0,
        dead=0,
        oldest_created_at=None,
        last_heartbeat_at=None,
        gate=LaneGate(),
    )
