"""A server for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.queues.redis_server import BINARIES, RedisServer


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give one server that keeps its file."""
    config = ("--appendonly", "yes", "--appendfsync", "always")
    server = RedisServer(tmp_path_factory.mktemp("redis"), BINARIES[0], *config).start()
    yield server
    server.stop()
