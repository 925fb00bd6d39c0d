"""What becomes of a try when the caller's time is over: a ticket takes it over, or it is stopped."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from dataclasses import replace
from typing import TypeVar

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import LLMClient, LLMRequest, Pending
from llm_gateway._core.jobs import AdoptedBy, Enqueued, NewJob
from llm_gateway._core.observations import ObservationKind
from llm_gateway._facts import Fault
from llm_gateway.errors import DeadlineExceeded
from llm_gateway.options import RetryOptions
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
