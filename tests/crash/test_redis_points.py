"""A process that dies at any one of its calls of the server: another finishes, and nothing is lost or told twice."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

import anyio
from tests.crash.dying import KEYS, Doom, short, told
from tests.crash.history import TERMINAL, Fact, History
from tests.queues.redis_bench import namespace
from tests.queues.redis_server import RedisServer

PATIENCE: Final = 90.0
ROOT: Final = Path(__file__).parents[2]


async def test_death_at_any_call_loses_nothing(redis: RedisServer) -> None:
    """Before and after each call of submit, claim, extend, finish and relay: each ticket ends once, with one result."""
    doom = Doom(0, before=True)
    name = namespace()
    await told(redis.url, name, short, doom)
    with anyio.fail_after(PATIENCE):
        facts = await lines_of("-m", "tests.crash.dying", redis.url, name, str(doom.calls))
    assert [] == [fact for fact in facts if fact["what"] == "odd"]
    histories = defaultdict[str, History](History)
    for fact in facts[:-1]:
        histories[str(fact["run"])].add({key: value for key, value in fact.items() if key != "run"})
    assert 2 * doom.calls == len(histories)
    for history in histories.values():
        history.check()
        assert set(KEYS) == set(history.accepted())
        # The three tickets are all there are: none was stored twice.
        ended = {fact["ticket"] for fact in history.of("event") if fact["state"] in TERMINAL}
        assert set(history.accepted().values()) == ended


async def lines_of(*arguments: str) -> list[Fact]:
    """Run a process to its end and return what it reported."""
    done = await anyio.run_process([sys.executable, *arguments], cwd=ROOT, stderr=None)
    facts: list[Fact] = [json.loads(line) for line in done.stdout.splitlines()]
    return facts
