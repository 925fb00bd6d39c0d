"""When a live call leaves the probe to a queued job, and when there is none to leave it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._core.circuit import CircuitKey, Permit
from llm_gateway._core.jobs import Lane, LaneStats, Park
from llm_gateway._core.outcomes import WaitReason
from llm_gateway.errors import ProviderUnavailable
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeBreaker

LANE, OTHER = Lane("fake", "m-1"), Lane("fake", "m-2")


async def half_open(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Open the circuit and wait until it lets a probe through."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        with pytest.raises(ProviderUnavailable):
            await client.complete(question, when_unavailable="raise")
    desk.clock.advance(121.0)


async def park(desk: Desk) -> None:
    """Leave the lane to an operator, with one job ready."""
    (lease,) = await desk.queue.claim(LANE, 1, worker="w", lease_seconds=600.0, claim_id="c")
    await desk.queue.finish(lease, Park(reason=WaitReason.NEEDS_OPERATOR))


async def take_all(desk: Desk) -> None:
    """Let another worker run both jobs."""
    assert 2 == len(await desk.queue.claim(LANE, 2, worker="w", lease_seconds=600.0, claim_id="c"))


async def pause(desk: Desk) -> None:
    """Leave the lane to an operator who wants it so."""
    await desk.queue.pause(LANE)


@pytest.mark.parametrize("how", [park, take_all, pause], ids=["parked", "none ready", "paused"])
async def test_lane_has_no_probe(
    desk: Desk, client: LLMClient, question: LLMRequest, how: Callable[[Desk], Awaitable[None]]
) -> None:
    """A lane that is parked or paused, or has no job ready, has no probe to offer, and the live call goes itself."""
    await client.submit_many([question] * 2)
    await how(desk)
    await half_open(desk, client, question)
    await desk.queue.heartbeat("worker-1", [LANE])
    assert isinstance(await client.complete(question), Completed)


async def test_one_ready_job_is_enough(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The live call leaves the probe to a single job, and asks nobody."""
    await client.submit(question)
    await half_open(desk, client, question)
    await desk.queue.heartbeat("worker-1", [LANE])
    before = len(desk.provider.calls)
    assert isinstance(await client.complete(question), Pending)
    assert before == len(desk.provider.calls)


async def test_no_queue_has_no_probe(desk: Desk, question: LLMRequest) -> None:
    """Without a queue the live call is the probe."""
    async with desk.client(queue=False) as client:
        await half_open(desk, client, question)
        assert isinstance(await client.complete(question), Completed)


async def test_other_lane_is_no_probe(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A job of another model shows nothing of this one."""
    await client.submit(question.model_copy(update={"model": OTHER.model}))
    await half_open(desk, client, question)
    await desk.queue.heartbeat("worker-1", [OTHER])
    assert isinstance(await client.complete(question), Completed)


class Silent(MemoryQueue):
    """A queue that does not tell of its lanes, nor that it will not."""

    asked: asyncio.Event

    async def lanes(self) -> list[LaneStats]:
        """Never return."""
        self.asked.set()
        await asyncio.Event().wait()
        return []


async def test_cancelled_while_it_looks(desk: Desk, question: LLMRequest) -> None:
    """A caller that leaves while the queue is asked for a better probe gives the permit back."""
    breaker, queue = FakeBreaker(), Silent(clock=desk.clock)
    queue.asked = asyncio.Event()
    key = CircuitKey(desk.provider.endpoint, LANE)
    breaker.script(Permit(key=key, model_epoch=0, endpoint_epoch=0, probe="p"))
    async with LLMClient([desk.provider], queue, replace(desk.parts, breaker=breaker)) as client:
        asked = asyncio.create_task(client.complete(question))
        await queue.asked.wait()
        asked.cancel()
        await asyncio.wait({asked})
    assert (True, 0, []) == (asked.cancelled(), breaker.out, desk.provider.calls)
