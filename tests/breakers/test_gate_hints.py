"""How long a Retry-After is remembered."""

from __future__ import annotations

import pytest

from llm_gateway._core.circuit import CircuitKey, Level, Permit
from llm_gateway._core.jobs import Lane
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.options import BreakerOptions
from llm_gateway.testing.clock import FakeClock

KEY = CircuitKey("api.example.com", Lane("vendor", "large"))


def fail(gate: CircuitGate, times: int, *, retry_after: float | None = None) -> None:
    for _ in range(times):
        permit = gate.acquire(KEY)
        assert isinstance(permit, Permit)
        gate.failure(permit, Level.MODEL, retry_after=retry_after)


@pytest.mark.parametrize("failures", [1, 3], ids=["closed", "open"])
def test_a_reset_forgets_it(failures: int) -> None:
    """An operator's reset forgets what the provider asked for, so that the next trip is as long as any first one."""
    gate = CircuitGate(BreakerOptions(consecutive_failures=3, open_time=15.0), clock=FakeClock(), random=lambda: 0.5)
    fail(gate, failures, retry_after=1_000.0)
    gate.reset(KEY.lane)
    fail(gate, 3)
    assert 15.0 == gate.snapshot(KEY).retry_in
