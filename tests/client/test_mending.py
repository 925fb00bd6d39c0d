"""Accounts that were mended, and their lanes: which go on, and which must not."""

from __future__ import annotations

import asyncio

import pytest
from tests.client.desk import Desk

from llm_gateway import Completed, LLMClient, LLMRequest
from llm_gateway._core.jobs import Lane, LaneStats
from llm_gateway._facts import Fault
from llm_gateway.errors import ErrorInfo, ModelNotFound, QueueUnavailable, QuotaExhausted
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeProvider

QUOTA = QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA))
NO_MODEL = ModelNotFound("Gone.", info=ErrorInfo(fault=Fault.MODEL_NOT_FOUND))


class Halting(MemoryQueue):
    """A queue that can be made to hold on while it tells of its lanes.

    Attributes:
        asked: Set once somebody waits.
        fails: Whether it fails when it goes on.
    """

    asked: asyncio.Event
    go_on: asyncio.Event
    fails = False

    def halt(self) -> None:
        """Hold on from now on."""
        self.asked.clear()
        self.go_on.clear()

    async def lanes(self) -> list[LaneStats]:
        """Tell, or fail once."""
        self.asked.set()
        await self.go_on.wait()
        if self.fails:
            self.fails = False
            message = "The queue is out."
            raise QueueUnavailable(message)
        return await super().lanes()

    async def parked(self) -> list[str | None]:
        """Tell for what each lane is parked."""
        return [stats.gate.parked for stats in await super().lanes()]


@pytest.fixture
def queue(desk: Desk) -> Halting:
    """A queue that does not hold on yet."""
    queue = Halting(clock=desk.clock)
    queue.asked, queue.go_on = asyncio.Event(), asyncio.Event()
    queue.go_on.set()
    return queue


async def parked(desk: Desk, client: LLMClient, *questions: LLMRequest) -> None:
    """Let a worker park the lane of each question, and wait until the accounts may be tried again."""
    for question in questions:
        await client.submit(question)
    async with client.worker():
        await desk.clock.run_for(1.0)
    desk.clock.advance(900.0)


async def test_mended_while_mirroring_fails(desk: Desk, queue: Halting, question: LLMRequest) -> None:
    """An account that is mended while the queue fails to be told of another one is not forgotten."""
    other = FakeProvider("other", endpoint="other.test", key_id="k-other")
    both = question, question.model_copy(update={"provider": "other"})
    desk.provider.script(QUOTA)
    other.script(QUOTA)
    async with LLMClient([desk.provider, other], queue, desk.parts) as client:
        await parked(desk, client, *both)
        before = await queue.parked()
        queue.halt()
        queue.fails = True
        assert isinstance(await client.complete(both[0]), Completed)
        await queue.asked.wait()
        assert isinstance(await client.complete(both[1]), Completed)
        queue.go_on.set()
        await desk.clock.run_for(2.0)
        assert (["needs_operator"] * 2, [None] * 2) == (before, await queue.parked())


async def test_mended_account_lets_only_its_own_lanes_go(desk: Desk, queue: Halting, question: LLMRequest) -> None:
    """A lane of another account, whose model nobody serves, stays parked."""
    other = FakeProvider("other", endpoint="other.test", key_id="k-other")
    both = question, question.model_copy(update={"provider": "other"})
    desk.provider.script(QUOTA)
    other.script(NO_MODEL)
    async with LLMClient([desk.provider, other], queue, desk.parts) as client:
        await parked(desk, client, *both)
        assert isinstance(await client.complete(both[0]), Completed)
        await desk.clock.run_for(2.0)
        assert [None, "needs_operator"] == await queue.parked()


async def test_broken_again_before_the_queue_is_told(desk: Desk, queue: Halting, question: LLMRequest) -> None:
    """An account that was mended and is latched anew by the time its lanes are looked at keeps them parked."""
    desk.provider.script(QUOTA, "mended", QUOTA)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        await parked(desk, client, question)
        queue.halt()
        assert isinstance(await client.complete(question), Completed)
        await queue.asked.wait()
        with pytest.raises(QuotaExhausted):
            await client.complete(question)
        queue.go_on.set()
        await desk.clock.run_for(2.0)
        assert ["needs_operator"] == await queue.parked()


async def test_latched_worker_leaves_a_parked_lane(desk: Desk, queue: Halting, question: LLMRequest) -> None:
    """A worker whose account is latched does not let go what another process parked until a canary is due."""
    desk.provider.script(QUOTA, QUOTA)
    async with LLMClient([desk.provider], queue, desk.parts) as gone:
        await parked(desk, gone, question)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        with pytest.raises(QuotaExhausted):
            await client.complete(question)
        async with client.worker():
            await desk.clock.run_for(60.0)
            waiting = await queue.parked()
            await desk.clock.run_for(900.0)
    assert (["needs_operator"], [], 3) == (waiting, await queue.parked(), len(desk.provider.calls))


async def test_latched_account_gives_one_job(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Of a latched account one job is claimed as the canary; those beside it would only be parked."""
    desk.provider.script(QUOTA)
    with pytest.raises(QuotaExhausted):
        await client.complete(question)
    desk.clock.advance(900.0)
    desk.provider.hold()
    await client.submit_many([question] * 6)
    async with client.worker(concurrency=5) as worker:
        await desk.provider.wait_for_calls(2)
        await desk.clock.run_for(30.0)
        (stats,) = await desk.queue.lanes()
        assert (1, 5, None) == (worker.running, stats.ready, stats.gate.parked)
        desk.provider.release()
        await desk.provider.wait_for_calls(7)


async def test_foreign_lane_does_not_stop_the_mirror(desk: Desk, queue: Halting, question: LLMRequest) -> None:
    """A lane whose provider is not configured here has no circuit here, and those behind it are mirrored."""
    other = FakeProvider("other", endpoint="other.test", key_id="k-other")
    async with LLMClient([other], queue, desk.parts) as stranger, LLMClient([desk.provider], queue, desk.parts) as own:
        await stranger.submit(question.model_copy(update={"provider": "other"}))
        await own.submit(question)
        await own.complete(question)
        desk.breaker.force_open(Lane("fake", "m-1"))
        await desk.clock.run_for(1.0)
        assert {"other": "closed", "fake": "open"} == {
            stats.lane.provider: stats.gate.circuit for stats in await queue.lanes()
        }
