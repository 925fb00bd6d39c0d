"""Other processes on a queue file, and the queue as this one opens it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from subprocess import PIPE

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from llm_gateway._null import SystemClock
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import Bench

__all__ = ["PATIENCE", "EarlyClock", "Other", "bench", "process"]

PATIENCE = 60.0
LINE = 400
AHEAD = 3_600.0


class EarlyClock(Clock):
    """The machine's own time, but for a monotonic clock that is ahead: to it every other process's lease has lapsed."""

    def __init__(self) -> None:
        self._real = SystemClock()

    def monotonic(self) -> float:
        return self._real.monotonic() + AHEAD

    def now(self) -> datetime:
        return self._real.now()

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)


class NowClock(FakeClock):
    """A clock that starts at the real time, as the bench needs one of its kind to describe jobs."""

    def __init__(self) -> None:
        super().__init__(SystemClock().now())


@dataclass(slots=True)
class Other:
    """Another process."""

    process: Process
    lines: BufferedByteReceiveStream

    async def line(self) -> list[str]:
        """Return the words of its next line."""
        return (await self.lines.receive_until(b"\n", LINE)).decode().split()

    async def go(self) -> None:
        """Tell it to go on."""
        assert self.process.stdin is not None
        await self.process.stdin.send(b"\n")

    async def rest(self) -> list[list[str]]:
        """Return its remaining lines."""
        found: list[list[str]] = []
        while True:
            try:
                found.append(await self.line())
            except (anyio.EndOfStream, anyio.IncompleteRead):
                return found


@asynccontextmanager
async def process(script: Path, *arguments: str) -> AsyncGenerator[Other]:
    """Start another process; it is killed at the latest at the end."""
    command = [sys.executable, str(script), *arguments]
    async with await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None) as started:
        assert started.stdout is not None
        try:
            yield Other(started, BufferedByteReceiveStream(started.stdout))
        finally:
            if started.returncode is None:
                started.kill()


@asynccontextmanager
async def bench(path: Path, *, clock: Clock | None = None) -> AsyncGenerator[Bench]:
    """Open the queue in this process."""
    queue = SqliteQueue(path, QueueOptions(max_crashes=50), clock=clock)
    await queue.start(outbox=True)
    try:
        with anyio.fail_after(PATIENCE):
            yield Bench(queue, NowClock(), count(1))
    finally:
        await queue.aclose()
