"""In production, over real HTTP and a real file: what was asked and answered stands nowhere in the file or the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr
from tests.codecs.stores import NEW, OLD
from tests.faults.stage import KEY, MODELS
from tests.queues.files import content

from llm_gateway import Completed, LLMClient, LLMRequest, Settings, TicketEvent
from llm_gateway.codecs.aesgcm import AesGcmCodec
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import TicketFailed
from llm_gateway.protocols import PayloadCodec
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.wiring import wire

QUESTION: Final = "the quiet heron folded seven umbrellas"
ANSWER: Final = "nine violet kettles hummed at noon"
CANARIES: Final = (QUESTION, ANSWER, "violet kettles", NEW, OLD, KEY)


class Log(logging.Handler):
    """Keeps every record in full."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Iterator[Log]:
    """The logs of all libraries, at DEBUG."""
    log, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    yield log
    root.removeHandler(log)
    root.setLevel(level)


def found(path: Path, log: Log) -> list[str]:
    """Tell which canaries stand in the file, in those beside it, or in the log."""
    stored, told = content(path), "\n".join(log.lines)
    return [canary for canary in CANARIES if canary.encode() in stored or canary in told]


def production(sim: SimulatedProvider, queue: SqliteQueue, codec: PayloadCodec) -> LLMClient:
    """Build a client as production does, on a file."""
    wired = wire(Settings(openai_api_key=SecretStr(KEY), openai_base_url=sim.openai_url, queue="none"))
    parts = replace(wired.parts, codec=codec, allow_plaintext_queue=not codec.sealed)
    return LLMClient(wired.providers, queue, parts, on_event=ignore)


def ignore(event: TicketEvent) -> None:
    """Acknowledge an event."""


async def work(sim: SimulatedProvider, client: LLMClient, path: Path, log: Log) -> list[str]:
    """Answer one request, let another fail, requeue it, and tell what could be read at any time."""
    asked = LLMRequest(provider="openai", model=MODELS["openai"], system=QUESTION, prompt=QUESTION * 3)
    leaks: list[str] = []
    async with client:
        sim.script(None, Faults.CONTEXT_TOO_LONG)
        done, dead = [(await client.submit(asked)).ticket.id for _ in range(2)]
        leaks += found(path, log)
        async with client.worker(concurrency=1):
            outcome = await client.result(done, timeout=20)
            assert isinstance(outcome, Completed)
            assert ANSWER == outcome.response.text
            leaks += found(path, log)
            with pytest.raises(TicketFailed):
                await client.result(dead, timeout=20)
            outcome = await client.result((await client.requeue(dead)).ticket.id, timeout=20)
            assert isinstance(outcome, Completed)
        assert path.with_name(f"{path.name}-wal").stat().st_size > 0
        leaks += found(path, log)
    return leaks + found(path, log)


async def test_sealed(tmp_path: Path, log: Log) -> None:
    """Neither request nor answer nor key can be found in file, write-ahead log or log lines, whatever becomes of it."""
    path = tmp_path / "tickets.db"
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim:
        queue = SqliteQueue(path)
        client = production(sim, queue, AesGcmCodec([NEW, OLD], queue))
        assert [] == await work(sim, client, path, log)


async def test_the_search_would_find_it(tmp_path: Path, log: Log) -> None:
    """Without sealing, the same search finds request and answer in the file."""
    path = tmp_path / "tickets.db"
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim:
        leaks = await work(sim, production(sim, SqliteQueue(path), PlainCodec()), path, log)
    assert {QUESTION, ANSWER} <= set(leaks)


async def test_two_processes_share_keys(tmp_path: Path, sim: SimulatedProvider) -> None:
    """What one process of a host sealed, another one opens: the keys lie in the file with the tickets."""
    path = tmp_path / "tickets.db"
    one, other = SqliteQueue(path), SqliteQueue(path)
    asked = LLMRequest(provider="openai", model=MODELS["openai"], prompt=QUESTION)
    async with (
        production(sim, one, AesGcmCodec([NEW], one)) as client,
        production(sim, other, AesGcmCodec([NEW], other)) as worker,
    ):
        tickets = [(await client.for_tenant(name).submit(asked)).ticket.id for name in ("a", "b")]
        async with worker.worker():
            outcomes = [
                await client.for_tenant(name).result(ticket, timeout=20)
                for name, ticket in zip(("a", "b"), tickets, strict=True)
            ]
    assert [Completed, Completed] == [type(outcome) for outcome in outcomes]
