"""The queue in memory agrees with the model."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from llm_gateway.options import QueueOptions
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.model import QueueMachine


class MemoryMachine(QueueMachine):
    """The model on the queue in memory."""

    async def make(self, options: QueueOptions) -> tuple[MemoryQueue, FakeClock]:
        clock = FakeClock()
        return MemoryQueue(options, clock=clock), clock


TestMemoryModel = MemoryMachine.TestCase
TestMemoryModel.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
