"""An outage over real HTTP: nothing is lost, nothing is replayed, and nobody knocks at a closed door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from llm_gateway import Completed, Environment, LLMClient, LLMRequest, Pending, Settings
from llm_gateway.options import BreakerOptions, RetryOptions, WorkerOptions
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.testing.faults import SimulatedFault

QUESTION = LLMRequest(provider="openai", model="gpt-4o-mini", prompt="Which essay is better?")


@pytest.fixture
async def client(sim: SimulatedProvider) -> AsyncIterator[LLMClient]:
    """A client as settings wire it, with short times."""
    settings = Settings(
        environment=Environment.TESTING,
        openai_api_key=SecretStr("sk-loopback"),
        openai_base_url=sim.openai_url,
        breaker=BreakerOptions(consecutive_failures=3, open_time=0.3, open_time_cap=0.6),
        retry=RetryOptions(attempts=2, base=0.01, throttled_base=0.01, cap=0.05),
        worker=WorkerOptions(sweep_seconds=0.1),
    )
    async with LLMClient.from_settings(settings) as opened:
        yield opened


async def queued(client: LLMClient, count: int) -> list[str]:
    """Ask *count* times at once during an outage and return the tickets."""
    outcomes = await asyncio.gather(*(client.complete(QUESTION, timeout=5) for _ in range(count)))
    return [outcome.ticket.id for outcome in outcomes if isinstance(outcome, Pending)]


async def answers(client: LLMClient, tickets: list[str]) -> list[Completed[str]]:
    """Fetch the answers of tickets, each within ten seconds."""
    outcomes = [await client.result(ticket, timeout=10) for ticket in tickets]
    return [outcome for outcome in outcomes if isinstance(outcome, Completed)]


@pytest.mark.parametrize("fault", [Faults.OVERLOADED, Faults.REFUSED, Faults.CLOSED], ids=lambda fault: fault.name)
async def test_nothing_is_lost(client: LLMClient, sim: SimulatedProvider, fault: SimulatedFault) -> None:
    """Whoever asks in an outage gets a ticket, and after it each ticket has one answer of its own."""
    sim.outage(fault)
    tickets = await queued(client, 20)
    assert len(tickets) == 20
    sim.recover()
    async with client.worker(concurrency=4):
        completed = await answers(client, tickets)
    ids = [answer.response.receipt.response_id for answer in completed]
    assert (len(ids), len(set(ids))) == (20, 20)
    assert sorted(filter(None, ids)) == sorted(sim.response_ids)


async def test_open_circuit_calls_nobody(sim: SimulatedProvider) -> None:
    """While the circuit is open not one call reaches the provider."""
    settings = Settings(
        environment=Environment.TESTING,
        openai_api_key=SecretStr("sk-loopback"),
        openai_base_url=sim.openai_url,
        breaker=BreakerOptions(consecutive_failures=3, open_time=60.0),
        retry=RetryOptions(attempts=1),
    )
    async with LLMClient.from_settings(settings) as client, client.worker():
        sim.outage(Faults.OVERLOADED)
        for _ in range(3):
            await client.complete(QUESTION)
        before = sim.call_count
        outcomes = [await client.complete(QUESTION) for _ in range(20)]
        assert {outcome.ticket.reason for outcome in outcomes if isinstance(outcome, Pending)} == {"circuit_open"}
        assert sim.call_count == before
        (lane,) = (await client.health()).lanes
        assert (lane.circuit.value, lane.ready + lane.delayed) == ("open", 23)


async def test_late_answer_is_paid_once(client: LLMClient, sim: SimulatedProvider) -> None:
    """A call that outlasts its caller completes the ticket later, with that one call."""
    sim.script(Faults.HANG)
    outcome = await client.complete(QUESTION, timeout=0.3)
    assert isinstance(outcome, Pending)
    assert outcome.ticket.reason == "deadline"
    sim.release()
    async with client.worker():
        (answer,) = await answers(client, [outcome.ticket.id])
    assert (sim.call_count, answer.response.receipt.ticket_id) == (1, outcome.ticket.id)


async def test_two_workers(client: LLMClient, sim: SimulatedProvider) -> None:
    """Two workers and thirty requests are exactly thirty calls."""
    outcomes = await client.submit_many([QUESTION] * 30)
    tickets = [outcome.ticket.id for outcome in outcomes if isinstance(outcome, Pending)]
    async with client.worker(concurrency=4), client.worker(concurrency=4):
        completed = await answers(client, tickets)
    assert (len(completed), sim.call_count, len(set(sim.response_ids))) == (30, 30, 30)


async def test_cancelled_call(client: LLMClient, sim: SimulatedProvider) -> None:
    """A caller who goes away leaves neither a ticket nor a broken connection pool."""
    sim.script(Faults.HANG)
    asked = asyncio.create_task(client.complete(QUESTION))
    await sim.wait_for_calls(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    sim.release()
    assert (await client.health()).depth == 0
    outcomes = await asyncio.gather(*(client.complete(QUESTION) for _ in range(10)))
    assert all(isinstance(outcome, Completed) for outcome in outcomes)
