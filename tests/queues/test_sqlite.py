"""The queue in a file keeps the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_gateway.options import QueueOptions
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.queue import QueueConformance


class TestSqliteQueue(QueueConformance):
    """The suite on the queue in a file."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "queue.db"

    async def make(self, options: QueueOptions) -> tuple[SqliteQueue, FakeClock]:
        clock = FakeClock()
        return SqliteQueue(self.path, options, clock=clock), clock
