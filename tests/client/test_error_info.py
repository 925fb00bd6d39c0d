"""An error says whose it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._facts import Attempt, Fault
from llm_gateway.errors import ErrorInfo, InvalidRequest, ProviderUnavailable, TicketFailed
from llm_gateway.testing.clock import START

TRIED = Attempt(id="a", started_at=START, ended_at=START, fault=Fault.SERVER_ERROR)
KNOWN = ErrorInfo(
    fault=Fault.SERVER_ERROR,
    provider="proxy",
    endpoint="edge.test",
    model="m-1-2026",
    key_id="k-edge",
    correlation_id="c-edge",
    attempts=(TRIED,),
)


async def raised(desk: Desk, question: LLMRequest, info: ErrorInfo) -> ErrorInfo:
    """Let the provider fail with *info*, and return what the caller sees of it."""
    desk.provider.script(*[ProviderUnavailable("It is out.", info=info)] * 3)
    async with desk.client() as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await client.complete(question, when_unavailable="raise")
    return caught.value.info


async def test_what_the_provider_says_stays(desk: Desk, question: LLMRequest) -> None:
    """What the error came with is kept, for it may come from further away than the call knows of."""
    assert KNOWN == await raised(desk, question.model_copy(update={"correlation_id": "c-1"}), KNOWN)


async def test_what_it_does_not_say_is_filled_in(desk: Desk, question: LLMRequest) -> None:
    """Provider, endpoint, model, key and correlation come from the call where the error has none, and its tries."""
    asked = question.model_copy(update={"correlation_id": "c-1"})
    info = await raised(desk, asked, ErrorInfo(fault=Fault.SERVER_ERROR))
    assert [Fault.SERVER_ERROR] * 3 == [attempt.fault for attempt in info.attempts]
    assert replace(info, attempts=()) == ErrorInfo(
        fault=Fault.SERVER_ERROR,
        provider="fake",
        endpoint="fake.test",
        model="m-1",
        key_id="k-fake",
        correlation_id="c-1",
    )


async def test_nobody_is_configured(desk: Desk, question: LLMRequest) -> None:
    """A client without any provider says that there is none to choose from."""
    async with LLMClient([], None, desk.parts) as client:
        with pytest.raises(InvalidRequest, match="use one of: none"):
            await client.complete(question)


async def test_error_without_a_fault(desk: Desk, question: LLMRequest) -> None:
    """An error that does not say what it is of is of something unknown."""
    desk.provider.script(ProviderUnavailable("It is out."))
    async with desk.client(queue=False) as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await client.complete(question)
    assert [Fault.UNKNOWN, Fault.UNKNOWN] == [caught.value.fault, caught.value.attempts[0].fault]


async def test_told_wait_before_a_retry_at_once(desk: Desk, question: LLMRequest) -> None:
    """A connection that failed is tried again at once unless the other side said for how long it is away."""
    desk.provider.script(outage(Fault.CONNECT, retry_after=400.0))
    async with desk.client(queue=False) as client:
        with pytest.raises(ProviderUnavailable):
            await client.complete(question, timeout=500)
    assert 1 == len(desk.provider.calls)


async def test_worker_meets_an_error_without_a_fault(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A job whose error does not say what it is of is tried once more, as after anything unknown, and then fails."""
    desk.provider.script(*[ProviderUnavailable("It is out.")] * 2)
    ticket = (await client.submit(question)).ticket.id
    async with client.worker():
        await desk.clock.run_for(60.0)
        with pytest.raises(TicketFailed) as caught:
            await client.result(ticket)
    assert [Fault.UNKNOWN] * 2 == [attempt.fault for attempt in caught.value.attempts]
