"""A client over a fake provider and a memory queue, on a fake clock."""

from __future__ import annotations

from llm_gateway import Environment, LLMClient, Parts
from llm_gateway._facts import Fault, Sent
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.errors import ErrorInfo, ProviderUnavailable
from llm_gateway.limits.retry_after import RetryAfterLimiter
from llm_gateway.options import BreakerOptions, RetryOptions
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeClock, FakeObserver, FakeProvider, FakeSink


class Desk:
    """Everything a test of the client looks at."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.provider = FakeProvider()
        self.queue = MemoryQueue(clock=self.clock)
        self.observer = FakeObserver()
        self.sink = FakeSink()
        self.breaker = CircuitGate(
            BreakerOptions(consecutive_failures=3, open_time=120.0, jitter=0.0), clock=self.clock
        )
        self.parts = Parts(
            environment=Environment.TESTING,
            breaker=self.breaker,
            limiter=RetryAfterLimiter(clock=self.clock),
            observer=self.observer,
            sink=self.sink,
            clock=self.clock,
            random=lambda: 0.0,
            retry=RetryOptions(attempts=3),
        )

    def client(self, *, queue: bool = True) -> LLMClient:
        """Make a client of these parts."""
        return LLMClient([self.provider], self.queue if queue else None, self.parts)


def outage(fault: Fault = Fault.OVERLOADED, *, retry_after: float | None = None) -> ProviderUnavailable:
    """Make the error of a provider that is out."""
    return ProviderUnavailable("It is out.", retry_after=retry_after, info=ErrorInfo(fault=fault, sent=Sent.YES))
