"""The one call that a latched account lets through is used up only when it has been sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.client.desk import Desk

from llm_gateway import Completed, LLMClient, LLMRequest
from llm_gateway._core.circuit import CircuitKey
from llm_gateway._core.jobs import Lane, LaneStats
from llm_gateway._facts import Fault, Sent
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.errors import ErrorInfo, ProviderUnavailable, QuotaExhausted, RateLimited
from llm_gateway.limits.retry_after import RetryAfterLimiter
from llm_gateway.options import BreakerOptions
from llm_gateway.queues.memory import MemoryQueue

LANE = Lane("fake", "m-1")
UNREACHED = ProviderUnavailable("No connection.", info=ErrorInfo(fault=Fault.CONNECT, sent=Sent.NO))
REACHED = ProviderUnavailable("Busy.", info=ErrorInfo(fault=Fault.SERVER_ERROR, sent=Sent.YES))


async def latch(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Latch the account and wait until a canary is due."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA, sent=Sent.YES)))
    with pytest.raises(QuotaExhausted):
        await client.complete(question)
    desk.clock.advance(900.0)


async def test_open_circuit(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A canary that an open circuit refuses leaves its place to the next call."""
    await latch(desk, client, question)
    desk.breaker.force_open(LANE)
    with pytest.raises(ProviderUnavailable):
        await client.complete(question, when_unavailable="raise")
    desk.breaker.reset(LANE)
    assert isinstance(await client.complete(question), Completed)


async def test_limiter(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A canary that the limiter holds back leaves its place to the next call."""
    await latch(desk, client, question)
    assert isinstance(desk.parts.limiter, RetryAfterLimiter)
    desk.parts.limiter.penalise(CircuitKey(desk.provider.endpoint, LANE), 30.0)
    with pytest.raises(RateLimited):
        await client.complete(question, when_unavailable="raise", timeout=5)
    desk.clock.advance(31.0)
    assert isinstance(await client.complete(question), Completed)


async def test_not_reached(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A canary that did not reach the provider is tried again, as any other call."""
    await latch(desk, client, question)
    desk.provider.script(UNREACHED)
    assert isinstance(await client.complete(question), Completed)


async def test_reached(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A canary that reached the provider and was not answered is not followed by another at once."""
    await latch(desk, client, question)
    desk.provider.script(REACHED)
    with pytest.raises(QuotaExhausted) as caught:
        await client.complete(question, when_unavailable="raise")
    assert (caught.value.fault, len(desk.provider.calls)) == (Fault.LATCHED, 2)


async def test_given_up(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A canary whose caller goes away leaves its place to the next call."""
    await latch(desk, client, question)
    desk.provider.hold()
    asked = asyncio.create_task(client.complete(question))
    await desk.provider.wait_for_calls(2)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    desk.provider.release()
    assert isinstance(await client.complete(question), Completed)


class Yielding(MemoryQueue):
    """A queue that takes its time to tell of its lanes."""

    async def lanes(self) -> list[LaneStats]:
        """Let others go first."""
        await asyncio.sleep(0)
        return await super().lanes()


async def test_one_of_two(desk: Desk, question: LLMRequest) -> None:
    """Of two calls that wait for the queue at the same time one goes as the canary, and the other is refused."""
    breaker = CircuitGate(BreakerOptions(max_probes=2, open_time=120.0, jitter=0.0), clock=desk.clock)
    queue = Yielding(clock=desk.clock)
    async with LLMClient([desk.provider], queue, replace(desk.parts, breaker=breaker)) as client:
        desk.provider.script(*[UNREACHED] * 5)
        for _ in range(2):
            await client.complete(question)
        desk.clock.advance(121.0)
        await latch(desk, client, question)
        desk.provider.hold()
        asked = [asyncio.create_task(client.complete(question, timeout=5)) for _ in range(2)]
        (refused,), (sent,) = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        desk.provider.release()
        assert isinstance(refused.exception(), QuotaExhausted)
        assert isinstance(await sent, Completed)
