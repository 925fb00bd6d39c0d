"""Between requests and the queue: storing them, and telling what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar
from uuid import UUID, uuid5

from pydantic_core import PydanticSerializationError

from llm_gateway._core.fingerprint import content_of
from llm_gateway._core.intake import requeue_key, successor
from llm_gateway._core.jobs import AdoptedBy, Enqueued, JobEvent, JobView, Lane, LaneStats, NewJob
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.outcomes import Completed, Pending, Ticket, TicketEvent, TicketStatus
from llm_gateway._core.payloads import Echo, StoredJob, StoredResult, read_echo, read_result, write_echo
from llm_gateway._core.receipts import response_of
from llm_gateway._core.requests import LLMRequest, Priority
from llm_gateway._core.responses import Receipt
from llm_gateway._core.schema import OutputSchema, OutputType
from llm_gateway._engine import HEARTBEAT_FRESH, Engine
from llm_gateway._facts import Attempt
from llm_gateway._shields import ShieldedCodec
from llm_gateway.errors import (
    DurabilityUnknown,
    ErrorInfo,
    InvalidRequest,
    PayloadTooLarge,
    QueueError,
    QueueUnavailable,
    TicketCancelled,
    TicketError,
    TicketExpired,
    TicketFailed,
    TicketNotFound,
)
from llm_gateway.protocols import QueueBackend

__all__ = ["Tickets", "in_queue", "raise_for_state"]

T = TypeVar("T")
logger: Final = logging.getLogger("llm_gateway")
EVENT_NAMESPACE: Final = UUID("6f4f6c1e-6f0b-5a53-9f6e-1a8e0c1f5d42")
ESTIMATING: Final = 0.1
PAYLOAD, RESULT = "payload", "result"


class Tickets:
    """Stores requests and reads tickets of any tenant."""

    def __init__(self, engine: Engine, queue: QueueBackend) -> None:
        self._engine = engine
        self._queue = queue
        self._codec = ShieldedCodec(engine.parts.codec)
        self._clock = engine.parts.clock
        self._warned = False
        self.workers_here = 0
        self.paces: dict[Lane, float] = {}

    async def new_job(
        self,
        tenant: str,
        request: LLMRequest,
        schema: OutputSchema,
        *,
        priority: Priority,
        reason: str,
        delay: float = 0.0,
        history: Sequence[Attempt] = (),
    ) -> NewJob:
        """Make the job that a request becomes. Its idempotency key must be set.

        Raises:
            PayloadTooLarge: the payload exceeds the limit.
            QueueError: it could not be sealed.
        """
        key = request.idempotency_key or ""
        ticket_id = self._queue.mint(tenant, key)
        written = _written(request, schema)
        if len(written) > self._engine.parts.queue.max_payload_bytes:
            message = f"The stored request would be {len(written)} bytes."
            raise PayloadTooLarge(message)
        now = self._clock.now()
        return NewJob(
            ticket_id=ticket_id,
            tenant=tenant,
            lane=Lane(request.provider, request.model),
            idempotency_key=key,
            fingerprint=await self.fingerprint(tenant, request),
            priority=request.priority or priority,
            created_at=now,
            expires_at=now + request.ttl,
            not_before=now + timedelta(seconds=delay) if delay > 0.0 else None,
            reason=reason,
            group=request.group,
            subjects=request.subjects,
            echo=write_echo(request),
            payload=await self._codec.seal(written, tenant=tenant, ticket_id=ticket_id, kind=PAYLOAD),
            history=tuple(history),
        )

    async def new_successor(self, dead: JobView, payload: bytes) -> NewJob:
        """Make the job that a dead letter becomes; its payload is bound to a ticket, so it is sealed anew.

        Raises:
            QueueError: the payload cannot be opened or sealed.
        """
        opened = await self.open_payload(dead, payload)
        ticket_id = self._queue.mint(dead.tenant, requeue_key(dead.ticket_id))
        sealed = await self._codec.seal(opened, tenant=dead.tenant, ticket_id=ticket_id, kind=PAYLOAD)
        return successor(dead, sealed, ticket_id, self._clock.now())

    async def fingerprint(self, tenant: str, request: LLMRequest) -> str:
        """Digest what an idempotency key stands for, as the queue may see it."""
        return await self._codec.digest(content_of(request), tenant=tenant)

    async def store(self, job: NewJob, request: LLMRequest, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store a job durably.

        Raises:
            QueueError: `QueueFull`, `QueueUnavailable`, `IdempotencyConflict`; or `DurabilityUnknown`, whose
                ``request`` carries the key that makes submitting again safe.
        """
        try:
            enqueued = await self._queue.enqueue(job, adopted_by=adopted_by)
        except DurabilityUnknown as error:
            error.request = request
            raise
        await self.require_kept(enqueued)
        self._engine.mirror_outage(job.lane)
        return enqueued

    async def require_kept(self, enqueued: Enqueued) -> None:
        """Refuse a ticket that its key still names but that has been erased.

        Raises:
            TicketNotFound: nothing can be fetched under it any more.
        """
        if enqueued.created:
            return
        try:
            await self._queue.get(enqueued.job.tenant, enqueued.job.ticket_id)
        except TicketNotFound as error:
            error.message = "The ticket of this idempotency key is gone: it was erased, or its retention has ended."
            error.next_step = "Ask under a new idempotency key."
            raise

    async def pending(self, job: JobView) -> Pending:
        """Give the ticket of a job."""
        return Pending(self.ticket(job, read_echo(job.echo), attended=await self._attended(job.lane)))

    def ticket(self, job: JobView, echo: Echo, *, attended: bool = True) -> Ticket:
        """Describe a job to its owner."""
        pace = self.paces.get(job.lane, 0.0) if attended else 0.0
        honest = pace > 0.0 and job.position is not None
        return Ticket(
            id=job.ticket_id,
            reason=job.reason,
            created_at=job.created_at,
            expires_at=job.expires_at,
            idempotency_key=job.idempotency_key,
            not_before=job.not_before,
            position=job.position,
            estimated_wait=((job.position or 0) + 1) / pace if honest else None,
            group=job.group,
            correlation_id=echo.correlation_id,
            metadata=echo.metadata,
        )

    def status(self, job: JobView) -> TicketStatus:
        """Tell where a ticket stands."""
        return TicketStatus(
            ticket=self.ticket(job, read_echo(job.echo)),
            state=job.state,
            version=job.version,
            attempts=job.attempts,
            updated_at=job.updated_at,
            error=job.error,
        )

    async def completed(self, job: JobView, output_type: OutputType[T], sealed: bytes | None = None) -> Completed[T]:
        """Read the result of a completed job, which is fetched if it is not given.

        Raises:
            TicketNotFound: its retention has ended.
            InvalidOutput: it is not valid for this output type.
        """
        if sealed is None:
            sealed = await self._queue.result(job.tenant, job.ticket_id)
        if sealed is None:
            message = "The result is no longer kept."
            raise TicketNotFound(message, info=ErrorInfo(ticket_id=job.ticket_id))
        result = await self._opened(job, sealed)
        echo = read_echo(job.echo)
        response = response_of(replace(result, receipt=in_queue(result.receipt, job)), output_type)
        return Completed(response, metadata=echo.metadata, correlation_id=echo.correlation_id)

    async def outcome(
        self, job: JobView, output_type: OutputType[T], sealed: bytes | None = None
    ) -> Completed[T] | Pending:
        """Tell how a job stands, as an outcome.

        Raises:
            TicketError: it failed, expired or was cancelled.
        """
        raise_for_state(job)
        if job.state is TicketState.COMPLETED:
            return await self.completed(job, output_type, sealed)
        return await self.pending(job)

    async def event(self, event: JobEvent) -> TicketEvent:
        """Tell of one transition all that a consumer needs."""
        job = event.view
        echo = read_echo(job.echo)
        receipt = await self._receipt(job, event.result) if event.result is not None else None
        name = f"{event.ticket_id}:terminal" if event.state.terminal else f"{event.ticket_id}:{event.version}"
        return TicketEvent(
            event_id=str(uuid5(EVENT_NAMESPACE, name)),
            cursor=event.cursor,
            ticket_id=event.ticket_id,
            tenant=event.tenant,
            version=event.version,
            state=event.state,
            reason=event.reason,
            at=event.at,
            idempotency_key=job.idempotency_key,
            group=event.group,
            correlation_id=echo.correlation_id,
            callback_topic=echo.callback_topic,
            trace_context=echo.trace_context,
            metadata=echo.metadata,
            error=job.error,
            receipt=receipt,
        )

    async def seal_result(self, job: JobView, result: StoredResult) -> bytes:
        """Make a result storable. What the codec raises is left to the settlement, which has an answer to lose."""
        return await self._engine.parts.codec.seal(
            result.write(), tenant=job.tenant, ticket_id=job.ticket_id, kind=RESULT
        )

    async def open_payload(self, job: JobView, payload: bytes) -> bytes:
        """Undo the sealing of a request."""
        return await self._codec.open(payload, tenant=job.tenant, ticket_id=job.ticket_id, kind=PAYLOAD)

    async def shred(self, tenant: str) -> None:
        """Forget the key of a tenant, wherever one is kept.

        Raises:
            QueueError: it may be there still.
        """
        await self._codec.shred(tenant)
        # A codec without keys of its own knows nothing of the one that other processes keep here.
        await self._queue.drop_tenant_key(tenant)

    async def _receipt(self, job: JobView, sealed: bytes) -> Receipt | None:
        try:
            return in_queue((await self._opened(job, sealed)).receipt, job)
        except QueueUnavailable:
            raise  # the keys are out of reach for a moment, the answer is not lost
        except QueueError as error:
            # The end of a ticket is told whatever has become of its answer; those behind it must not wait.
            logger.warning("The answer of ticket %s cannot be read (%s)", job.ticket_id, type(error).__name__)
            return None

    async def _opened(self, job: JobView, sealed: bytes) -> StoredResult:
        data = await self._codec.open(sealed, tenant=job.tenant, ticket_id=job.ticket_id, kind=RESULT)
        return read_result(data)

    async def _lanes(self) -> list[LaneStats] | None:
        """Tell of the lanes, if that takes but a moment: only an estimate hangs on it."""
        try:
            async with asyncio.timeout(ESTIMATING):
                return await self._queue.lanes()
        except (QueueError, TimeoutError):
            return None

    async def _attended(self, lane: Lane) -> bool:
        """Whether a worker stands ready for the lane; warns once when none does."""
        if self.workers_here > 0:
            return True
        lanes = await self._lanes()
        if lanes is None:
            return False
        since = self._clock.now() - HEARTBEAT_FRESH
        for stats in lanes:
            if stats.lane == lane and stats.last_heartbeat_at is not None and stats.last_heartbeat_at >= since:
                return True
        if not self._warned:
            self._warned = True
            logger.warning("No worker has shown up for %s: start one with client.worker()", lane)
        return False


def _written(request: LLMRequest, schema: OutputSchema) -> bytes:
    try:
        return StoredJob(request=request, schema=schema).write()
    except PydanticSerializationError:
        message = "The request holds something that cannot be written as JSON."
    raise InvalidRequest(message, next_step="Build it anew; what is changed in place is not checked.")


def in_queue(receipt: Receipt, job: JobView) -> Receipt:
    """Add to a receipt what only the queue knows."""
    wait = max((receipt.sent_at - job.created_at).total_seconds(), 0.0)
    return replace(receipt, ticket_id=job.ticket_id, queue_wait=wait, attempts=job.history or receipt.attempts)


def raise_for_state(job: JobView) -> None:
    """Raise the typed error of a job that ended without a result.

    Raises:
        TicketFailed: with the fault and code that ended it.
        TicketExpired: it waited longer than its ttl.
        TicketCancelled: it was cancelled.
    """
    kind = ENDINGS.get(job.state)
    if kind is None:
        return
    error = job.error
    info = ErrorInfo(
        ticket_id=job.ticket_id,
        provider=job.lane.provider,
        model=job.lane.model,
        attempts=job.history,
        fault=error.fault if error else None,
        code=error.code if error else None,
        status=error.status if error else None,
    )
    because = f": {error.type}: {error.message}" if error else "."
    message = f"The ticket {PAST[job.state]}{because}"
    raise kind(message, info=info)


ENDINGS: Final[Mapping[TicketState, type[TicketError]]] = {
    TicketState.FAILED: TicketFailed,
    TicketState.EXPIRED: TicketExpired,
    TicketState.CANCELLED: TicketCancelled,
}
PAST: Final[Mapping[TicketState, str]] = {
    TicketState.FAILED: "failed",
    TicketState.EXPIRED: "expired",
    TicketState.CANCELLED: "was cancelled",
}
