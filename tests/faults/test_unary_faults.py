"""Every way in which a provider can fail over real sockets, and the one ending that each must have."""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import pytest
from tests.faults.stage import MIB, VENDORS, Desk, Stage, opened, own_tasks, question

from llm_gateway import Completed, FinishReason, LLMRequest, Pending
from llm_gateway._core.circuit import CircuitState
from llm_gateway._facts import Attempt, Fault, Sent
from llm_gateway.errors import (
    AuthenticationFailed,
    ContextTooLong,
    DeadlineExceeded,
    InvalidRequest,
    LLMGatewayError,
    MalformedResponse,
    ModelMismatch,
    ModelNotFound,
    PayloadTooLarge,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    ResponseTooLarge,
)
from llm_gateway.options import HttpOptions, WorkerOptions
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.testing.faults import SimulatedFault

T = TypeVar("T")
Ending = Completed[str] | Pending | LLMGatewayError
TIMEOUT: Final = 1.0
GRACE: Final = 0.5
LONG: Final = 15.0


@dataclass(frozen=True, kw_only=True)
class Healable:
    """What time can heal: a ticket where there is a queue, else *error*.

    Attributes:
        fault: What each attempt met.
        error: Class of the error without a queue.
        attempts: How many there are.
        billed: Whether the vendor may charge for each.
        reason: What the ticket says.
        arrives: Whether the request leaves at all.
    """

    fault: Fault
    error: type[LLMGatewayError] = ProviderUnavailable
    attempts: int
    billed: bool = False
    reason: str = "provider_unavailable"
    arrives: bool = True


@dataclass(frozen=True, kw_only=True)
class Hopeless:
    """What time cannot heal: one call, and an error with a queue and without."""

    fault: Fault
    error: type[LLMGatewayError]
    billed: bool = False
    latches: bool = False


CUT: Final = Healable(fault=Fault.DISCONNECTED, attempts=3, billed=True)
LATE: Final = Healable(fault=Fault.READ_TIMEOUT, attempts=1, billed=True)
MALFORMED: Final = Healable(fault=Fault.MALFORMED, error=MalformedResponse, attempts=2, billed=True)
OVERLOADED: Final = Healable(fault=Fault.OVERLOADED, attempts=2)
BROKEN: Final = Healable(fault=Fault.SERVER_ERROR, attempts=3)
CONFLICT: Final = Healable(fault=Fault.CONFLICT, attempts=2)
QUOTA: Final = Hopeless(fault=Fault.QUOTA, error=QuotaExhausted, latches=True)
KEY_REFUSED: Final = Hopeless(fault=Fault.KEY, error=AuthenticationFailed, latches=True)
BAD_REQUEST: Final = Hopeless(fault=Fault.BAD_REQUEST, error=InvalidRequest)

HEALABLE: Final[Mapping[SimulatedFault, Healable]] = {
    Faults.REFUSED: Healable(fault=Fault.CONNECT, attempts=3, arrives=False),
    Faults.RESET: CUT,
    Faults.CLOSED: CUT,
    Faults.HANG: LATE,
    Faults.HANG_IN_BODY: LATE,
    Faults.slow_headers(): LATE,
    Faults.slow_body(): LATE,
    Faults.RESET_IN_BODY: MALFORMED,
    Faults.SHORT_BODY: MALFORMED,
    Faults.CHUNKED_CUT: MALFORMED,
    Faults.UNFRAMED_CUT: MALFORMED,
    Faults.BAD_STATUS_LINE: MALFORMED,
    Faults.GARBAGE: MALFORMED,
    Faults.INVALID_JSON: MALFORMED,
    Faults.NAN: MALFORMED,
    Faults.BAD_UTF8: MALFORMED,
    Faults.HTML: MALFORMED,
    Faults.EMPTY: MALFORMED,
    Faults.WRONG_SHAPE: MALFORMED,
    Faults.CORRUPT_GZIP: MALFORMED,
    Faults.giant_header(): MALFORMED,
    Faults.status(204, b""): MALFORMED,
    Faults.status(302): MALFORMED,
    Faults.ERROR_UNDER_200: OVERLOADED,
    Faults.OVERLOADED: OVERLOADED,
    Faults.status(502, b"<html>Bad gateway</html>"): OVERLOADED,
    Faults.status(504): OVERLOADED,
    Faults.status(522, b""): OVERLOADED,
    Faults.SERVER_ERROR: BROKEN,
    Faults.status(501): BROKEN,
    Faults.status(408): CONFLICT,
    Faults.status(409): CONFLICT,
    Faults.ACCELERATION: Healable(fault=Fault.ACCELERATION, error=RateLimited, attempts=1, reason="rate_limited"),
    Faults.rate_limited("0.1"): Healable(
        fault=Fault.RATE_LIMITED, error=RateLimited, attempts=2, reason="rate_limited"
    ),
    Faults.rate_limited("600"): Healable(
        fault=Fault.RATE_LIMITED, error=RateLimited, attempts=1, reason="rate_limited"
    ),
    Faults.status(418): Healable(fault=Fault.UNKNOWN, error=ProviderError, attempts=1, billed=True),
}
HOPELESS: Final[Mapping[SimulatedFault, Hopeless]] = {
    Faults.QUOTA: QUOTA,
    Faults.SPEND_LIMIT: QUOTA,
    Faults.CREDIT_TOO_LOW: QUOTA,
    Faults.status(402): QUOTA,
    Faults.BAD_KEY: KEY_REFUSED,
    Faults.FORBIDDEN: KEY_REFUSED,
    Faults.status(403, b"<html>Blocked by the firewall</html>"): Hopeless(fault=Fault.FORBIDDEN, error=ProviderError),
    Faults.status(400): BAD_REQUEST,
    Faults.status(422): BAD_REQUEST,
    Faults.status(413): Hopeless(fault=Fault.BAD_REQUEST, error=PayloadTooLarge),
    Faults.MODEL_NOT_FOUND: Hopeless(fault=Fault.MODEL_NOT_FOUND, error=ModelNotFound),
    Faults.CONTEXT_TOO_LONG: Hopeless(fault=Fault.CONTEXT_TOO_LONG, error=ContextTooLong),
    Faults.gzip_bomb(4 * MIB): Hopeless(fault=Fault.RESPONSE_TOO_LARGE, error=ResponseTooLarge, billed=True),
    Faults.served_model("another-model"): Hopeless(fault=Fault.MODEL_MISMATCH, error=ModelMismatch, billed=True),
}
ANSWERS: Final[Mapping[SimulatedFault, FinishReason]] = {
    Faults.STALE_KEEP_ALIVE: FinishReason.STOP,
    Faults.WRONG_CONTENT_TYPE: FinishReason.STOP,
    Faults.UNKNOWN_FIELDS: FinishReason.STOP,
    Faults.OLD_CREATED: FinishReason.STOP,
    Faults.LENGTH: FinishReason.LENGTH,
    Faults.NO_TEXT: FinishReason.LENGTH,
    Faults.REFUSAL: FinishReason.REFUSAL,
    Faults.UNKNOWN_FINISH: FinishReason.OTHER,
}
ABSURD_AND_LONG: Final = ("99999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 5000)
ZERO: Final = ("-5", "Sun, 06 Nov 1994 08:49:37 GMT")
ABSURD_AND_VOID: Final = (None, "-5", "NaN", "inf", "\u00b2", "soon", "Sun, 06 Nov 1994 08:49:37 GMT", "", "1e400")

queueing = pytest.mark.parametrize("queue", [True, False], ids=["queue", "no queue"])
at_both = pytest.mark.parametrize("vendor", VENDORS)


async def ending(stage: Stage, asked: LLMRequest, timeout: float = TIMEOUT) -> Ending:
    """Ask once and give what came of it; whatever is no ending, or comes too late, is raised."""
    async with asyncio.timeout(timeout + GRACE):
        try:
            return await stage.client.complete(asked, timeout=timeout)
        except LLMGatewayError as error:
            return error


def told(attempts: tuple[Attempt, ...]) -> list[tuple[Fault | None, Sent, bool]]:
    """What the attempts say of themselves."""
    return [(attempt.fault, attempt.sent, attempt.possibly_billed) for attempt in attempts]


async def require_clean(stage: Stage, tickets: int, running: object) -> None:
    """Nothing is in flight, every permit is back, and the queue holds the tickets and no more."""
    assert running == own_tasks()
    assert stage.gate.balanced
    health = await stage.client.health()
    assert tickets == health.depth
    assert {CircuitState.CLOSED} >= {lane.circuit for lane in health.lanes}


async def require_good_call(stage: Stage, vendor: str) -> None:
    """The provider is asked again and answers."""
    stage.sim.recover()
    done(await ending(stage, question(vendor), LONG))
    assert stage.gate.balanced


def as_(kind: type[T], found: object) -> T:
    """Narrow *found*, showing what it is instead."""
    assert isinstance(found, kind), repr(found)
    return found


def done(outcome: Ending) -> Completed[str]:
    """Narrow *outcome* to a result."""
    assert isinstance(outcome, Completed), repr(outcome)
    return outcome


def the_other(vendor: str) -> str:
    """Name the other vendor, whose account and lanes nothing has happened to."""
    return next(other for other in VENDORS if other != vendor)


@at_both
@pytest.mark.parametrize("fault", HEALABLE, ids=lambda fault: fault.name)
async def test_healable_with_queue(sim: SimulatedProvider, fault: SimulatedFault, vendor: str) -> None:
    """What time can heal is tried as often as the table says and then is a ticket that tells every attempt."""
    expected = HEALABLE[fault]
    async with opened(sim) as stage:
        running = own_tasks()
        sim.outage(fault)
        pending = as_(Pending, await ending(stage, question(vendor)))
        job = (await stage.queue.find("", pending.ticket.idempotency_key)) or pytest.fail("nothing was stored")

        sent = Sent.YES if expected.arrives else Sent.NO
        assert (job.ticket_id, job.attempts, job.state) == (pending.ticket.id, 0, "queued")
        assert [(expected.fault, sent, expected.billed)] * expected.attempts == told(job.history)
        assert (expected.attempts if expected.arrives else 0) == sim.call_count
        assert expected.reason == pending.ticket.reason
        await require_clean(stage, 1, running)
        await require_good_call(stage, the_other(vendor) if expected.error is RateLimited else vendor)


@at_both
@pytest.mark.parametrize("fault", HEALABLE, ids=lambda fault: fault.name)
async def test_healable_without_queue(sim: SimulatedProvider, fault: SimulatedFault, vendor: str) -> None:
    """Without a queue the same is a typed error with the same attempts."""
    expected = HEALABLE[fault]
    async with opened(sim, Desk(queue=False)) as stage:
        running = own_tasks()
        sim.outage(fault)
        error = as_(LLMGatewayError, await ending(stage, question(vendor)))

        sent = Sent.YES if expected.arrives else Sent.NO
        assert (expected.error, expected.fault) == (type(error), error.fault)
        assert [(expected.fault, sent, expected.billed)] * expected.attempts == told(error.attempts)
        assert (expected.attempts if expected.arrives else 0) == sim.call_count
        await require_clean(stage, 0, running)
        await require_good_call(stage, the_other(vendor) if expected.error is RateLimited else vendor)


@at_both
@queueing
@pytest.mark.parametrize("fault", HOPELESS, ids=lambda fault: fault.name)
async def test_hopeless(sim: SimulatedProvider, fault: SimulatedFault, vendor: str, *, queue: bool) -> None:
    """What time cannot heal is one call and a typed error, and is never stored."""
    expected = HOPELESS[fault]
    async with opened(sim, Desk(queue=queue)) as stage:
        running = own_tasks()
        sim.outage(fault)
        error = as_(LLMGatewayError, await ending(stage, question(vendor)))

        assert (expected.error, expected.fault) == (type(error), error.fault)
        assert [(expected.fault, Sent.YES, expected.billed)] == told(error.attempts)
        assert 1 == sim.call_count
        await require_clean(stage, 0, running)
        await require_good_call(stage, the_other(vendor) if expected.latches else vendor)


@at_both
@queueing
@pytest.mark.parametrize("fault", ANSWERS, ids=lambda fault: fault.name)
async def test_odd_answers(sim: SimulatedProvider, fault: SimulatedFault, vendor: str, *, queue: bool) -> None:
    """An odd answer that is an answer is a result after one call, with its ending told as it was."""
    async with opened(sim, Desk(queue=queue)) as stage:
        running = own_tasks()
        sim.outage(fault)
        completed = done(await ending(stage, question(vendor)))

        assert ANSWERS[fault] is completed.response.finish_reason
        assert [(None, Sent.YES, False)] == told(completed.response.receipt.attempts)
        assert (completed.response.output is not None) == (ANSWERS[fault] is FinishReason.STOP)
        assert 1 == sim.call_count
        await require_clean(stage, 0, running)
        await require_good_call(stage, vendor)


@at_both
@queueing
async def test_stale_connection(sim: SimulatedProvider, vendor: str, *, queue: bool) -> None:
    """A kept connection that dies as it is taken costs one attempt and no answer."""
    async with opened(sim, Desk(queue=queue)) as stage:
        sim.script(Faults.STALE_KEEP_ALIVE)
        done(await ending(stage, question(vendor)))
        completed = done(await ending(stage, question(vendor)))

        stale, good = told(completed.response.receipt.attempts)
        assert (Fault.STALE_CONNECTION, (None, Sent.YES, False)) == (stale[0], good)
        assert 2 == sim.call_count


@at_both
@pytest.mark.parametrize(
    "fault", [Faults.HANG, Faults.HANG_IN_BODY, Faults.slow_headers(), Faults.slow_body()], ids=lambda fault: fault.name
)
async def test_too_late(sim: SimulatedProvider, fault: SimulatedFault, vendor: str) -> None:
    """Without a queue the timeout is the deadline of everything, and the attempt may be billed."""
    async with opened(sim, Desk(queue=False, http=HttpOptions())) as stage:
        running = own_tasks()
        sim.outage(fault)
        error = as_(DeadlineExceeded, await ending(stage, question(vendor), 0.3))

        assert [(Sent.YES, True)] == [(attempt.sent, attempt.possibly_billed) for attempt in error.attempts]
        assert (Fault.DEADLINE, 1) == (error.fault, sim.call_count)
        await require_clean(stage, 0, running)
        await require_good_call(stage, vendor)


@at_both
@pytest.mark.parametrize(
    "fault", [Faults.HANG, Faults.HANG_IN_BODY, Faults.slow_headers(), Faults.slow_body()], ids=lambda fault: fault.name
)
async def test_too_late_is_adopted(sim: SimulatedProvider, fault: SimulatedFault, vendor: str) -> None:
    """With a queue the call that outlasts the timeout goes on as the ticket's first attempt, once."""
    async with opened(sim, Desk(http=HttpOptions(), worker=WorkerOptions(drain_timeout=0.0))) as stage:
        sim.outage(fault)
        pending = as_(Pending, await ending(stage, question(vendor), 0.3))

        status = await stage.client.status(pending.ticket.id)
        assert ("deadline", "processing", 1) == (pending.ticket.reason, status.state, sim.call_count)
        assert 1 == own_tasks().count("llm_gateway call")
        sim.recover()
        done(await ending(stage, question(vendor), LONG))


@at_both
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirect(sim: SimulatedProvider, code: int, vendor: str) -> None:
    """A redirect is never followed: the host that it names hears nothing."""
    async with SimulatedProvider() as thief, opened(sim) as stage:
        elsewhere = (
            thief.openai_url + "/chat/completions" if vendor == "openai" else thief.anthropic_url + "/v1/messages"
        )
        sim.outage(Faults.redirect(elsewhere, code))
        as_(Pending, await ending(stage, question(vendor)))
        assert (2, 0) == (sim.call_count, thief.call_count)


@at_both
async def test_gzip_bomb(sim: SimulatedProvider, vendor: str) -> None:
    """A reply that unpacks to 256 MiB costs less than 64 MiB."""
    packer = zlib.compressobj(level=1, wbits=31)
    bomb = b"".join(packer.compress(b" " * MIB) for _ in range(256)) + packer.flush()
    async with opened(sim, Desk(http=HttpOptions())) as stage:
        sim.script(Faults.status(200, bomb, {"Content-Encoding": "gzip"}))
        tracemalloc.start()
        try:
            error = await ending(stage, question(vendor), LONG)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (ResponseTooLarge, 1) == (type(error), sim.call_count)
        assert peak < 64 * MIB
        await require_good_call(stage, vendor)


@at_both
@queueing
@pytest.mark.parametrize("value", ABSURD_AND_LONG, ids=lambda value: value[:12])
async def test_absurdly_long_retry_after(sim: SimulatedProvider, value: str, vendor: str, *, queue: bool) -> None:
    """A Retry-After beyond the ttl is an error and no ticket, whatever the number."""
    async with opened(sim, Desk(queue=queue)) as stage:
        running = own_tasks()
        sim.outage(Faults.rate_limited(value))
        error = as_(RateLimited, await ending(stage, question(vendor)))
        assert (86_400.0, 1) == (error.retry_after, sim.call_count)
        await require_clean(stage, 0, running)


@at_both
async def test_longest_retry_after(sim: SimulatedProvider, vendor: str) -> None:
    """A ticket waits a day at most, however long the provider says."""
    async with opened(sim) as stage:
        sim.outage(Faults.rate_limited("99999999999"))
        asked = question(vendor).model_copy(update={"ttl": timedelta(days=3)})
        ticket = as_(Pending, await ending(stage, asked)).ticket
        assert (ticket.created_at + timedelta(days=1), 1) == (ticket.not_before, sim.call_count)


@at_both
@queueing
@pytest.mark.parametrize("value", ABSURD_AND_VOID, ids=ascii)
async def test_void_retry_after(sim: SimulatedProvider, value: str | None, vendor: str, *, queue: bool) -> None:
    """A Retry-After that says nothing usable holds the lane back for a moment, and nothing runs wild."""
    async with opened(sim, Desk(queue=queue)) as stage:
        running = own_tasks()
        sim.outage(Faults.rate_limited(value))
        outcome = await ending(stage, question(vendor))
        assert isinstance(outcome, Pending if queue else RateLimited)
        # One vendor's other headers tell when its limits reset, and so allow the one retry; else a second is waited.
        hinted = vendor == "openai" and value not in ZERO
        assert 1 + hinted == sim.call_count
        await require_clean(stage, int(queue), running)
        await require_good_call(stage, vendor)
