"""Servers that the tests of the queues share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.queues.redis_server import BINARIES, RedisServer


@pytest.fixture(scope="session", params=BINARIES, ids=lambda binary: Path(binary).parents[1].name)
def every_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give each server there is, in turn."""
    binary: str = request.param
    server = RedisServer(tmp_path_factory.mktemp("redis"), binary).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give one server that keeps its file."""
    config = ("--appendonly", "yes", "--appendfsync", "always")
    server = RedisServer(tmp_path_factory.mktemp("redis"), BINARIES[0], *config).start()
    yield server
    server.stop()
