"""Ending a lease: renew it while the call runs, then make the one step that its outcome asks for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from llm_gateway._core.admission import ADMISSION, WorkerAction, decide_worker
from llm_gateway._core.jobs import (
    Complete,
    Disposition,
    Fail,
    FinishReply,
    JobError,
    JobView,
    Lease,
    Park,
    ParkScope,
    Release,
    Retry,
)
from llm_gateway._core.observations import Observation, ObservationKind
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._core.payloads import StoredResult
from llm_gateway._core.responses import FinishReason
from llm_gateway._core.retry import backoff
from llm_gateway._core.schema import check_output
from llm_gateway._engine import Engine
from llm_gateway._facts import Attempt, Fault
from llm_gateway._pipeline import Call
from llm_gateway._tickets import Tickets, in_queue
from llm_gateway.errors import (
    ErrorInfo,
    LLMGatewayError,
    ModelMismatch,
    ProviderError,
    QueueError,
    QueueUnavailable,
    TicketNotFound,
)
from llm_gateway.protocols import QueueBackend

__all__ = ["Settlement", "job_error", "stop"]

logger: Final = logging.getLogger("llm_gateway")
FINISH_PAUSES: Final = (0.2, 1.0, 3.0)


class Settlement:
    """Tends leases of one process, for workers and for live calls that became tickets."""

    def __init__(self, engine: Engine, queue: QueueBackend, tickets: Tickets) -> None:
        self._engine = engine
        self._queue = queue
        self._tickets = tickets

    async def tend(self, lease: Lease, work: asyncio.Task[StoredResult], call: Call) -> None:
        """Renew *lease* until *work* ends, then settle; a lost lease stops the work and drops its answer.

        A ticket that is cancelled, expires or is taken over stops the work at once, not at the next renewal. When
        this is cancelled, the work is cancelled too and the job goes back to the queue.
        """
        heartbeat = asyncio.create_task(self._renewed_until_lost(lease))
        watch = asyncio.create_task(self._watched_until_lost(lease, heartbeat))
        try:
            await asyncio.wait({work, heartbeat, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            lost = (heartbeat.done() or watch.done()) and not work.done()
            try:
                await stop(heartbeat, watch, work)
            finally:
                # Also when this is cancelled once more while the others end: the lease must not be left to lapse.
                if lost:
                    self._observe_fenced(lease.job)
                else:
                    name = f"settlement of {lease.job.ticket_id}"
                    await asyncio.shield(self._engine.settlements.start(self.settle(lease, work, call), name))

    async def settle(self, lease: Lease, work: asyncio.Task[StoredResult], call: Call) -> None:
        """End *lease* as *work* ended."""
        await asyncio.wait({work})
        try:
            disposition = await self._disposition(lease.job, work, call)
            reply = await self._finished(lease, disposition)
        except Exception as error:
            # The lease lapses and the job is taken back by whoever sweeps next.
            logger.warning("Ticket %s could not be settled: %s", lease.job.ticket_id, type(error).__name__)
            return
        if not reply.accepted:
            self._observe_fenced(lease.job)
        elif isinstance(disposition, Complete):
            latest = () if disposition.attempt is None else (disposition.attempt,)
            done = lease.job._replace(history=(*lease.job.history, *latest))
            await self._engine.keep_receipt(in_queue(work.result().receipt, done))

    async def _finished(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """Finish, and ask again while the queue is out for a moment: a repeated finish changes nothing."""
        for pause in FINISH_PAUSES:
            try:
                return await self._queue.finish(lease, disposition)
            except QueueError:
                await self._engine.parts.clock.sleep(pause)
        return await self._queue.finish(lease, disposition)

    async def _sealed(self, job: JobView, result: StoredResult) -> bytes:
        """Seal, and ask again while the keys are out of reach for a moment: the answer has been paid for."""
        for pause in FINISH_PAUSES:
            try:
                return await self._tickets.seal_result(job, result)
            except QueueUnavailable:
                await self._engine.parts.clock.sleep(pause)
        return await self._tickets.seal_result(job, result)

    async def _renewed_until_lost(self, lease: Lease) -> None:
        seconds = self._engine.parts.worker.lease_seconds
        while True:
            await self._engine.parts.clock.sleep(seconds / 3)
            try:
                if not await self._queue.extend(lease, seconds):
                    return
            except Exception:
                # It may be back before the lease ends; if not, the token tells.
                logger.warning("The lease of ticket %s could not be renewed", lease.job.ticket_id)

    async def _watched_until_lost(self, lease: Lease, heartbeat: asyncio.Task[None]) -> None:
        """Return when the ticket has changed and the lease is lost by that; with *heartbeat* at the latest."""
        job = lease.job
        try:
            with suppress(TicketNotFound):  # erased
                await self._queue.wait(job.tenant, job.ticket_id, beyond=job.version)
            # Whether the change ended the lease is for the token to tell.
            if not await self._queue.extend(lease, self._engine.parts.worker.lease_seconds):
                return
        except Exception as error:
            logger.warning("Ticket %s could not be watched (%s)", job.ticket_id, type(error).__name__)
        # Looking again could only repeat what was seen. The heartbeat goes on by itself.
        await asyncio.wait({heartbeat})

    async def _disposition(self, job: JobView, work: asyncio.Task[StoredResult], call: Call) -> Disposition:
        latest = call.attempts[-1] if call.attempts else None
        if work.cancelled():
            return Release(reason=WaitReason.SHUTDOWN, attempt=latest)
        error = work.exception()
        try:
            if error is None:
                return await self._completion(job, work.result(), call)
        except LLMGatewayError as refusal:
            error = refusal
        except Exception as foreign:
            # A codec that cannot seal will not seal the next answer either; asking again would only cost again.
            message = f"The answer could not be stored: the codec raised {type(foreign).__name__}."
            return Fail(error=JobError(type=QueueError.__name__, message=message), attempt=latest)
        if not isinstance(error, LLMGatewayError):
            message = f"The attempt ended with {type(error).__name__}."
            error = ProviderError(message, info=ErrorInfo(fault=Fault.UNKNOWN))
        return self._after(error, job, call.attempts[-1] if call.attempts else None)

    async def _completion(self, job: JobView, result: StoredResult, call: Call) -> Disposition:
        try:
            await self._engine.pins.require(job.tenant, call, result.receipt.served_model)
        except ModelMismatch as error:
            call.blame(Fault.MODEL_MISMATCH)
            # Its answer is paid for and of no use; the rest of the group must not pay for more of the same.
            return Fail(error=job_error(error), attempt=call.attempts[-1], park_group=WaitReason.MODEL_CHANGED)
        except QueueUnavailable:
            call.blame(Fault.MODEL_UNCHECKED)
            raise
        if result.receipt.finish_reason is FinishReason.STOP:
            try:
                check_output(call.schema, result.text)
            except LLMGatewayError:
                call.blame(Fault.INVALID_OUTPUT)
                raise
        latest = call.attempts[-1] if call.attempts else None
        return Complete(result=await self._sealed(job, result), attempt=latest)

    def _after(self, error: LLMGatewayError, job: JobView, attempt: Attempt | None) -> Disposition:
        fault = error.fault or Fault.UNKNOWN
        parts = self._engine.parts
        base = parts.retry.throttled_base if ADMISSION[fault].throttled else parts.retry.base
        pause = backoff(len(job.history) + 1, base=base, cap=parts.retry.cap, draw=parts.random())
        decision = decide_worker(fault, hint=error.retry_after, backoff=pause, max_attempts=parts.queue.max_attempts)
        made: dict[WorkerAction, Callable[[], Disposition]] = {
            WorkerAction.FAIL: lambda: Fail(error=job_error(error), attempt=attempt),
            WorkerAction.PARK: lambda: Park(reason=decision.reason, scope=ParkScope.LANE, attempt=attempt),
            WorkerAction.RELEASE: lambda: Release(reason=decision.reason, delay=decision.delay, attempt=attempt),
            WorkerAction.RETRY: lambda: Retry(
                error=job_error(error), delay=decision.delay, max_attempts=decision.max_attempts, attempt=attempt
            ),
        }
        return made[decision.action]()

    def _observe_fenced(self, job: JobView) -> None:
        logger.warning("Ticket %s was taken over or ended elsewhere; the answer here is dropped", job.ticket_id)
        self._engine.parts.observer.observe(
            Observation(kind=ObservationKind.FENCED, provider=job.lane.provider, model=job.lane.model)
        )


def job_error(error: LLMGatewayError) -> JobError:
    """Write down an error without anything that could quote a prompt."""
    return JobError(
        type=type(error).__name__,
        message=error.message,
        fault=error.fault,
        code=error.info.code,
        status=error.info.status,
    )


async def stop(*tasks: asyncio.Task[object]) -> None:
    """Cancel *tasks* and wait until they have ended, without raising what they raised."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
