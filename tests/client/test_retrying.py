"""What bounds the retries of a live call: the budget of its endpoint, a ticket that took it over, the time left."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._facts import Fault
from llm_gateway.errors import ProviderUnavailable
from llm_gateway.options import HttpOptions, RetryOptions

ONE_TOKEN = RetryOptions(attempts=3, budget=1.0, budget_ratio=0.0)


async def test_budget_bounds_retries(desk: Desk, question: LLMRequest) -> None:
    """Without a token left an endpoint is not asked again, though the attempts of the call would allow it."""
    desk.provider.script(*[outage(Fault.SERVER_ERROR)] * 2)
    async with LLMClient([desk.provider], None, replace(desk.parts, retry=ONE_TOKEN)) as client:
        with pytest.raises(ProviderUnavailable):
            await client.complete(question)
    assert 2 == len(desk.provider.calls)


async def test_queue_takes_what_the_budget_does_not(desk: Desk, question: LLMRequest) -> None:
    """With a queue a call that the budget lets try no more becomes a ticket."""
    desk.provider.script(*[outage(Fault.SERVER_ERROR)] * 2)
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, retry=ONE_TOKEN)) as client:
        outcome = await client.complete(question)
    assert isinstance(outcome, Pending)
    assert 2 == len(desk.provider.calls)


async def test_adopted_call_leaves_retrying_to_its_ticket(desk: Desk, question: LLMRequest) -> None:
    """A call that has a ticket is not tried again, also where the caller's timeout would have left room for it."""
    parts = replace(desk.parts, retry=RetryOptions(min_useful=0.0))
    desk.provider.script(outage(Fault.SERVER_ERROR))
    desk.provider.hold()
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        outcome = await client.complete(question, timeout=0.05)
        assert isinstance(outcome, Pending)
        desk.provider.release()
        await desk.clock.run_for(0.0)
        status = await client.status(outcome.ticket.id)
    assert ("queued", 1, 1) == (status.state, status.attempts, len(desk.provider.calls))


async def test_later_tries_may_outlast_the_caller(desk: Desk, question: LLMRequest) -> None:
    """With a queue every try has its usual time: at the deadline a ticket takes over the one that runs."""
    parts = replace(desk.parts, http=HttpOptions(attempt_timeout=60.0))
    desk.provider.script(outage(retry_after=10.0))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        asked = asyncio.create_task(client.complete(question, timeout=30))
        await desk.clock.run_for(10.0)
        assert isinstance(await asked, Completed)
    assert [60.0, 60.0] == desk.provider.timeouts
