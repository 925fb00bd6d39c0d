"""What is told of a call that may not go, and what it gives back."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._core.circuit import CircuitState, Rejection
from llm_gateway._core.observations import ObservationKind
from llm_gateway._facts import Fault
from llm_gateway.errors import ErrorInfo, ProviderUnavailable, QuotaExhausted
from llm_gateway.testing import FakeBreaker, FakeLimiter


async def test_held_back_job_gives_its_permit_back(desk: Desk, question: LLMRequest) -> None:
    """A job that the limiter holds back after it was claimed returns the permit it was claimed with."""
    breaker, limiter = FakeBreaker(), FakeLimiter()
    limiter.script(0.0, 30.0, 30.0)
    parts = replace(desk.parts, breaker=breaker, limiter=limiter)
    async with LLMClient([desk.provider], desk.queue, parts) as client, client.worker():
        await client.submit(question)
        await desk.clock.run_for(1.0)
        assert (1, 0, []) == (len(breaker.ignored), breaker.out, desk.provider.calls)


@pytest.mark.parametrize(
    ("rejection", "fault"),
    [
        (Rejection(CircuitState.HALF_OPEN, 3.0, probes_busy=True), Fault.PROBE_BUSY),
        (Rejection(CircuitState.OPEN, 3.0), Fault.CIRCUIT_OPEN),
    ],
    ids=["busy", "open"],
)
async def test_refusal_tells_why(desk: Desk, question: LLMRequest, rejection: Rejection, fault: Fault) -> None:
    """A circuit that waits for its probe is told apart from one that is open, and both say for how long."""
    breaker = FakeBreaker()
    breaker.script(rejection)
    async with LLMClient([desk.provider], None, replace(desk.parts, breaker=breaker)) as client:
        with pytest.raises(ProviderUnavailable) as caught:
            await client.complete(question)
    assert (fault, 3.0) == (caught.value.fault, caught.value.retry_after)


async def test_latch_raises_one_alarm(desk: Desk, question: LLMRequest, caplog: pytest.LogCaptureFixture) -> None:
    """An account that needs an operator is logged as an error and observed when it is latched, and not once more."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
    with caplog.at_level(logging.ERROR, logger="llm_gateway"):
        async with desk.client(queue=False) as client:
            for _ in range(3):
                with pytest.raises(QuotaExhausted):
                    await client.complete(question)
    seen = [seen for seen in desk.observer.observations if seen.kind is ObservationKind.LATCH]
    assert [("fake", "m-1", "closed", Fault.QUOTA)] == [
        (latch.provider, latch.model, latch.outcome, latch.fault) for latch in seen
    ]
    assert ["needs an operator" in record.getMessage() for record in caplog.records] == [True]
