"""A few rounds of everything at once leave each queue as they found it. `make soak` does the same for longer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.queues.redis_bench import QUICK
from tests.queues.redis_server import BINARIES, RedisServer
from tests.queues.soak import OPTIONS, Reading, Soak, growth
from tests.queues.soak_redis import RedisCensus
from tests.queues.soak_sqlite import FileCensus

from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.sqlite import SqliteQueue

JOBS = 150
ROUNDS = 3
KIB = 1024
PREFIX = "{soak:0}:"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a server that holds nothing else."""
    own = RedisServer(tmp_path, BINARIES[0]).start()
    yield own
    own.stop()


async def test_redis_is_left_as_it_was_found(server: RedisServer) -> None:
    """No key is without time to live or index, and neither keys nor memory grow from round to round."""
    brief = QUICK.model_copy(update={"reply_timeout": 1.0})
    queue, census = (
        RedisQueue(server.url, OPTIONS, namespace="soak", redis=brief, strict=False),
        RedisCensus(server.url, PREFIX),
    )
    await queue.start(outbox=True)
    try:
        soak = Soak(queue, census, jobs=JOBS)
        readings = [reading async for reading in soak.rounds(lambda done: done < ROUNDS)]
        assert [] == growth(readings, slack=64 * KIB, resident_slack=16 * KIB * KIB)
        assert JOBS * ROUNDS == readings[-1].jobs
    finally:
        await queue.aclose()
        await census.aclose()


async def test_file_is_left_as_it_was_found(tmp_path: Path) -> None:
    """No row is one that no sweep comes to, and the rows do not grow from round to round."""
    path = tmp_path / "queue.db"
    queue = SqliteQueue(path, OPTIONS)
    await queue.start(outbox=True)
    try:
        soak = Soak(queue, FileCensus(path), jobs=JOBS)
        readings = [reading async for reading in soak.rounds(lambda done: done < ROUNDS)]
        assert [] == growth(readings, slack=512 * KIB, resident_slack=16 * KIB * KIB)
    finally:
        await queue.aclose()


FLAT = Reading(jobs=1, kinds={"j": 1}, elements=5, bytes=100, log=1, resident=1_000, strays=())


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (FLAT, []),
        (replace(FLAT, kinds={"j": 2}), ["j: 1 at first, 2 in the end"]),
        (replace(FLAT, kinds={"j": 1, "l": 1}), ["l: 0 at first, 1 in the end"]),
        (replace(FLAT, elements=6), ["elements: 5 at first, 6 in the end"]),
        (replace(FLAT, bytes=110), []),
        (replace(FLAT, bytes=111), ["bytes: 100 at first, 111 in the end"]),
        (replace(FLAT, resident=1_021), ["resident: 1000 at first, 1021 in the end"]),
        (replace(FLAT, strays=("x",)), ["stray: x"]),
    ],
)
def test_growth_is_told(last: Reading, told: list[str]) -> None:
    """What grew after the first rounds is named, with both figures."""
    assert told == growth([FLAT, FLAT, last], slack=10, resident_slack=20)
