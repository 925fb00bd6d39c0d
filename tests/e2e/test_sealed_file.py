"""In production, over real HTTP and a real file: what was asked and answered stands nowhere in the file or the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr
from tests.codecs.stores import NEW, OLD
from tests.faults.stage import KEY, MODELS
from tests.queues.files import content

from llm_gateway import Completed, ConfigurationError, LLMClient, LLMRequest, Settings, TicketEvent
from llm_gateway.errors import TicketFailed
from llm_gateway.testing import Faults, SimulatedProvider

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


def production(sim: SimulatedProvider, path: Path, *keys: str) -> LLMClient:
    """Build a client as production does, from settings, on a file; without keys it says aloud that it does not seal."""
    settings = Settings(
        openai_api_key=SecretStr(KEY),
        openai_base_url=sim.openai_url,
        queue_path=path,
        queue_keys=tuple(map(SecretStr, keys)),
        allow_plaintext_queue=not keys,
    )
    return LLMClient.from_settings(settings, on_event=ignore)


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
        assert [] == await work(sim, production(sim, path, NEW, OLD), path, log)


async def test_the_search_would_find_it(tmp_path: Path, log: Log) -> None:
    """Without sealing, the same search finds request and answer in the file."""
    path = tmp_path / "tickets.db"
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim:
        leaks = await work(sim, production(sim, path), path, log)
    assert {QUESTION, ANSWER} <= set(leaks)


async def test_two_processes_share_keys(tmp_path: Path, sim: SimulatedProvider) -> None:
    """What one process of a host sealed another one opens, also while the keys are rotated step by step."""
    path = tmp_path / "tickets.db"
    asked = LLMRequest(provider="openai", model=MODELS["openai"], prompt=QUESTION)
    steps = [([OLD], [OLD]), ([OLD], [OLD, NEW]), ([OLD, NEW], [NEW, OLD]), ([NEW, OLD], [NEW]), ([NEW], [NEW])]
    for submits, works in steps:
        async with production(sim, path, *submits) as client, production(sim, path, *works) as worker:
            tickets = [(await client.for_tenant(name).submit(asked)).ticket.id for name in ("a", "b")]
            async with worker.worker():
                for name, ticket in zip(("a", "b"), tickets, strict=True):
                    outcome = await client.for_tenant(name).result(ticket, timeout=20)
                    assert isinstance(outcome, Completed)


async def test_production_refuses_plain_text(tmp_path: Path, sim: SimulatedProvider) -> None:
    """A file without keys is refused in production, and the refusal names the setting that seals."""
    settings = Settings(openai_api_key=SecretStr(KEY), openai_base_url=sim.openai_url, queue_path=tmp_path / "q.db")
    with pytest.raises(ConfigurationError, match="LLM_GATEWAY_QUEUE_KEYS"):
        LLMClient.from_settings(settings)
