"""One live question: a result now, or a ticket, or a typed error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from secrets import token_hex
from typing import Final, Generic, NamedTuple, TypeVar

from llm_gateway._callers import GRACE, Patience
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
    ClientClosed,
    DeadlineExceeded,
    DurabilityUnknown,
    ErrorInfo,
    IdempotencyConflict,
    InvalidOutput,
    LLMGatewayError,
    ProviderUnavailable,
    QueueUnavailable,
)
from llm_gateway.protocols import QueueBackend

__all__ = ["Asking", "Desk", "Question", "desk_of", "with_key"]

T = TypeVar("T")
logger: Final = logging.getLogger("llm_gateway")
RESERVE: Final = 0.25
RESERVED_SHARE: Final = 0.1


class Question(NamedTuple, Generic[T]):
    """What is asked, by whom, and how.

    Attributes:
        tenant: Who asks.
        request: What is asked.
        output_type: What the answer must be.
        patience: How long the caller waits.
        queueing: Whether a queue may take it.
        output_retries: How often an invalid answer is asked for again.
    """

    tenant: str
    request: LLMRequest
    output_type: OutputType[T]
    patience: Patience
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
        with self._engine.callers.waiting(question.patience):
            if self._desk is not None and question.request.idempotency_key is not None:
                known = await question.patience.bound(self._known(self._desk, question), _queue_too_late)
                if known is not None:
                    return known
            return await self._asked(question, self._desk if question.queueing else None)

    async def _asked(self, question: Question[T], desk: Desk | None) -> Completed[T] | Pending:
        patience = question.patience
        retries_left, earlier, replayable = question.output_retries, tuple[Attempt, ...](), True
        while True:
            call = self._engine.prepare(question.request, question.output_type.schema, deadline=patience.deadline)
            call.earlier, call.replayable = earlier, replayable
            outcome = await self._asked_once(question, call, desk)
            if isinstance(outcome, Pending):
                return outcome
            try:
                return await self._completed(question, call, outcome)
            except InvalidOutput as error:
                if outcome.receipt.source != "live":
                    # Kept for a type that allowed more; nobody has been asked for this one yet.
                    replayable = False
                    continue
                call.blame(Fault.INVALID_OUTPUT)
                if retries_left <= 0 or patience.over:
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
                return await self._without_queue(call, question.patience)
            return await self._with_queue(question, call, desk)
        except LLMGatewayError as error:
            # Tries that ended before this error are part of its story.
            raise error.having(_merged(error, call)) from None

    async def _without_queue(self, call: Call, patience: Patience) -> StoredResult:
        # A try ends itself at the deadline and then knows how much was sent; this limit is for what does not.
        left = patience.left
        limit = asyncio.timeout(left + RESERVE)
        try:
            async with limit:
                with patience.cuts(limit):
                    return await self._engine.live(call, left)
        except TimeoutError:
            raise _given_up(call, patience) from None

    async def _with_queue(self, question: Question[T], call: Call, desk: Desk) -> StoredResult | Pending:
        patience = question.patience
        # A try may outlast the caller: then its answer completes the ticket, and nothing is paid twice.
        work = asyncio.create_task(
            self._engine.live(call, self._engine.parts.http.attempt_timeout), name="llm_gateway call"
        )
        try:
            await self._work_or_patience_ends(work, patience)
            job = None
            if call.sending and not work.done():
                job = await patience.bound(self._adoption_of(question, call, desk), _queue_too_late)
        except BaseException:
            await stop(work)
            raise
        if job is not None:
            adopted = self._adopted(job, question, call, desk, work=work)
            return await desk.tickets.pending(await patience.bound(adopted, _unknown(question.request, job)))
        if not work.done():
            await stop(work)
            if work.cancelled():
                return await self._queued(question, call, desk, _given_up(call, patience))
        return await self._ended(question, call, desk, work)

    @staticmethod
    async def _work_or_patience_ends(work: asyncio.Task[StoredResult], patience: Patience) -> None:
        """Wait as long as leaves time to store a ticket."""
        sent_away = asyncio.get_running_loop().create_future()
        left = patience.left
        until = left - min(RESERVE, left * RESERVED_SHARE)
        with patience.woken_by(sent_away.cancel):
            await asyncio.wait({work, sent_away}, timeout=until, return_when=asyncio.FIRST_COMPLETED)

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
        made = self._job_of(
            question,
            call,
            desk,
            reason=ADMISSION[error.fault or Fault.UNKNOWN].reason,
            delay=call.decision.delay,
        )
        job = await question.patience.bound(made, _queue_too_late)
        late = _unknown(question.request, job)
        enqueued = await question.patience.bound(desk.tickets.store(job, _keyed(question.request, job)), late)
        self._engine.observe_call(call, "queued", error)
        return await desk.tickets.pending(enqueued.job)

    async def _adoption_of(self, question: Question[T], call: Call, desk: Desk) -> NewJob:
        """Make the job that the running try will be the first attempt of."""
        call.live = False
        reason = WaitReason.SHUTDOWN if question.patience.ended else WaitReason.DEADLINE
        return await self._job_of(question, call, desk, reason=reason)

    @staticmethod
    async def _job_of(question: Question[T], call: Call, desk: Desk, *, reason: str, delay: float = 0.0) -> NewJob:
        return await desk.tickets.new_job(
            question.tenant,
            with_key(question.request),
            question.output_type.schema,
            priority=Priority.INTERACTIVE,
            reason=reason,
            delay=delay,
            history=call.history,
        )

    async def _adopted(
        self, job: NewJob, question: Question[T], call: Call, desk: Desk, *, work: asyncio.Task[StoredResult]
    ) -> JobView:
        """Store the ticket under lease; from here on the try belongs to it, whatever becomes of the caller."""
        adoption = self._leased(job, _keyed(question.request, job), desk, work=work, call=call)
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
            # The ticket has somebody else's call; what this one had cost stands in no receipt.
            logger.warning("A call beside the one of ticket %s was given up; it may be billed", enqueued.job.ticket_id)
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
            await self._engine.show_receipt(response.receipt, question.patience.left + GRACE)
            await self._engine.remember(call, result)
        self._engine.observe_call(call, "ok")
        request = question.request
        return Completed(response, metadata=request.metadata, correlation_id=request.correlation_id)


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


def _keyed(request: LLMRequest, job: NewJob) -> LLMRequest:
    """Return the request with the key of its job."""
    return request.model_copy(update={"idempotency_key": job.idempotency_key})


def _given_up(call: Call, patience: Patience) -> LLMGatewayError:
    if patience.ended:
        message = "The client was closed before there was an answer."
        step = "Ask again with another client; a try that was cut short may be billed."
        return ClientClosed(message, next_step=step, info=call.info(Fault.CANCELLED)).tried(call.history)
    message = f"{call.prepared.provider} did not answer within the timeout."
    return DeadlineExceeded(message, info=call.info(Fault.DEADLINE)).tried(call.history)


def _queue_too_late() -> QueueUnavailable:
    message = "The queue did not answer within the timeout."
    return QueueUnavailable(message)


def _unknown(request: LLMRequest, job: NewJob) -> Callable[[], DurabilityUnknown]:
    def late() -> DurabilityUnknown:
        message = "The queue did not say within the timeout whether it has stored the request."
        error = DurabilityUnknown(message)
        error.request = _keyed(request, job)
        return error

    return late


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
