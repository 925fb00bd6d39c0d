"""Fixtures of the end-to-end tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.e2e.places import KINDS, Place
from tests.faults.stage import LeapingClock
from tests.queues.redis_bench import namespace
from tests.queues.redis_server import BINARIES, RedisServer

from llm_gateway.testing import SimulatedProvider


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    """A provider on loopback."""
    async with SimulatedProvider() as simulated:
        yield simulated


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a server."""
    found = RedisServer(tmp_path_factory.mktemp("redis"), BINARIES[0]).start()
    yield found
    found.stop()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer, sim: SimulatedProvider) -> Place:
    """Give a place of each kind, in turn."""
    kind: str = request.param
    return Place(kind, tmp_path / "queue.db", server.url, sim, LeapingClock(), namespace())
