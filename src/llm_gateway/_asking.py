"""One live question: a result now, or a ticket, or a typed error."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from secrets import token_hex
from typing import Final, Generic, NamedTuple, TypeVar

from llm_gateway._core.admission import ADMISSION, LiveAction
from llm_gateway._core.jobs import AdoptedBy, JobView, NewJob
from llm_gateway._core.outcomes import Completed, Pending, WaitReason
from llm_gateway._core.payloads import StoredResult
from llm_gateway._core.receipts import response_of
from llm_gateway._core.requests import LLMRequest, Priority
from llm_gateway._core.schema import OutputType
from llm_gateway._engine import Engine
from llm_gateway._facts import Attempt, Fault
from llm_gateway._pipeline import Call
from llm_gateway._settlement import Settlement, stop
from llm_gateway._tickets import Tickets
from llm_gateway.errors import (
    DeadlineExceeded,
    ErrorInfo,
    IdempotencyConflict,
    InvalidOutput,
    LLMGatewayError,
    ProviderUnavailable,
)
from llm_gateway.protocols import QueueBackend

__all__ = ["Asking", "Desk", "Question", "desk_of", "with_key"]

T = TypeVar("T")
RESERVE: Final = 0.25
RESERVED_SHARE: Final = 0.1


class Question(NamedTuple, Generic[T]):
    """What is asked, by whom, and how.

    Attributes:
        tenant: Who asks.
        request: What is asked.
        output_type: What the answer must be.
        timeout: Seconds the caller waits.
        queueing: Whether a queue may take it.
        output_retries: How often an invalid answer is asked for again.
    """

    tenant: str
    request: LLMRequest
    output_type: OutputType[T]
    timeout: float
    queueing: bool
    output_retries: int = 0


class Desk(NamedTuple):
    """The queue's side of asking, where there is a queue."""

    queue: QueueBackend
    tickets: Tickets
    settlement: Settlement


class Asking:
    """Asks live questions for one client."""

    def __init__(self, engine: Engine, desk: Desk | None) -> None:
        self._engine = engine
        self._desk = desk
        self._clock = engine.parts.clock
        self._name = f"client-{token_hex(6)}"

    async def ask(self, question: Question[T]) -> Completed[T] | Pending:
        """Ask until there is an answer, a ticket, or an error that neither can heal.

        Raises:
            LLMGatewayError: of the class that tells what happened.
        """
        if self._desk is not None and question.request.idempotency_key is not None:
            known = await self._known(self._desk, question)
            if known is not None:
                return known
        desk = self._desk if question.queueing else None
        deadline = self._clock.monotonic() + question.timeout
        retries_left, earlier = question.output_retries, tuple[Attempt, ...]()
        while True:
            call = self._engine.prepare(question.request, question.output_type.schema, deadline=deadline)
            call.earlier = earlier
            outcome = await self._asked_once(question, call, desk)
            if isinstance(outcome, Pending):
                return outcome
            try:
                return await self._completed(question, call, outcome)
            except InvalidOutput as error:
                call.blame(Fault.INVALID_OUTPUT)
                if retries_left <= 0 or self._clock.monotonic() >= deadline:
                    raise error.having(_merged(error, call)) from None
            retries_left, earlier = retries_left - 1, call.history

    async def _known(self, desk: Desk, question: Question[T]) -> Completed[T] | Pending | None:
        request = question.request
        job = await desk.queue.find(question.tenant, request.idempotency_key or "")
        if job is None:
            return None
        if job.fingerprint != await desk.tickets.fingerprint(question.tenant, request):
            message = "The idempotency key belongs to a request with other content."
            raise IdempotencyConflict(message)
        outcome = await desk.tickets.outcome(job, question.output_type)
        if isinstance(outcome, Completed) or question.queueing:
            return outcome
        message = "The request of this idempotency key waits in the queue already."
        info = ErrorInfo(
            fault=Fault.LOCAL_BUSY, ticket_id=job.ticket_id, model=request.model, provider=request.provider
        )
        raise ProviderUnavailable(message, next_step="Fetch its ticket; asking beside it would pay twice.", info=info)

    async def _asked_once(self, question: Question[T], call: Call, desk: Desk | None) -> StoredResult | Pending:
        try:
            if desk is None:
                return await self._without_queue(question, call)
            return await self._with_queue(question, call, desk)
        except LLMGatewayError as error:
            # Tries that ended before this error are part of its story.
            raise error.having(_merged(error, call)) from None

    async def _without_queue(self, question: Question[T], call: Call) -> StoredResult:
        try:
            # A try ends itself at the deadline and then knows how much was sent; this one is for what does not.
            left = self._left(call)
            async with asyncio.timeout(left + RESERVE):
                return await self._engine.live(call, left, replayable=True)
        except TimeoutError:
            raise self._too_late(call) from None

    async def _with_queue(self, question: Question[T], call: Call, desk: Desk) -> StoredResult | Pending:
        # A try may outlast the caller: then its answer completes the ticket, and nothing is paid twice.
        work = asyncio.create_task(
            self._engine.live(call, self._engine.parts.http.attempt_timeout, replayable=True),
            name="llm_gateway call",
        )
        left = self._left(call)
        try:
            await asyncio.wait({work}, timeout=left - min(RESERVE, left * RESERVED_SHARE))
            job = None if work.done() or not call.sending else await self._adoption_of(question, call, desk)
        except BaseException:
            await stop(work)
            raise
        if job is not None:
            return await desk.tickets.pending(await self._adopted(job, question, call, desk, work=work))
        if not work.done():
            await stop(work)
            if work.cancelled():
                return await self._queued(question, call, desk, self._too_late(call))
        return await self._ended(question, call, desk, work)

    async def _ended(
        self, question: Question[T], call: Call, desk: Desk, work: asyncio.Task[StoredResult]
    ) -> StoredResult | Pending:
        try:
            return work.result()
        except LLMGatewayError as error:
            if call.decision.action is not LiveAction.QUEUE:
                raise
            return await self._queued(question, call, desk, error)

    async def _queued(self, question: Question[T], call: Call, desk: Desk, error: LLMGatewayError) -> Pending:
        keyed = with_key(question.request)
        job = await desk.tickets.new_job(
            question.tenant,
            keyed,
            question.output_type.schema,
            priority=Priority.INTERACTIVE,
            reason=ADMISSION[error.fault or Fault.UNKNOWN].reason,
            delay=call.decision.delay,
            history=call.history,
        )
        enqueued = await desk.tickets.store(job, keyed)
        self._engine.observe_call(call, "queued", error)
        return await desk.tickets.pending(enqueued.job)

    async def _adoption_of(self, question: Question[T], call: Call, desk: Desk) -> NewJob:
        """Make the job that the running try will be the first attempt of."""
        call.live = False
        return await desk.tickets.new_job(
            question.tenant,
            with_key(question.request),
            question.output_type.schema,
            priority=Priority.INTERACTIVE,
            reason=WaitReason.DEADLINE,
            history=call.history,
        )

    async def _adopted(
        self, job: NewJob, question: Question[T], call: Call, desk: Desk, *, work: asyncio.Task[StoredResult]
    ) -> JobView:
        """Store the ticket under lease; from here on the try belongs to it, whatever becomes of the caller."""
        keyed = question.request.model_copy(update={"idempotency_key": job.idempotency_key})
        adoption = self._leased(job, keyed, desk, work=work, call=call)
        stored = await asyncio.shield(self._engine.adopted.start(adoption, f"adoption by {job.ticket_id}"))
        self._engine.observe_call(call, "queued")
        return stored

    async def _leased(
        self, job: NewJob, request: LLMRequest, desk: Desk, *, work: asyncio.Task[StoredResult], call: Call
    ) -> JobView:
        lease_seconds = self._engine.parts.worker.lease_seconds
        adopter = AdoptedBy(worker=self._name, lease_seconds=lease_seconds)
        try:
            enqueued = await desk.tickets.store(job, request, adopted_by=adopter)
        except BaseException:
            await stop(work)
            raise
        if enqueued.lease is None:
            await stop(work)
        else:
            name = f"adopted call of {enqueued.job.ticket_id}"
            self._engine.adopted.start(desk.settlement.tend(enqueued.lease, work, call), name)
        return enqueued.job

    async def _completed(self, question: Question[T], call: Call, result: StoredResult) -> Completed[T]:
        response = response_of(result, question.output_type)
        try:
            await self._engine.pins.require(question.tenant, call, response.receipt.served_model)
        except LLMGatewayError as error:
            call.blame(error.fault or Fault.UNKNOWN)
            raise error.tried(call.history) from None
        if response.receipt.source == "live":
            await self._engine.keep_receipt(response.receipt)
            await self._engine.remember(call, result)
        self._engine.observe_call(call, "ok")
        request = question.request
        return Completed(response, metadata=request.metadata, correlation_id=request.correlation_id)

    def _left(self, call: Call) -> float:
        return max(call.deadline - self._clock.monotonic(), 0.001)

    @staticmethod
    def _too_late(call: Call) -> DeadlineExceeded:
        message = f"{call.prepared.provider} did not answer within the timeout."
        return DeadlineExceeded(message, info=call.info(Fault.DEADLINE)).tried(call.history)


def desk_of(engine: Engine, queue: QueueBackend | None) -> Desk | None:
    """Return what a client does with its queue, if it has one."""
    if queue is None:
        return None
    tickets = Tickets(engine, queue)
    return Desk(queue, tickets, Settlement(engine, queue, tickets))


def with_key(request: LLMRequest) -> LLMRequest:
    """Return the request with an idempotency key, minted when it has none."""
    if request.idempotency_key is not None:
        return request
    return request.model_copy(update={"idempotency_key": token_hex(16)})


def _merged(error: LLMGatewayError, call: Call) -> ErrorInfo:
    """What the error knows, filled up with what the call knows."""
    known = call.info(error.fault or Fault.UNKNOWN)
    return replace(
        error.info,
        fault=error.fault or Fault.UNKNOWN,
        provider=error.info.provider or known.provider,
        endpoint=error.info.endpoint or known.endpoint,
        model=error.info.model or known.model,
        key_id=error.info.key_id or known.key_id,
        correlation_id=error.info.correlation_id or known.correlation_id,
        attempts=error.info.attempts or call.history,
    )
