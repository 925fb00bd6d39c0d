"""What is told beside a result: circuits, waits, and how a client without a queue stands."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._core.jobs import Lane
from llm_gateway._core.observations import ObservationKind
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault
from llm_gateway.errors import ProviderUnavailable


@pytest.mark.parametrize(
    ("fault", "place"), [(Fault.OVERLOADED, ("fake", "m-1")), (Fault.CONNECT, ("", "fake.test"))], ids=["lane", "host"]
)
async def test_circuits_are_observed(
    desk: Desk, question: LLMRequest, caplog: pytest.LogCaptureFixture, *, fault: Fault, place: tuple[str, str]
) -> None:
    """Observer and log are told of each transition, of a lane by its name and of an endpoint by its host."""
    desk.provider.script(*[outage(fault)] * 3)
    async with desk.client(queue=False) as client:
        for _ in range(2):
            with pytest.raises(ProviderUnavailable):
                await client.complete(question)
    where = "/".join(filter(None, place))
    assert f"The circuit of {where} went from closed to open" in caplog.messages
    seen = [seen for seen in desk.observer.observations if seen.kind is ObservationKind.CIRCUIT]
    assert [(*place, "open")] == [(circuit.provider, circuit.model, circuit.outcome) for circuit in seen]


@pytest.mark.parametrize("seconds", [-5.0, 2.5])
async def test_wait_in_the_queue(desk: Desk, client: LLMClient, question: LLMRequest, seconds: float) -> None:
    """A receipt tells for how long its request waited, which is never less than nothing."""
    ticket = (await client.submit(question)).ticket.id
    job = await desk.queue.get("", ticket)
    answer = desk.provider.answer(desk.provider.prepare(question, TEXT), "yes")
    desk.provider.script(replace(answer, sent_at=job.created_at + timedelta(seconds=seconds)))
    async with client.worker():
        outcome = await client.result(ticket, timeout=5)
    assert isinstance(outcome, Completed)
    assert max(seconds, 0.0) == outcome.response.receipt.queue_wait


@pytest.mark.parametrize(("age", "attended"), [(10.0, True), (10.5, False)])
async def test_worker_of_ten_seconds_ago(
    desk: Desk, client: LLMClient, question: LLMRequest, *, age: float, attended: bool
) -> None:
    """A worker that was heard of ten seconds ago stands by, and leaves no probe to a live call; later it does not."""
    await client.submit(question)
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await client.complete(question, when_unavailable="raise")
    desk.clock.advance(121.0)
    await desk.queue.heartbeat("worker-1", [Lane("fake", "m-1")])
    desk.clock.advance(age)
    assert attended == isinstance(await client.complete(question), Pending)


async def test_health_without_a_queue(desk: Desk) -> None:
    """Without a queue nothing waits and nothing is kept."""
    async with desk.client(queue=False) as client:
        health = await client.health()
    assert (None, False, 0, 0, None, ()) == (
        health.queue,
        health.durable,
        health.depth,
        health.outbox,
        health.outbox_lag,
        health.lanes,
    )


async def test_health_of_a_lane_that_was_only_asked(client: LLMClient, question: LLMRequest) -> None:
    """A lane of which the queue knows nothing is told of with nothing waiting in it."""
    await client.complete(question)
    (lane,) = (await client.health()).lanes
    assert (0, 0, 0, 0, None, None) == (
        lane.ready,
        lane.delayed,
        lane.processing,
        lane.dead,
        lane.oldest_created_at,
        lane.last_heartbeat_at,
    )


async def test_estimate_of_a_worker_elsewhere(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A pace that was seen here holds for a worker elsewhere, as long as there is one."""
    async with client.worker():
        for _ in range(2):
            await desk.clock.run_for(4.0)
            await client.submit(question)
            await desk.clock.run_for(0.0)
    await desk.queue.heartbeat("elsewhere", [Lane("fake", "m-1")])
    stands_by = await client.submit(question)
    desk.clock.advance(11.0)
    is_gone = await client.submit(question)
    assert (4.0, None) == (stands_by.ticket.estimated_wait, is_gone.ticket.estimated_wait)
