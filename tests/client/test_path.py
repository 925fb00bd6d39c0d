"""What each layer passes on: to the breaker, to the limiter, to the next try."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Parts, Pending
from llm_gateway._core.circuit import Level
from llm_gateway._core.observations import ObservationKind
from llm_gateway._facts import Fault
from llm_gateway.errors import InvalidOutput, LLMGatewayError
from llm_gateway.options import HttpOptions, RetryOptions
from llm_gateway.testing import FakeBreaker, FakeLimiter

ONCE = RetryOptions(attempts=1)


def alone(desk: Desk, parts: Parts) -> LLMClient:
    """Make a client without a queue."""
    return LLMClient([desk.provider], None, parts)


@pytest.mark.parametrize(
    ("fault", "level"), [(Fault.OVERLOADED, Level.MODEL), (Fault.CONNECT, Level.ENDPOINT)], ids=["model", "endpoint"]
)
async def test_breaker_is_told(desk: Desk, question: LLMRequest, fault: Fault, level: Level) -> None:
    """A failure counts against the model or the whole endpoint, and carries how long the provider asked to wait."""
    breaker = FakeBreaker()
    desk.provider.script(outage(fault, retry_after=7.0))
    async with alone(desk, replace(desk.parts, breaker=breaker, retry=ONCE)) as client:
        with pytest.raises(LLMGatewayError):
            await client.complete(question)
    assert [told[1:] for told in breaker.failures] == [(level, 7.0)]


@pytest.mark.parametrize(("hint", "penalty"), [(None, 1.0), (9.0, 9.0)])
async def test_limiter_is_told(desk: Desk, question: LLMRequest, hint: float | None, penalty: float) -> None:
    """A rate limit holds the lane back as long as the provider says, and for a second when it says nothing."""
    limiter = FakeLimiter()
    desk.provider.script(outage(Fault.RATE_LIMITED, retry_after=hint))
    async with alone(desk, replace(desk.parts, limiter=limiter, retry=ONCE)) as client:
        with pytest.raises(LLMGatewayError):
            await client.complete(question)
    assert [seconds for _, seconds in limiter.penalties] == [penalty]


async def test_attempt_timeout(desk: Desk, question: LLMRequest) -> None:
    """No try is given more than the attempt timeout, however long the caller waits."""
    async with alone(desk, replace(desk.parts, http=HttpOptions(attempt_timeout=5.0))) as client:
        await client.complete(question, timeout=60)
    assert desk.provider.timeouts == [5.0]


async def test_budget_is_earned(desk: Desk, question: LLMRequest) -> None:
    """Every first try earns a part of a retry, so that a retry now and then is always there."""
    retry = RetryOptions(budget=1.0, budget_ratio=1.0)
    desk.provider.script(outage(Fault.SERVER_ERROR), "first", outage(Fault.SERVER_ERROR), "second")
    async with alone(desk, replace(desk.parts, retry=retry)) as client:
        texts = [(await client.complete(question, when_unavailable="raise")).response.text for _ in range(2)]
    assert texts == ["first", "second"]


async def test_next_try_has_what_is_left(desk: Desk, question: LLMRequest) -> None:
    """Without a queue a later try is given only what is left of the timeout."""
    desk.provider.script(outage(Fault.OVERLOADED, retry_after=10.0))
    async with alone(desk, desk.parts) as client:
        asked = asyncio.create_task(client.complete(question, timeout=30))
        await desk.clock.run_for(10.0)
        await asked
    assert desk.provider.timeouts == [30.0, 20.0]


async def test_first_connection_retry_is_at_once(desk: Desk, question: LLMRequest) -> None:
    """A connection that failed is tried again without any wait."""
    desk.provider.script(outage(Fault.CONNECT))
    async with alone(desk, replace(desk.parts, random=lambda: 1.0)) as client, asyncio.timeout(5):
        assert isinstance(await client.complete(question), Completed)


async def test_throttled_retry_waits_longer(desk: Desk, question: LLMRequest) -> None:
    """An overloaded provider is left alone for longer than a broken one."""
    desk.provider.script(outage(Fault.OVERLOADED))
    async with alone(desk, replace(desk.parts, random=lambda: 1.0)) as client:
        asked = asyncio.create_task(client.complete(question))
        await desk.clock.run_for(0.9)
        early = len(desk.provider.calls)
        await desk.clock.run_for(0.2)
        assert (early, len(desk.provider.calls)) == (1, 2)
        await asked


async def test_no_output_retry_after_the_deadline(desk: Desk, question: LLMRequest) -> None:
    """An invalid answer is not asked for again once the caller's time is over."""
    desk.provider.script("no number")
    desk.provider.hold()
    async with alone(desk, desk.parts) as client:
        asked = asyncio.create_task(client.complete(question, output_type=int, output_retries=1, timeout=30))
        await desk.provider.wait_for_calls(1)
        desk.clock.advance(31.0)
        desk.provider.release()
        with pytest.raises(InvalidOutput):
            await asked
    assert len(desk.provider.calls) == 1


async def test_calls_are_observed(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The observer is told how each call ended, and why it was queued."""
    await client.complete(question)
    desk.provider.script(outage(Fault.ACCELERATION))
    assert isinstance(await client.complete(question), Pending)
    calls = [seen for seen in desk.observer.observations if seen.kind is ObservationKind.CALL]
    assert [(seen.outcome, seen.fault) for seen in calls] == [("ok", None), ("queued", Fault.ACCELERATION)]


async def test_adopted_call_is_not_retried(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A call that has a ticket leaves trying again to the queue."""
    desk.provider.script(outage(Fault.SERVER_ERROR))
    desk.provider.hold()
    outcome = await client.complete(question, timeout=0.05)
    assert isinstance(outcome, Pending)
    desk.provider.release()
    await desk.clock.run_for(0.0)
    status = await client.status(outcome.ticket.id)
    assert (status.state, status.attempts, len(desk.provider.calls)) == ("queued", 1, 1)
