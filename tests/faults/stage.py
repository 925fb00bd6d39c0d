"""A client over real sockets: both vendors on one simulated provider, a real breaker, and books on who took what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from pydantic import SecretStr

from llm_gateway import Environment, LLMClient, LLMRequest, Parts, TicketEvent
from llm_gateway._core.circuit import CircuitKey, Level, Permit, Rejection
from llm_gateway._core.jobs import LaneStats
from llm_gateway._null import SystemClock
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.limits.retry_after import RetryAfterLimiter
from llm_gateway.options import BreakerOptions, HttpOptions, RetryOptions, WorkerOptions
from llm_gateway.protocols import Clock, Provider, QueueBackend
from llm_gateway.providers.anthropic import AnthropicProvider
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeObserver, SimulatedProvider

__all__ = [
    "KEY",
    "MIB",
    "MODELS",
    "VENDORS",
    "BookedGate",
    "Desk",
    "SeenQueue",
    "Stage",
    "opened",
    "own_tasks",
    "question",
]

KEY: Final = "sk-key-for-loopback-only"
MIB: Final = 1024 * 1024
MODELS: Final = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
VENDORS: Final = tuple(MODELS)
BRIEF: Final = HttpOptions(attempt_timeout=0.4, max_response_bytes=MIB)
HARD_TO_TRIP: Final = BreakerOptions(consecutive_failures=100, minimum_calls=100)
QUICK: Final = RetryOptions(base=0.01, throttled_base=0.02, min_useful=0.05)
EAGER: Final = WorkerOptions(sweep_seconds=0.05)


class LeapingClock(SystemClock):
    """The machine's clock, which a test can set forward. Who sleeps is not woken by that."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._ahead)

    def leap(self, seconds: float) -> None:
        """Set it forward."""
        self._ahead += seconds


class BookedGate(CircuitGate):
    """A circuit breaker that books every permit: what is out, and what came back more than once."""

    def __init__(self, options: BreakerOptions, clock: Clock) -> None:
        super().__init__(options, clock=clock)
        self.out: Counter[int] = Counter()

    def acquire(self, key: CircuitKey) -> Permit | Rejection:
        permit = super().acquire(key)
        if isinstance(permit, Permit):
            self.out[id(permit)] += 1
        return permit

    def success(self, permit: Permit) -> None:
        self._back(permit)
        super().success(permit)

    def failure(self, permit: Permit, level: Level, *, retry_after: float | None = None) -> None:
        self._back(permit)
        super().failure(permit, level, retry_after=retry_after)

    def ignore(self, permit: Permit) -> None:
        self._back(permit)
        super().ignore(permit)

    def _back(self, permit: Permit) -> None:
        self.out[id(permit)] -= 1

    @property
    def balanced(self) -> bool:
        """Whether every permit came back exactly once."""
        return not any(self.out.values())


class SeenQueue(MemoryQueue):
    """A queue that tells when its lanes have been looked at."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._looked = asyncio.Condition()
        self._looks = 0

    async def lanes(self) -> list[LaneStats]:
        async with self._looked:
            self._looks += 1
            self._looked.notify_all()
        return await super().lanes()

    async def wait_for_looks(self, count: int) -> None:
        """Return once its lanes have been looked at that many times from now."""
        async with self._looked:
            goal = self._looks + count
            await self._looked.wait_for(lambda: self._looks >= goal)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """How a client is set up.

    Attributes:
        queue: Whether it has a queue.
        http: Timeouts and bounds.
        breaker: When circuits open; by default after more failures than one test makes.
        retry: When calls are tried again.
        worker: How workers drain the queue.
        key: The API key.
    """

    queue: bool = True
    http: HttpOptions = BRIEF
    breaker: BreakerOptions = HARD_TO_TRIP
    retry: RetryOptions = QUICK
    worker: WorkerOptions = EAGER
    key: str = KEY


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Everything a test looks at."""

    sim: SimulatedProvider
    client: LLMClient
    providers: tuple[Provider, ...]
    queue: SeenQueue
    gate: BookedGate
    clock: LeapingClock
    observer: FakeObserver
    events: list[TicketEvent]


@asynccontextmanager
async def opened(sim: SimulatedProvider, desk: Desk | None = None) -> AsyncGenerator[Stage]:
    """Open a client that asks *sim*, whichever vendor is meant; once closed, it must have left nothing behind."""
    chosen = desk or Desk()
    clock, observer = LeapingClock(), FakeObserver()
    queue = SeenQueue(clock)
    gate = BookedGate(chosen.breaker, clock)
    # Two keys: one account must not be latched for the other.
    openai, anthropic = (SecretStr(f"{chosen.key}-{vendor}") for vendor in VENDORS)
    providers = (
        OpenAIProvider(openai, base_url=sim.openai_url, http=chosen.http),
        AnthropicProvider(anthropic, base_url=sim.anthropic_url, http=chosen.http),
    )
    parts = Parts(
        environment=Environment.TESTING,
        breaker=gate,
        limiter=RetryAfterLimiter(clock=clock),
        clock=clock,
        observer=observer,
        retry=chosen.retry,
        worker=chosen.worker,
        http=chosen.http,
        random=lambda: 0.0,
    )
    events: list[TicketEvent] = []
    backend: QueueBackend | None = queue if chosen.queue else None
    async with LLMClient(providers, backend, parts, on_event=events.append) as client:
        yield Stage(
            sim=sim,
            client=client,
            providers=providers,
            queue=queue,
            gate=gate,
            clock=clock,
            observer=observer,
            events=events,
        )
    assert gate.balanced
    assert [] == own_tasks()


def question(vendor: str = "openai", *, prompt: str = "Which essay is better?") -> LLMRequest:
    """Make a plain question."""
    return LLMRequest(provider=vendor, model=MODELS[vendor], prompt=prompt)


def own_tasks() -> list[str]:
    """Name what the library runs now, in order."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return sorted(name for name in names if name.startswith("llm_gateway"))
