"""What the queue is told of circuits and accounts, and what it is not told to undo."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending, Priority
from llm_gateway._core.jobs import Lane, LaneStats, Lease
from llm_gateway._facts import Fault, Sent
from llm_gateway.errors import (
    DeadlineExceeded,
    ErrorInfo,
    LLMGatewayError,
    ProviderUnavailable,
    QueueUnavailable,
    QuotaExhausted,
)
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeBreaker

LANE = Lane("fake", "m-1")


class Deaf(MemoryQueue):
    """A queue that cannot be told of a circuit the first time."""

    deaf = 1

    async def set_gate(self, lane: Lane, *, circuit: str, not_before: datetime | None) -> None:
        """Refuse once."""
        if self.deaf > 0:
            self.deaf -= 1
            message = "The queue is out."
            raise QueueUnavailable(message)
        await super().set_gate(lane, circuit=circuit, not_before=not_before)


async def test_mirror_tries_again(desk: Desk, question: LLMRequest) -> None:
    """A circuit that could not be mirrored is mirrored a moment later, open and closed again."""
    queue = Deaf(clock=desk.clock)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        await client.complete(question)
        await client.submit(question)
        desk.breaker.force_open(LANE)
        await desk.clock.run_for(2.0)
        (opened,) = await queue.lanes()
        desk.breaker.reset(LANE)
        await desk.clock.run_for(2.0)
        (closed,) = await queue.lanes()
    assert (opened.gate.circuit, closed.gate.circuit, closed.gate.not_before) == ("open", "closed", None)


async def test_pause_outlasts_mending(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A lane that an operator paused stays paused when its account works again."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
    await client.submit(question)
    async with client.worker():
        await desk.clock.run_for(5.0)
        await desk.queue.pause(LANE)
        desk.clock.advance(896.0)
        assert isinstance(await client.complete(question), Completed)
        await desk.clock.run_for(5.0)
        (stats,) = await desk.queue.lanes()
    assert (stats.gate.paused, len(desk.provider.calls)) == (True, 2)


async def half_open(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Open the circuit and wait until it lets a probe through."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    desk.clock.advance(121.0)


async def test_worker_that_was_lost_probes_nothing(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A live call does not leave the probe to a worker that has not been heard of for a while."""
    await half_open(desk, client, question)
    await desk.queue.heartbeat("worker-1", [LANE])
    desk.clock.advance(11.0)
    assert isinstance(await client.complete(question), Completed)


async def test_priorities(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A ticket of a live call goes before a submitted one, unless the request says otherwise."""
    desk.provider.script(outage(Fault.ACCELERATION))
    pending = await client.complete(question)
    assert isinstance(pending, Pending)
    submitted = await client.submit(question)
    chosen = await client.submit(question.model_copy(update={"priority": Priority.LIVE}))
    kept = {job.ticket_id: job.priority for job in await desk.queue.list_jobs()}
    tickets = (pending.ticket.id, submitted.ticket.id, chosen.ticket.id)
    assert [kept[ticket] for ticket in tickets] == [Priority.INTERACTIVE, Priority.BATCH, Priority.LIVE]


async def test_history_is_kept(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The tries of a live call stand in the history of the ticket it became."""
    desk.provider.script(outage(), outage())
    assert isinstance(await client.complete(question), Pending)
    (job,) = await desk.queue.list_jobs()
    assert [attempt.fault for attempt in job.history] == [Fault.OVERLOADED, Fault.OVERLOADED]


async def test_new_lane_is_told(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A lane that is new to the queue learns at once that its circuit is open."""
    await client.complete(question)
    desk.breaker.force_open(LANE)
    await desk.clock.run_for(0.0)
    await client.submit_many([question])
    await desk.clock.run_for(0.0)
    (stats,) = await desk.queue.lanes()
    assert stats.gate.circuit == "open"


class Refusing(MemoryQueue):
    """A queue that gives out nothing."""

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        """Give nothing."""
        return []


async def test_permits_without_jobs(desk: Desk, question: LLMRequest) -> None:
    """A permit for which no job was left is given back."""
    breaker = FakeBreaker()
    parts = replace(desk.parts, breaker=breaker)
    async with LLMClient([desk.provider], Refusing(clock=desk.clock), parts) as client, client.worker():
        await client.submit(question)
        await desk.clock.run_for(1.0)
        assert (bool(breaker.acquired), breaker.out) == (True, 0)


async def test_lanes_take_turns(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A long lane does not keep another one waiting."""
    other = question.model_copy(update={"model": "m-2"})
    await client.submit_many([question] * 4 + [other] * 4)
    async with client.worker(concurrency=1):
        await desk.clock.run_for(10.0)
    assert {call.model for call in desk.provider.calls[:2]} == {"m-1", "m-2"}


async def test_drain_waits(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A call that ends while the worker drains is a result, paid for once."""
    desk.provider.hold()
    ticket = (await client.submit(question)).ticket.id
    async with client.worker(drain_timeout=5):
        await desk.provider.wait_for_calls(1)
        asyncio.get_running_loop().call_later(0.05, desk.provider.release)
    assert isinstance(await client.result(ticket), Completed)
    assert len(desk.provider.calls) == 1


async def test_lost_job_is_taken_back(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A worker takes back what another one held when it was lost, and finishes it."""
    ticket = (await client.submit(question)).ticket.id
    assert await desk.queue.claim(LANE, 1, worker="lost", lease_seconds=30.0, claim_id="c")
    async with client.worker():
        await desk.clock.run_for(45.0)
        states = [job.state.value for job in await desk.queue.list_jobs()]
    assert (states, len(desk.provider.calls)) == (["completed"], 1)
    assert isinstance(await client.result(ticket), Completed)


class Dumb(MemoryQueue):
    """A queue that does not tell of its lanes."""

    dumb = False

    async def lanes(self) -> list[LaneStats]:
        """Refuse, once it is dumb."""
        if self.dumb:
            message = "The queue is out."
            raise QueueUnavailable(message)
        return await super().lanes()


async def test_queue_that_is_out_keeps_nobody_from_asking(desk: Desk, question: LLMRequest) -> None:
    """A provider that is back is asked although the queue, which could name a better probe, does not answer."""
    queue = Dumb(clock=desk.clock)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        for _ in range(3):
            desk.provider.script(outage(Fault.READ_TIMEOUT))
            assert isinstance(await client.complete(question), Pending)
        queue.dumb = True
        desk.clock.advance(1_000)
        outcome = await client.complete(question, when_unavailable="raise")
    assert isinstance(outcome, Completed)


@pytest.mark.parametrize(("timeout", "fault"), [(60.0, Fault.CIRCUIT_OPEN), (5.0, Fault.DEADLINE)])
async def test_provider_that_hangs(desk: Desk, question: LLMRequest, timeout: float, fault: Fault) -> None:
    """Without a queue no try outlasts its caller: long ones without an answer open the circuit, short ones do not."""
    hanging = ProviderUnavailable("No answer.", info=ErrorInfo(fault=Fault.READ_TIMEOUT, sent=Sent.YES))
    desk.provider.script(*[hanging] * 4)
    async with desk.client(queue=False) as client:
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await client.complete(question, timeout=timeout)
        with pytest.raises(LLMGatewayError) as caught:
            await client.complete(question, timeout=timeout)
    assert fault is caught.value.fault
