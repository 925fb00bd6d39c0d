"""A queue file, a provider on loopback, and the command as a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import PIPE
from typing import Final, cast

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from pydantic import SecretStr

from llm_gateway import Environment, LLMClient, LLMRequest, Pending, Settings
from llm_gateway.testing import SimulatedProvider

__all__ = ["KEY", "LANE", "PATIENCE", "Done", "Running", "Stage"]

KEY: Final = "sk-test-key"
LANE: Final = "openai/gpt-4o"
PATIENCE: Final = 20.0
LINE: Final = 10_000


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, object]:
        """The one JSON document that it printed."""
        return cast("dict[str, object]", json.loads(self.out))

    def rows(self, name: str) -> list[dict[str, object]]:
        """Return a list of the printed document."""
        return cast("list[dict[str, object]]", self.document[name])


@dataclass(slots=True)
class Running:
    """A command that runs; its log is read line by line."""

    process: Process
    lines: BufferedByteReceiveStream
    log: list[str] = field(default_factory=list[str])

    async def line(self, part: str) -> str:
        """Read the log up to the first line that holds *part*."""
        while True:
            self.log.append((await self.lines.receive_until(b"\n", LINE)).decode())
            if part in self.log[-1]:
                return self.log[-1]

    async def rest(self) -> str:
        """Read the log to its end, which comes when every process that writes to it has ended."""
        try:
            while True:
                self.log.append((await self.lines.receive_until(b"\n", LINE)).decode())
        except (anyio.EndOfStream, anyio.IncompleteRead):
            return "".join(self.log)

    async def ended(self) -> tuple[int, str]:
        """Return the exit code and the whole log."""
        log = await self.rest()
        return await self.process.wait(), log


@dataclass(frozen=True, slots=True)
class Stage:
    """What a test of the command works with."""

    sim: SimulatedProvider
    file: Path
    program: tuple[str, ...] = ("-m", "llm_gateway")
    settings: Mapping[str, str] = field(default_factory=dict[str, str])

    def having(self, **settings: str) -> Stage:
        """Return it with other variables in the environment."""
        return replace(self, settings={**self.settings, **settings})

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the command."""
        return {
            "PATH": os.environ["PATH"],
            "PYTHONWARNINGS": "error",
            "ENVIRONMENT": "testing",
            "LLM_GATEWAY_QUEUE_PATH": str(self.file),
            "LLM_GATEWAY_OPENAI_API_KEY": KEY,
            "LLM_GATEWAY_OPENAI_BASE_URL": self.sim.openai_url,
            "LLM_GATEWAY_WORKER__SWEEP_SECONDS": "0.1",
            **self.settings,
        }

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[LLMClient]:
        """Open a client on the same queue and provider, in this process."""
        redis = self.settings.get("LLM_GATEWAY_REDIS_URL")
        settings = Settings(
            environment=Environment.TESTING,
            openai_api_key=SecretStr(KEY),
            openai_base_url=self.sim.openai_url,
            queue_path=self.file,
            queue_keys=tuple(map(SecretStr, filter(None, [self.settings.get("LLM_GATEWAY_QUEUE_KEYS")]))),
            redis_url=None if redis is None else SecretStr(redis),
        )
        async with LLMClient.from_settings(settings) as opened:
            yield opened

    async def submitted(self, count: int, *, model: str = "gpt-4o", group: str | None = None) -> list[str]:
        """Submit requests; return their tickets."""
        requests = [
            LLMRequest(provider="openai", model=model, prompt=f"Which is better, {each}?", group=group)
            for each in range(count)
        ]
        async with self.client() as client:
            pending = await client.submit_many(requests)
        return [one.ticket.id for one in pending if isinstance(one, Pending)]

    async def states(self, tickets: list[str]) -> list[str]:
        """Tell where tickets stand."""
        async with self.client() as client:
            return [(await client.status(ticket)).state.value for ticket in tickets]

    async def ran(self, *arguments: str) -> Done:
        """Run the command to its end."""
        command = [sys.executable, *self.program, *arguments]
        with anyio.fail_after(PATIENCE):
            done = await anyio.run_process(command, env=self.environment, check=False)
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncGenerator[Running]:
        """Run the command while the block runs; what is left of it is stopped then."""
        command = [sys.executable, *self.program, *arguments]
        process = await anyio.open_process(
            command, env=self.environment, stdin=PIPE, stdout=None, stderr=PIPE, start_new_session=True
        )
        async with process:
            assert process.stderr is not None
            try:
                with anyio.fail_after(PATIENCE):
                    yield Running(process, BufferedByteReceiveStream(process.stderr))
            finally:
                if process.returncode is None:
                    process.send_signal(signal.SIGKILL)
