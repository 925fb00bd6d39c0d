"""Queues that production keeps its tickets in, and clients on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr
from tests.faults.stage import LeapingClock
from tests.queues.redis_bench import QUICK

from llm_gateway import Completed, Environment, LLMClient, Parts, TicketEvent
from llm_gateway._core.jobs import LaneStats
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.options import BreakerOptions, HttpOptions, QueueOptions, RetryOptions, WorkerOptions
from llm_gateway.protocols import CircuitBreaker, QueueBackend
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import SimulatedProvider

__all__ = ["KINDS", "LONG", "OPEN", "LookedFile", "LookedRedis", "Place", "results"]

OPEN: Final = 120.0
LONG: Final = 20.0
BREAKER: Final = BreakerOptions(consecutive_failures=2, open_time=OPEN, jitter=0.0)
RETRY: Final = RetryOptions(attempts=2, base=0.01, min_useful=0.05)
EAGER: Final = WorkerOptions(sweep_seconds=0.05)
KINDS: Final = ("sqlite", "redis")


class Looked:
    """Tells when the lanes of a queue have been looked at."""

    looks = 0
    looked = asyncio.Event()

    async def until_looks(self, count: int) -> None:
        """Return once the lanes have been looked at that many times from now."""
        goal = self.looks + count
        while self.looks < goal:
            self.looked = asyncio.Event()
            await self.looked.wait()

    def look(self, lanes: list[LaneStats]) -> list[LaneStats]:
        """Take note of a look."""
        self.looks += 1
        self.looked.set()
        return lanes


class LookedFile(Looked, SqliteQueue):
    """A queue file whose looks are counted."""

    async def lanes(self) -> list[LaneStats]:
        return self.look(await super().lanes())


class LookedRedis(Looked, RedisQueue):
    """A queue in Redis whose looks are counted."""

    async def lanes(self) -> list[LaneStats]:
        return self.look(await super().lanes())


@dataclass
class Place:
    """Where a queue lies; any number of clients can be opened on it."""

    kind: str
    path: Path
    url: str
    sim: SimulatedProvider
    clock: LeapingClock
    name: str

    def queue(self) -> LookedFile | LookedRedis:
        """Make a queue of its own on the same place."""
        if self.kind == "sqlite":
            return LookedFile(self.path, QueueOptions(), clock=self.clock)
        return LookedRedis(self.url, QueueOptions(), namespace=self.name, redis=QUICK, strict=False, clock=self.clock)

    @asynccontextmanager
    async def client(
        self,
        queue: QueueBackend | None = None,
        events: list[TicketEvent] | None = None,
        gate: CircuitBreaker | None = None,
    ) -> AsyncGenerator[LLMClient]:
        """Open a client with a queue of its own on the same place."""
        http = HttpOptions(attempt_timeout=2.0)
        provider = OpenAIProvider(SecretStr("sk-test"), base_url=self.sim.openai_url, http=http)
        parts = Parts(
            environment=Environment.TESTING,
            breaker=gate or CircuitGate(BREAKER, clock=self.clock),
            clock=self.clock,
            retry=RETRY,
            worker=EAGER,
            http=http,
            random=lambda: 0.0,
        )
        told = None if events is None else events.append
        async with LLMClient([provider], queue or self.queue(), parts, on_event=told) as client:
            yield client


async def results(client: LLMClient, tickets: list[str]) -> list[str]:
    """Wait for the results of tickets, and return the ids of the answers."""
    outcomes = await asyncio.gather(*(client.result(ticket, timeout=LONG) for ticket in tickets))
    assert [Completed] * len(tickets) == [type(outcome) for outcome in outcomes]
    return [one.response.receipt.response_id or "" for one in outcomes if isinstance(one, Completed)]
