"""Who looks at a ticket learns that its time is over, though there is no worker to find out."""

from __future__ import annotations

from datetime import timedelta

from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._core.jobs import Swept
from llm_gateway.queues.memory import MemoryQueue


class Counting(MemoryQueue):
    """A queue that counts how often it is swept."""

    swept = 0

    async def sweep(self, limit: int = 100) -> Swept:
        """Count it."""
        self.swept += 1
        return await super().sweep(limit)


async def test_only_what_is_over_is_swept(desk: Desk, question: LLMRequest) -> None:
    """Looking at a ticket sweeps the queue when its time is over and it has not ended, and at no other time."""
    queue = Counting(clock=desk.clock)
    seen: list[tuple[str, int]] = []
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        ticket = (await client.submit(question.model_copy(update={"ttl": timedelta(seconds=30)}))).ticket.id
        for seconds in (29.0, 1.0, 1.0):
            desk.clock.advance(seconds)
            seen.append(((await client.status(ticket)).state.value, queue.swept))
    assert [("queued", 0), ("expired", 1), ("expired", 1)] == seen
