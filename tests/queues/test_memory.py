"""The queue in memory keeps the contract."""

from __future__ import annotations

from llm_gateway.options import QueueOptions
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.queue import QueueConformance


class TestMemoryQueue(QueueConformance):
    """The suite on the queue in memory."""

    async def make(self, options: QueueOptions) -> tuple[MemoryQueue, FakeClock]:
        clock = FakeClock()
        return MemoryQueue(options, clock=clock), clock
