"""The command on a queue in Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.stage import Stage
from tests.queues.redis_server import NEWEST, RedisServer


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps its file."""
    server = RedisServer(tmp_path / "redis", NEWEST, "--appendonly", "yes", "--appendfsync", "always").start()
    yield server
    server.stop()


async def test_drains_and_examines(stage: Stage, redis: RedisServer) -> None:
    """A worker drains it, an operator sees that, and the doctor shows what the server was found to be."""
    fleet = stage.having(LLM_GATEWAY_REDIS_URL=redis.url)
    tickets = await fleet.submitted(3)
    assert (0, 3) == ((await fleet.ran("worker", "--until-empty")).code, stage.sim.call_count)
    assert ["completed"] * 3 == await fleet.states(tickets)
    listed = (await fleet.ran("queue", "list", "--json")).rows("tickets")
    assert set(tickets) == {ticket["ticket_id"] for ticket in listed}
    checks = {check["name"]: check["level"] for check in (await fleet.ran("doctor", "--json")).rows("checks")}
    assert {"queue.open": "ok", "appendfsync": "ok"} == {name: checks[name] for name in ("queue.open", "appendfsync")}


async def test_server_is_gone(stage: Stage, redis: RedisServer) -> None:
    """A server that does not answer is one line and exit code 1, and a failure to the doctor."""
    fleet = stage.having(LLM_GATEWAY_REDIS_URL=redis.url)
    redis.stop()
    done = await fleet.ran("queue", "stats")
    assert (1, "", 1) == (done.code, done.out, done.err.count("\n"))
    examined = await fleet.ran("doctor", "--json")
    assert (1, False) == (examined.code, examined.document["ok"])
