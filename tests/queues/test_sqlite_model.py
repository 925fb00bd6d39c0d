"""The queue in a file agrees with the model."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings

from llm_gateway.options import QueueOptions
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.model import QueueMachine


class SqliteMachine(QueueMachine):
    """The model on the queue in a file."""

    async def make(self, options: QueueOptions) -> tuple[SqliteQueue, FakeClock]:
        self.folder = TemporaryDirectory()
        clock = FakeClock()
        return SqliteQueue(Path(self.folder.name) / "queue.db", options, clock=clock), clock

    async def dispose(self) -> None:
        self.folder.cleanup()


TestSqliteModel = SqliteMachine.TestCase
TestSqliteModel.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
