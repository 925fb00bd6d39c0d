"""Public doubles, conformance suites and the simulated provider.

The conformance suites live in `llm_gateway.testing.conformance` and need the ``testing`` extra.
"""

from __future__ import annotations

from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.fakes import (
    FakeBreaker,
    FakeCache,
    FakeCodec,
    FakeLimiter,
    FakeObserver,
    FakeProvider,
    FakePublisher,
    FakeSink,
)
from llm_gateway.testing.faults import Faults
from llm_gateway.testing.simulated import SimulatedProvider

__all__ = [
    "FakeBreaker",
    "FakeCache",
    "FakeClock",
    "FakeCodec",
    "FakeLimiter",
    "FakeObserver",
    "FakeProvider",
    "FakePublisher",
    "FakeSink",
    "Faults",
    "SimulatedProvider",
]
