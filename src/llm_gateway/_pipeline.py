"""The path of one call: retrying → admitting → guarding → sending. Each layer is ``async (call, timeout) -> Answer``.

A worker's path leaves out retrying: there the queue is the retry. Which fault means what stands in
`llm_gateway._core.admission`; the layers carry it out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from secrets import token_hex
from typing import Final, NamedTuple, Protocol

from llm_gateway._core.admission import ADMISSION, BreakerEffect, LiveAction, LiveDecision, possibly_billed
from llm_gateway._core.circuit import CircuitKey, CircuitState, Level, Permit, Rejection
from llm_gateway._core.freshness import SeenIds, inspect, proven
from llm_gateway._core.latch import Latches
from llm_gateway._core.observations import Observation, ObservationKind
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import CacheSignal, PreparedCall, ProviderAnswer
from llm_gateway._core.schema import OutputSchema
from llm_gateway._facts import Attempt, Fault, Sent
from llm_gateway.errors import (
    DeadlineExceeded,
    ErrorInfo,
    LLMGatewayError,
    ModelMismatch,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    StaleResponse,
)
from llm_gateway.protocols import CircuitBreaker, Clock, Observer, Provider, RateLimiter

__all__ = ["Admitting", "Answer", "Call", "Guarding", "Layer", "Sending", "latched"]

logger: Final = logging.getLogger("llm_gateway")
UNHINTED_PENALTY: Final = 1.0
TELLING: Final = 30.0
UNDECIDED: Final = LiveDecision(LiveAction.FAIL)


@dataclass(slots=True)
class Call:
    """One call on its way.

    Attributes:
        request: What is asked.
        schema: What the answer must look like.
        prepared: The bytes for the vendor.
        provider: Who is asked.
        key: Which circuits it passes.
        deadline: Monotonic second at which the caller's timeout ends.
        live: Whether a caller waits; False in a worker, and once a ticket has adopted the call.
        attempts: Every try so far.
        earlier: Tries of the same question before this call: answers that were not valid.
        replayable: Whether a development cache may answer.
        sending: Whether a try is with the provider right now.
        permit: A permit a worker took before it claimed the job.
        decision: What the admission table said when the call ended in an error.
    """

    request: LLMRequest
    schema: OutputSchema
    prepared: PreparedCall
    provider: Provider
    key: CircuitKey
    deadline: float
    live: bool = True
    attempts: list[Attempt] = field(default_factory=list[Attempt])
    earlier: tuple[Attempt, ...] = ()
    replayable: bool = True
    sending: bool = False
    permit: Permit | None = None
    decision: LiveDecision = UNDECIDED

    @property
    def account(self) -> tuple[str, str]:
        """Whose key is used where."""
        return self.prepared.endpoint, self.prepared.key_id

    @property
    def history(self) -> tuple[Attempt, ...]:
        """Every try of the question, oldest first."""
        return (*self.earlier, *self.attempts)

    def info(self, fault: Fault) -> ErrorInfo:
        """Describe the call for an error."""
        return ErrorInfo(
            fault=fault,
            provider=self.prepared.provider,
            endpoint=self.prepared.endpoint,
            model=self.prepared.model,
            key_id=self.prepared.key_id,
            correlation_id=self.request.correlation_id,
        )

    def blame(self, fault: Fault) -> None:
        """Mark the latest try, which brought an answer, as unusable."""
        if not self.attempts:  # a development replay was never tried
            return
        latest = self.attempts[-1]
        self.attempts[-1] = replace(latest, fault=fault, possibly_billed=possibly_billed(fault, latest.sent))


class Answer(NamedTuple):
    """A vendor's answer and what it shows of caches on the way."""

    reply: ProviderAnswer
    signals: tuple[CacheSignal, ...] = ()


class Layer(Protocol):
    """One shape for every layer."""

    async def __call__(self, call: Call, timeout: float) -> Answer:
        """Carry *call* out within *timeout* seconds."""
        ...


class Sending:
    """The innermost layer: one try, recorded whatever becomes of it."""

    def __init__(self, clock: Clock, observer: Observer, attempt_timeout: float) -> None:
        self._clock = clock
        self._observer = observer
        self._attempt_timeout = attempt_timeout

    async def __call__(self, call: Call, timeout: float) -> Answer:
        """Send once."""
        started = self._clock.now()
        call.sending = True
        allowed = min(timeout, self._attempt_timeout)
        try:
            reply = await call.provider.send(call.prepared, timeout=allowed)
        except LLMGatewayError as error:
            failure = self._told_apart(call, error, allowed)
        except asyncio.CancelledError as error:
            if _was_cancelled():
                self._record(call, started, Fault.CANCELLED, ErrorInfo(sent=Sent.PARTIAL))
                raise
            failure = _broken_adapter(call, error)
        except Exception as error:
            failure = _broken_adapter(call, error)
        else:
            answered = ErrorInfo(sent=Sent.YES, provider_request_id=reply.provider_request_id)
            self._record(call, started, None, answered)
            return Answer(reply)
        finally:
            call.sending = False
        self._record(call, started, failure.fault or Fault.UNKNOWN, failure.info)
        # Raised out here, so that no context hangs on it: what an adapter raised could quote the prompt.
        raise failure

    def _told_apart(self, call: Call, error: LLMGatewayError, allowed: float) -> LLMGatewayError:
        if error.fault is not Fault.READ_TIMEOUT or allowed >= self._attempt_timeout:
            return error
        # A provider that was given little time is not to blame for the caller's timeout.
        fault = Fault.NO_ANSWER if allowed >= TELLING else Fault.DEADLINE
        message = f"No answer from {call.prepared.provider} within the time that was left."
        return DeadlineExceeded(message, info=replace(error.info, fault=fault))

    def _record(self, call: Call, started: datetime, fault: Fault | None, info: ErrorInfo) -> None:
        ended = self._clock.now()
        attempt = Attempt(
            id=token_hex(8),
            started_at=started,
            ended_at=ended,
            fault=fault,
            provider_request_id=info.provider_request_id,
            sent=info.sent,
            possibly_billed=fault is not None and possibly_billed(fault, info.sent),
        )
        call.attempts.append(attempt)
        self._observer.observe(
            Observation(
                kind=ObservationKind.ATTEMPT,
                provider=call.prepared.provider,
                model=call.prepared.model,
                outcome="ok" if fault is None else "error",
                fault=fault,
                seconds=(ended - started).total_seconds(),
            )
        )


def _broken_adapter(call: Call, error: BaseException) -> ProviderError:
    message = f"The adapter of {call.prepared.provider} raised {type(error).__name__}."
    return ProviderError(message, info=replace(call.info(Fault.UNKNOWN), sent=Sent.PARTIAL))


def _was_cancelled() -> bool:
    """Whether somebody cancelled this task, rather than an adapter raising as if."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Guarding:
    """Refuses replayed answers and answers of other models."""

    def __init__(self, inner: Layer, seen: SeenIds, observer: Observer, *, strict: bool) -> None:
        self._inner = inner
        self._seen = seen
        self._observer = observer
        self._strict = strict

    async def __call__(self, call: Call, timeout: float) -> Answer:
        """Pass *call* on and judge its answer."""
        answer = await self._inspected(call, timeout)
        if proven(answer.signals) and self._strict:
            answer = await self._past_the_cache(call, timeout)
        self._require_model(call, answer.reply.served_model)
        return answer

    async def _inspected(self, call: Call, timeout: float) -> Answer:
        answer = await self._inner(call, timeout)
        signals = inspect(answer.reply, profile=call.provider.freshness, seen_ids=self._seen)
        self._seen.add(answer.reply.response_id)
        if proven(signals):
            names = ", ".join(signal.name for signal in signals)
            logger.warning("%s answered from a cache on the way: %s", call.prepared.provider, names)
        return answer._replace(signals=signals) if signals else answer

    async def _past_the_cache(self, call: Call, timeout: float) -> Answer:
        self._refuse(call)
        call.prepared = replace(call.prepared, fresh_token=token_hex(8))
        answer = await self._inspected(call, timeout)
        if not proven(answer.signals):
            return answer
        self._refuse(call)
        names = ", ".join(signal.name for signal in answer.signals)
        message = f"A cache on the way to {call.prepared.provider} answered twice ({names})."
        raise StaleResponse(message, info=call.info(Fault.STALE_RESPONSE))

    def _refuse(self, call: Call) -> None:
        call.blame(Fault.STALE_RESPONSE)
        self._observer.observe(
            Observation(kind=ObservationKind.REPLAY_REFUSED, provider=call.prepared.provider, model=call.prepared.model)
        )

    @staticmethod
    def _require_model(call: Call, served: str | None) -> None:
        required = call.request.served_model
        try:
            if served == required or (
                required is None and (served is None or call.provider.serves(call.prepared, served))
            ):
                return
        except LLMGatewayError:
            call.blame(Fault.MODEL_MISMATCH)
            raise
        call.blame(Fault.MODEL_MISMATCH)
        message = f"{served or 'An unnamed model'} answered where {required or call.prepared.model} was asked."
        raise ModelMismatch(message, info=call.info(Fault.MODEL_MISMATCH))


class Admitting:
    """Asks latch, limiter and breaker before a try, and tells them afterwards what became of it."""

    def __init__(
        self,
        inner: Layer,
        breaker: CircuitBreaker,
        limiter: RateLimiter,
        latches: Latches,
        *,
        clock: Clock,
        observer: Observer,
        yields: Callable[[CircuitKey], Awaitable[bool]],
        mended: Callable[[tuple[str, str]], None],
    ) -> None:
        self._inner = inner
        self._breaker = breaker
        self._limiter = limiter
        self._latches = latches
        self._clock = clock
        self._observer = observer
        self._yields = yields
        self._mended = mended

    async def __call__(self, call: Call, timeout: float) -> Answer:
        """Pass *call* on if it may go."""
        permit = await self._admitted(call)
        # Taken last: a call that latch, limiter or circuit held back has shown nothing of the account.
        canary = self._latches.take_canary(call.account, self._clock.monotonic())
        try:
            answer = await self._inner(call, timeout)
        except LLMGatewayError as error:
            if canary and error.info.sent is Sent.NO:
                self._latches.give_back(call.account, self._clock.monotonic())
            self._tell(call, permit, error)
            raise
        except BaseException:
            if canary:  # given up before it could show anything
                self._latches.give_back(call.account, self._clock.monotonic())
            self._breaker.ignore(permit)
            raise
        self._breaker.success(permit)
        if self._latches.open(call.account):
            logger.warning("The account %s at %s works again", *reversed(call.account))
            self._mended(call.account)
        return answer

    async def _admitted(self, call: Call) -> Permit:
        permit, call.permit = call.permit, None
        try:
            self._require_open_latch(call)
            self._require_turn(call)
            if permit is None:
                permit = await self._acquired(call)
                # Meanwhile another call may have latched the account, or have gone as its canary.
                self._require_open_latch(call)
        except LLMGatewayError:
            if permit is not None:
                self._breaker.ignore(permit)
            raise
        return permit

    def _require_open_latch(self, call: Call) -> None:
        now = self._clock.monotonic()
        error = self._latches.refusal(call.account, now)
        if error is not None:
            raise latched(call, error, self._latches.canary_in(call.account, now))

    def _require_turn(self, call: Call) -> None:
        delay = self._limiter.delay(call.key)
        if delay > 0.0:
            message = f"{call.prepared.provider} asked to wait."
            raise RateLimited(message, retry_after=delay, info=call.info(Fault.LIMITED))

    async def _acquired(self, call: Call) -> Permit:
        permit = self._breaker.acquire(call.key)
        if isinstance(permit, Rejection):
            raise refused(call, permit)
        if not permit.probe or not call.live:
            return permit
        # A queued job is the cheaper probe; the live caller gets a ticket behind it.
        try:
            yields = await self._yields(call.key)
        except BaseException:
            self._breaker.ignore(permit)
            raise
        if yields:
            self._breaker.ignore(permit)
            raise refused(call, Rejection(CircuitState.HALF_OPEN, 0.0, probes_busy=True))
        return permit

    def _tell(self, call: Call, permit: Permit, error: LLMGatewayError) -> None:
        row = ADMISSION[error.fault or Fault.UNKNOWN]
        match row.breaker:
            case BreakerEffect.FAIL_MODEL:
                self._breaker.failure(permit, Level.MODEL, retry_after=error.retry_after)
            case BreakerEffect.FAIL_ENDPOINT:
                self._breaker.failure(permit, Level.ENDPOINT, retry_after=error.retry_after)
            case BreakerEffect.SUCCESS:
                self._breaker.success(permit)
            case BreakerEffect.IGNORE:
                self._breaker.ignore(permit)
        if row.penalise:
            self._limiter.penalise(call.key, error.retry_after or UNHINTED_PENALTY)
        if row.latch and self._latches.close(call.account, error, self._clock.monotonic()):
            self._alarm(call, error)

    def _alarm(self, call: Call, error: LLMGatewayError) -> None:
        logger.error("The account %s at %s needs an operator: %s", call.account[1], call.account[0], error)
        self._observer.observe(
            Observation(
                kind=ObservationKind.LATCH,
                provider=call.prepared.provider,
                model=call.prepared.model,
                outcome="closed",
                fault=error.fault,
            )
        )


def latched(call: Call, error: LLMGatewayError, canary_in: float) -> LLMGatewayError:
    """Make the error for a call of a latched account from the one that latched it."""
    # Whose call it was that latched the account is nobody else's business.
    info = replace(call.info(Fault.LATCHED), status=error.info.status, code=error.info.code)
    message = f"{error.message} It was not asked again: the account is latched until a trial call succeeds."
    step = f"{error.next_step} The next call after retry_after is the trial; a new client starts unlatched."
    return type(error)(message, retry_after=canary_in, next_step=step, info=info)


def refused(call: Call, rejection: Rejection) -> ProviderUnavailable:
    """Make the error for a circuit that lets nothing through."""
    fault = Fault.PROBE_BUSY if rejection.probes_busy else Fault.CIRCUIT_OPEN
    message = f"The circuit of {call.key.lane} is {rejection.state.value.replace('_', '-')}."
    return ProviderUnavailable(message, retry_after=rejection.retry_in or None, info=call.info(fault))
