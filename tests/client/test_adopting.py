"""What becomes of a try when the caller's time is over: a ticket takes it over, or it is stopped."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import replace
from typing import TypeVar

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._core.jobs import AdoptedBy, Enqueued, Lane, NewJob
from llm_gateway._core.observations import ObservationKind
from llm_gateway._facts import Fault
from llm_gateway.errors import DeadlineExceeded, QueueUnavailable
from llm_gateway.options import RetryOptions, WorkerOptions
from llm_gateway.queues.memory import MemoryQueue

T = TypeVar("T")


class Impatient(selectors.DefaultSelector):
    """Does not wait for a timer but notes how long it would have waited.

    Attributes:
        skipped: Seconds not waited, in all.
    """

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return at once unless only something from outside can go on."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        self.skipped += timeout
        return super().select(0)


class ImpatientLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while nothing can run, and then at once."""

    def __init__(self) -> None:
        self._impatient = Impatient()
        super().__init__(self._impatient)

    def time(self) -> float:
        """Seconds that were skipped."""
        return self._impatient.skipped


def impatiently(work: Coroutine[object, object, T]) -> T:
    """Run *work* in a loop that skips all waiting."""
    with asyncio.Runner(loop_factory=ImpatientLoop) as runner:
        return runner.run(work)


class Overtaken(MemoryQueue):
    """A queue in which another process always was a moment faster with the same key."""

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store it without a lease first."""
        await super().enqueue(job)
        return await super().enqueue(job, adopted_by=adopted_by)


async def test_call_without_a_lease_is_stopped(desk: Desk, question: LLMRequest) -> None:
    """A call whose key has got a ticket elsewhere is stopped, for nobody would take its answer."""
    desk.provider.hold()
    async with LLMClient([desk.provider], Overtaken(clock=desk.clock), desk.parts) as client:
        outcome = await client.complete(question, timeout=0.05)
        assert isinstance(outcome, Pending)
        tried = [seen.fault for seen in desk.observer.observations if seen.kind is ObservationKind.ATTEMPT]
        status = await client.status(outcome.ticket.id)
    assert ([Fault.CANCELLED], "queued") == (tried, status.state)


class Full(MemoryQueue):
    """A queue that stores nothing."""

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Refuse."""
        message = "The queue is out."
        raise QueueUnavailable(message)


async def test_call_without_a_ticket_is_stopped(desk: Desk, question: LLMRequest) -> None:
    """A call whose ticket cannot be stored is stopped before the caller is told."""
    desk.provider.hold()
    async with LLMClient([desk.provider], Full(clock=desk.clock), desk.parts) as client:
        with pytest.raises(QueueUnavailable):
            await client.complete(question, timeout=0.05)
        tried = [seen.fault for seen in desk.observer.observations if seen.kind is ObservationKind.ATTEMPT]
    assert [Fault.CANCELLED] == tried


async def test_pause_between_tries_is_not_adopted(desk: Desk, question: LLMRequest) -> None:
    """A call that waits for its next try when the time is over becomes a ticket that any worker may claim."""
    parts = replace(desk.parts, retry=RetryOptions(min_useful=0.0))
    desk.provider.script(outage(retry_after=0.02))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        outcome = await client.complete(question, timeout=0.05)
        assert isinstance(outcome, Pending)
        status = await client.status(outcome.ticket.id)
    assert ("queued", "deadline", 1) == (status.state, outcome.ticket.reason, len(desk.provider.calls))


@pytest.mark.parametrize(("timeout", "waited"), [(10.0, 9.75), (1.0, 0.9)], ids=["a quarter second", "a tenth"])
def test_time_is_kept_for_queueing(question: LLMRequest, timeout: float, waited: float) -> None:
    """A quarter of a second of the timeout, or a tenth of a short one, is kept for making the ticket."""

    async def asked() -> float:
        desk, loop = Desk(), asyncio.get_running_loop()
        desk.provider.hold()
        async with desk.client() as client:
            began = loop.time()
            assert isinstance(await client.complete(question, timeout=timeout), Pending)
            ended = loop.time()
            desk.provider.release()
        return ended - began

    assert pytest.approx(waited) == impatiently(asked())


def test_time_is_kept_for_a_try_to_end_itself(question: LLMRequest) -> None:
    """Without a queue a try that does not heed the deadline is given up a quarter of a second after it."""

    async def asked() -> float:
        desk, loop = Desk(), asyncio.get_running_loop()
        desk.provider.hold()
        async with desk.client(queue=False) as client:
            began = loop.time()
            with pytest.raises(DeadlineExceeded):
                await client.complete(question, timeout=10.0)
            return loop.time() - began

    assert pytest.approx(10.25) == impatiently(asked())


async def test_closing_client_says_why_there_is_a_ticket(desk: Desk, question: LLMRequest) -> None:
    """The ticket of a call that was sent away by the closing of its client says so, and not that it took too long."""
    desk.provider.hold()
    parts = replace(desk.parts, worker=WorkerOptions(drain_timeout=0.05))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        asked = asyncio.create_task(client.complete(question))
        await desk.provider.wait_for_calls(1)
        closing = asyncio.create_task(client.aclose())
        outcome = await asked
        desk.provider.release()
        await closing
    assert isinstance(outcome, Pending)
    assert "shutdown" == outcome.ticket.reason


class Shaky(MemoryQueue):
    """A queue that twice does not answer what a group is pinned to."""

    out = 2

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        """Refuse twice."""
        if self.out > 0:
            self.out -= 1
            message = "The queue is out."
            raise QueueUnavailable(message)
        return await super().pin(tenant, group, lane, served_model)


async def test_adopted_answer_is_not_bound_by_the_caller(desk: Desk, question: LLMRequest) -> None:
    """An answer that belongs to a ticket is saved by a queue that is back in a moment, after the timeout as well."""
    desk.provider.hold()
    grouped = question.model_copy(update={"group": "batch-7"})
    async with LLMClient([desk.provider], Shaky(clock=desk.clock), desk.parts) as client:
        pending = await client.complete(grouped, timeout=0.05)
        assert isinstance(pending, Pending)
        desk.clock.advance(1.0)
        desk.provider.release()
        await desk.clock.run_for(5.0)
        assert isinstance(await client.result(pending.ticket.id), Completed)
    assert 1 == len(desk.provider.calls)
