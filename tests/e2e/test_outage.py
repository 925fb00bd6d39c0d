"""A provider goes away and comes back: nobody waits too long, nobody is lost, nobody is answered twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

import pytest
from tests.faults.stage import VENDORS, Desk, Stage, opened, question

from llm_gateway import Completed, LLMGatewayError, Pending
from llm_gateway._core.circuit import CircuitState
from llm_gateway._facts import Sent
from llm_gateway.options import BreakerOptions, HttpOptions, RetryOptions
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.testing.faults import SimulatedFault

TIMEOUT: Final = 1.0
GRACE: Final = 0.5
LONG: Final = 20.0
OPEN: Final = 120.0
HELD: Final = 20
BREAKER: Final = BreakerOptions(consecutive_failures=4, open_time=OPEN, jitter=0.0)
RETRY: Final = RetryOptions(attempts=2, base=0.01, throttled_base=0.01, min_useful=0.05)
DESK: Final = Desk(breaker=BREAKER, retry=RETRY, http=HttpOptions(attempt_timeout=0.3))
PATIENT: Final = Desk(http=HttpOptions(max_connections=1))

at_both = pytest.mark.parametrize("vendor", VENDORS)


async def ticket_of(stage: Stage, vendor: str, timeout: float = TIMEOUT) -> str:
    """Ask, and get a ticket within the timeout."""
    async with asyncio.timeout(timeout + GRACE):
        outcome = await stage.client.complete(question(vendor), timeout=timeout)
    assert isinstance(outcome, Pending)
    assert "processing" == outcome.status
    return outcome.ticket.id


async def result_of(stage: Stage, ticket: str) -> Completed[str]:
    """Wait for the result of a ticket."""
    outcome = await stage.client.result(ticket, timeout=LONG)
    assert isinstance(outcome, Completed), repr(outcome)
    return outcome


async def circuit_of(stage: Stage) -> CircuitState:
    """Tell the state of the only lane."""
    (lane,) = (await stage.client.health()).lanes
    return lane.circuit


def ids_of(outcomes: Iterable[Completed[str]]) -> list[str]:
    """The ids of the answers, in order."""
    return sorted(outcome.response.receipt.response_id or "" for outcome in outcomes)


def sent_by(outcomes: Iterable[Completed[str]]) -> int:
    """Count the attempts that reached the provider."""
    return sum(attempt.sent is not Sent.NO for one in outcomes for attempt in one.response.receipt.attempts)


def endings(stage: Stage) -> Counter[str]:
    """Count the terminal events of each ticket."""
    return Counter(event.ticket_id for event in stage.events if event.state.terminal)


@at_both
@pytest.mark.parametrize("fault", [Faults.REFUSED, Faults.OVERLOADED, Faults.HANG], ids=lambda fault: fault.name)
async def test_outage(sim: SimulatedProvider, fault: SimulatedFault, vendor: str) -> None:
    """Tickets within the timeout, no call while the circuit is open, and after recovery every answer once."""
    async with opened(sim, DESK) as stage:
        sim.outage(fault)
        tickets = [await ticket_of(stage, vendor)]
        while await circuit_of(stage) is CircuitState.CLOSED:
            tickets.append(await ticket_of(stage, vendor))
        calls = sim.call_count
        tickets += await asyncio.gather(*(ticket_of(stage, vendor) for _ in range(HELD)))
        async with stage.client.worker(concurrency=4):
            await stage.queue.wait_for_looks(10)
            assert (CircuitState.OPEN, calls) == (await circuit_of(stage), sim.call_count)
            statuses = [await stage.client.status(ticket) for ticket in tickets]
            assert {("queued", 0)} == {(status.state, status.attempts) for status in statuses}

            sim.recover()
            stage.clock.leap(OPEN)
            outcomes = await asyncio.gather(*(result_of(stage, ticket) for ticket in tickets))

    assert sorted(sim.response_ids) == ids_of(outcomes)
    assert (len(set(tickets)), sim.call_count) == (len(set(sim.response_ids)), sent_by(outcomes))
    assert (len(tickets), calls + len(tickets)) == (sim.outcomes["ok"], sim.call_count)
    assert dict.fromkeys(tickets, 1) == endings(stage)


@at_both
async def test_failed_probe(sim: SimulatedProvider, vendor: str) -> None:
    """A provider that is still out after the open time costs one probe, and the jobs are held on."""
    async with opened(sim, DESK) as stage:
        sim.outage(Faults.OVERLOADED)
        tickets = [await ticket_of(stage, vendor) for _ in range(4)]
        calls = sim.call_count
        async with stage.client.worker(concurrency=4):
            stage.clock.leap(OPEN)
            await sim.wait_for_calls(calls + 1)
            await stage.queue.wait_for_looks(10)
            assert (CircuitState.OPEN, calls + 1) == (await circuit_of(stage), sim.call_count)
            sim.recover()
            stage.clock.leap(2 * OPEN)
            outcomes = await asyncio.gather(*(result_of(stage, ticket) for ticket in tickets))

    assert sorted(sim.response_ids) == ids_of(outcomes)
    assert (calls + 1 + len(tickets), sim.call_count) == (sim.call_count, sent_by(outcomes))
    assert dict.fromkeys(tickets, 1) == endings(stage)


@at_both
async def test_live_after_recovery(sim: SimulatedProvider, vendor: str) -> None:
    """Where no worker stands by, a live call is the probe, and closes the circuit for the next."""
    async with opened(sim, DESK) as stage:
        sim.outage(Faults.OVERLOADED)
        for _ in range(2):
            await ticket_of(stage, vendor)
        calls = sim.call_count
        sim.recover()
        await ticket_of(stage, vendor)
        assert calls == sim.call_count
        stage.clock.leap(OPEN)
        outcomes = [await stage.client.complete(question(vendor), timeout=LONG) for _ in range(3)]
        assert [Completed] * 3 == [type(outcome) for outcome in outcomes]
        assert CircuitState.CLOSED is await circuit_of(stage)
    assert calls + 3 == sim.call_count


@at_both
@pytest.mark.parametrize("fault", [Faults.HANG, Faults.HANG_IN_BODY], ids=lambda fault: fault.name)
async def test_late_answer(sim: SimulatedProvider, fault: SimulatedFault, vendor: str) -> None:
    """A call that outlasts its caller's timeout completes the ticket when it ends, with one call upstream."""
    async with opened(sim, PATIENT) as stage:
        sim.script(fault)
        ticket = await ticket_of(stage, vendor, 0.3)
        # A worker must leave alone what is already being asked.
        async with stage.client.worker():
            await stage.queue.wait_for_looks(3)
            sim.release()
            completed = await result_of(stage, ticket)

    receipt = completed.response.receipt
    assert (1, [(None, Sent.YES, False)], ticket) == (
        sim.call_count,
        [(attempt.fault, attempt.sent, attempt.possibly_billed) for attempt in receipt.attempts],
        receipt.ticket_id,
    )
    assert {ticket: 1} == endings(stage)


@at_both
async def test_two_workers(sim: SimulatedProvider, vendor: str) -> None:
    """Two workers that drain one queue make exactly one call for each request."""
    async with opened(sim, Desk(http=HttpOptions())) as stage:
        stored = await stage.client.submit_many([question(vendor)] * 30)
        tickets = [one.ticket.id for one in stored if isinstance(one, Pending)]
        async with stage.client.worker(concurrency=4), stage.client.worker(concurrency=4):
            outcomes = await asyncio.gather(*(result_of(stage, ticket) for ticket in tickets))

    assert (30, 30, 30) == (len(tickets), sim.call_count, len(set(sim.response_ids)))
    assert sorted(sim.response_ids) == ids_of(outcomes)
    assert dict.fromkeys(tickets, 1) == endings(stage)


@at_both
@pytest.mark.parametrize("queue", [True, False], ids=["queue", "no queue"])
async def test_cancelled_caller(sim: SimulatedProvider, vendor: str, *, queue: bool) -> None:
    """A caller who goes away mid-call leaves nothing queued, no permit out, and the only connection usable."""
    desk = Desk(queue=queue, http=HttpOptions(max_connections=1))
    async with opened(sim, desk) as stage:
        sim.outage(Faults.HANG)
        for number in range(1, 4):
            asked = asyncio.create_task(stage.client.complete(question(vendor), timeout=LONG))
            await sim.wait_for_calls(number)
            asked.cancel()
            await asyncio.wait({asked})
            assert asked.cancelled()
            assert stage.gate.balanced
        assert 0 == (await stage.client.health()).depth
        sim.recover()
        assert isinstance(await stage.client.complete(question(vendor), timeout=LONG), Completed)
    assert 4 == sim.call_count


@at_both
async def test_outage_without_queue(sim: SimulatedProvider, vendor: str) -> None:
    """Without a queue an outage is an error at once, without a call while the circuit is open."""
    async with opened(sim, Desk(queue=False, breaker=BREAKER, retry=RETRY)) as stage:
        sim.outage(Faults.OVERLOADED)
        for _ in range(2):
            with pytest.raises(LLMGatewayError):
                await stage.client.complete(question(vendor), timeout=TIMEOUT)
        calls = sim.call_count
        async with asyncio.timeout(TIMEOUT):
            for _ in range(HELD):
                with pytest.raises(LLMGatewayError) as caught:
                    await stage.client.complete(question(vendor), timeout=TIMEOUT)
                assert ("circuit_open", ()) == (caught.value.fault, caught.value.attempts)
        assert (4, 4) == (calls, sim.call_count)
