"""When a worker that found nothing to do looks again, and how it learns how fast a lane is served."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._core.circuit import CircuitKey, CircuitState, Rejection
from llm_gateway._core.jobs import Lane
from llm_gateway.options import WorkerOptions
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeBreaker

LANE = Lane("fake", "m-1")
PATIENT = WorkerOptions(sweep_seconds=600.0)


async def calls_at(desk: Desk, client: LLMClient, *hours: float) -> list[int]:
    """Let a worker run and count the calls made by each second."""
    counts: list[int] = []
    async with client.worker():
        for hour in hours:
            await desk.clock.run_for(hour - desk.clock.monotonic())
            counts.append(len(desk.provider.calls))
    return counts


async def test_after_a_penalty(desk: Desk, question: LLMRequest) -> None:
    """A lane that the provider wants left alone is looked at when that is over."""
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, worker=PATIENT)) as client:
        await client.submit(question)
        desk.parts.limiter.penalise(CircuitKey(desk.provider.endpoint, LANE), 20.0)
        assert [0, 1] == await calls_at(desk, client, 19.5, 20.5)


@pytest.mark.parametrize("seconds", [(20.0, 40.0), (40.0, 20.0)], ids=["first", "second"])
async def test_after_the_shorter_penalty(desk: Desk, question: LLMRequest, seconds: tuple[float, float]) -> None:
    """Of two lanes that have to wait the worker looks again for the one whose wait is over first."""
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, worker=PATIENT)) as client:
        for model, penalty in zip(("m-1", "m-2"), seconds, strict=True):
            await client.submit(question.model_copy(update={"model": model}))
            desk.parts.limiter.penalise(CircuitKey(desk.provider.endpoint, Lane("fake", model)), penalty)
        assert [0, 1, 1, 2] == await calls_at(desk, client, 19.5, 20.5, 39.5, 40.5)


async def test_after_a_probe(desk: Desk, question: LLMRequest) -> None:
    """A lane whose probe is out is looked at again when the circuit says so."""
    breaker = FakeBreaker()
    breaker.script(Rejection(CircuitState.HALF_OPEN, 20.0, probes_busy=True))
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, worker=PATIENT, breaker=breaker)) as client:
        await client.submit(question)
        assert [0, 1] == await calls_at(desk, client, 19.5, 20.5)


class Mute(MemoryQueue):
    """A queue that wakes nobody."""

    async def wait_ready(self) -> None:
        """Never return."""
        await asyncio.Event().wait()


async def test_without_being_woken(desk: Desk, question: LLMRequest) -> None:
    """A worker looks for itself as often as it sweeps, for the word that there is something to do may be lost."""
    parts = replace(desk.parts, worker=WorkerOptions(sweep_seconds=20.0))
    async with LLMClient([desk.provider], Mute(clock=desk.clock), parts) as client, client.worker():
        await desk.clock.run_for(1.0)
        await client.submit(question)
        await desk.clock.run_for(18.0)
        early = len(desk.provider.calls)
        await desk.clock.run_for(2.0)
        assert (0, 1) == (early, len(desk.provider.calls))


async def test_pace_is_smoothed(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """One slow job does not make a fast lane a slow one: the latest pace counts for a fifth of the estimate."""
    async with client.worker(concurrency=1):
        for pause in (1.0, 1.0, 10.0):
            await desk.clock.run_for(pause)
            await client.submit(question)
            await desk.clock.run_for(0.0)
        desk.provider.hold()
        await client.submit(question)
        await desk.provider.wait_for_calls(4)
        ticket = (await client.submit(question)).ticket
        desk.provider.release()
    assert ticket.position == 0
    assert pytest.approx(1.0 / 0.82) == ticket.estimated_wait
