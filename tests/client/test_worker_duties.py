"""A worker sweeps all that is due, and gives back what it was given too much."""

from __future__ import annotations

from tests.client.desk import Desk

from llm_gateway import Completed, LLMClient, LLMRequest
from llm_gateway._core.jobs import Disposition, FinishReply, Lane, Lease, Release, Swept
from llm_gateway.errors import QueueUnavailable
from llm_gateway.queues.memory import MemoryQueue


class Laden(MemoryQueue):
    """A queue with more to sweep than one sweep takes."""

    left = 3
    swept = 0

    async def sweep(self, limit: int = 100) -> Swept:
        self.swept += 1
        self.left -= self.left > 0
        return Swept(more=self.left > 0)


async def test_sweeps_until_nothing_is_left(desk: Desk) -> None:
    """What has come due is ended as fast as the queue can, not a lot of it every few seconds."""
    queue = Laden(clock=desk.clock)
    async with LLMClient([desk.provider], queue, desk.parts) as client, client.worker():
        await desk.clock.run_for(1.0)
        assert 3 == queue.swept


class Lavish(MemoryQueue):
    """A queue that gives out one job more than it is asked for, and takes none back."""

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        return await super().claim(lane, count + 1, worker=worker, lease_seconds=lease_seconds, claim_id=claim_id)

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        if isinstance(disposition, Release):
            message = "The queue is out."
            raise QueueUnavailable(message)
        return await super().finish(lease, disposition)


async def test_surplus_that_cannot_go_back(desk: Desk, question: LLMRequest) -> None:
    """A job too many that the queue does not take back keeps those that were wanted from nothing."""
    queue = Lavish(clock=desk.clock)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        tickets = [(await client.submit(question)).ticket.id for _ in range(2)]
        async with client.worker(concurrency=1):
            assert isinstance(await client.result(tickets[0], timeout=5.0), Completed)
