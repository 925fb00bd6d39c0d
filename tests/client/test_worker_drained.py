"""A worker can tell when nothing is left that it could do."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.client.desk import Desk, outage

from llm_gateway import Lane, LLMClient, LLMRequest
from llm_gateway._facts import Fault
from llm_gateway.errors import ErrorInfo, QuotaExhausted
from llm_gateway.testing import FakeProvider

LANE = Lane("fake", "m-1")


async def ended(waiting: asyncio.Task[None]) -> bool:
    """Whether it has ended, given the turns of the event loop that it needs."""
    await asyncio.wait({waiting}, timeout=0.05)
    return waiting.done()


async def test_empty_once_all_is_done(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """It is not empty while a call runs, and is when that has ended."""
    desk.provider.hold()
    await client.submit(question)
    async with client.worker() as worker:
        waiting = asyncio.create_task(worker.drained())
        await desk.provider.wait_for_calls(1)
        assert not await ended(waiting)
        desk.provider.release()
        await waiting


async def test_waits_for_delayed_and_for_other_workers(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """What waits for its time, and what another worker holds, is still to be done."""
    desk.provider.script(outage(Fault.RATE_LIMITED, retry_after=60.0))
    await client.submit(question)
    (elsewhere,) = [await client.submit(question.model_copy(update={"model": "m-2"}))]
    (lease,) = await desk.queue.claim(Lane("fake", "m-2"), 1, worker="w", lease_seconds=600.0, claim_id="c")
    async with client.worker() as worker:
        waiting = asyncio.create_task(worker.drained())
        await desk.clock.run_for(120.0)
        assert not waiting.done()
        await client.cancel(elsewhere.ticket.id)
        assert lease.job.ticket_id == elsewhere.ticket.id
        await desk.clock.run_for(10.0)
        await waiting


async def test_waits_for_an_outage(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A lane whose circuit is open will heal by itself, and is waited for."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    async with client.worker() as worker:
        waiting = asyncio.create_task(worker.drained())
        await desk.clock.run_for(60.0)
        assert not waiting.done()
        await desk.clock.run_for(120.0)
        await waiting


async def test_does_not_wait_for_operators(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Paused lanes, parked lanes and providers without a key here are not waited for."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
    async with LLMClient([FakeProvider("stranger")], desk.queue, replace(desk.parts)) as other:
        await other.submit(question.model_copy(update={"provider": "stranger"}))
        await client.submit(question)
        await client.submit(question.model_copy(update={"model": "m-2"}))
        await desk.queue.pause(Lane("fake", "m-2"))
        async with client.worker() as worker:
            waiting = asyncio.create_task(worker.drained())
            await desk.clock.run_for(10.0)
            await waiting
        assert (await client.health()).depth == 3


async def test_parked_lane_is_tried_before_it_is_given_up(desk: Desk, question: LLMRequest) -> None:
    """A lane that a process now gone had parked is tried once more before the worker calls it empty."""
    parts = desk.parts
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        await client.submit(question)
        desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
        async with client.worker():
            await desk.clock.run_for(10.0)
    async with LLMClient([desk.provider], desk.queue, parts) as fresh:
        desk.provider.hold()
        async with fresh.worker() as worker:
            waiting = asyncio.create_task(worker.drained())
            await desk.provider.wait_for_calls(2)
            assert not waiting.done()
            desk.provider.release()
            await waiting
        assert ((await fresh.health()).depth, len(desk.provider.calls)) == (0, 2)
