"""What the queue is told of circuits and accounts, and what it is not told to undo."""

from __future__ import annotations

from datetime import datetime

from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending, Priority
from llm_gateway._core.jobs import Lane
from llm_gateway._facts import Fault
from llm_gateway.errors import ErrorInfo, QueueUnavailable, QuotaExhausted
from llm_gateway.queues.memory import MemoryQueue

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
