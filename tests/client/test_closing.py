"""Leases end as their calls did, also when whoever waits for that goes away."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._core.jobs import Disposition, FinishReply, Lease
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeCodec
from llm_gateway.testing.clock import settle


class Remote(MemoryQueue):
    """A queue that takes its time to end a lease, as one across a network does."""

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """Let many others go first."""
        for _ in range(10):
            await settle()
        return await super().finish(lease, disposition)


class StuckCodec(FakeCodec):
    """Opens nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Never return."""
        self.reached.set()
        await asyncio.Event().wait()
        return data


async def test_closing_waits_for_what_is_handed_back(desk: Desk, question: LLMRequest) -> None:
    """A client closes when the queue has taken back the jobs of its stopped worker, not before."""
    codec, queue = StuckCodec(), Remote(clock=desk.clock)
    async with LLMClient([desk.provider], queue, replace(desk.parts, codec=codec)) as client:
        ticket = (await client.submit(question)).ticket.id
        async with client.worker(drain_timeout=0):
            await codec.reached.wait()
    job = await queue.get("", ticket)
    assert ("queued", "shutdown", 0) == (job.state, job.reason, job.crashes)


class Halting(MemoryQueue):
    """A queue that ends a lease when it is told to."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(clock=desk.clock)
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """Wait first."""
        self.reached.set()
        await self.go_on.wait()
        return await super().finish(lease, disposition)


async def test_settling_outlives_its_worker(desk: Desk, question: LLMRequest) -> None:
    """An answer that is being stored is stored, though the task that had asked for it is cancelled meanwhile."""
    queue = Halting(desk)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        ticket = (await client.submit(question)).ticket.id
        async with client.worker():
            await queue.reached.wait()
            (job,) = [task for task in asyncio.all_tasks() if f"job {ticket}" in task.get_name()]
            job.cancel()
            await asyncio.wait({job})
            queue.go_on.set()
            await settle()
            assert "completed" == (await client.status(ticket)).state


class Noting(MemoryQueue):
    """A queue that notes how leases are ended."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(clock=desk.clock)
        self.endings: list[Disposition] = []

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """Note it."""
        self.endings.append(disposition)
        return await super().finish(lease, disposition)


async def test_lost_lease_is_not_ended(desk: Desk, question: LLMRequest) -> None:
    """A lease that was lost while the call ran is left alone: whoever has the job now ends it."""
    queue = Noting(desk)
    desk.provider.hold()
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        ticket = (await client.submit(question)).ticket.id
        async with client.worker() as worker:
            await desk.provider.wait_for_calls(1)
            await client.cancel(ticket)
            await settle()
            assert (0, []) == (worker.running, queue.endings)
