"""A ticket tells how long it may take only when somebody is there to work on it."""

from __future__ import annotations

import logging

import pytest
from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._core.jobs import Lane

LANE = Lane("fake", "m-1")


def warned(caplog: pytest.LogCaptureFixture) -> int:
    """Count the warnings that nobody drains the queue."""
    return sum("No worker has shown up" in record.getMessage() for record in caplog.records)


async def test_estimate(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The estimate is the place in the lane over the pace at which this process has served it."""
    async with client.worker(concurrency=1):
        for _ in range(3):
            await client.submit(question)
            await desk.clock.run_for(2.0)
        desk.provider.hold()
        await client.submit(question)
        await desk.clock.run_for(0.0)
        tickets = [(await client.submit(question)).ticket for _ in range(2)]
        desk.provider.release()
    first, second = (ticket.estimated_wait or 0.0 for ticket in tickets)
    assert ([ticket.position for ticket in tickets], second) == ([0, 1], 2.0 * first)
    assert 1.0 < first < 4.0


async def test_warned_once(client: LLMClient, question: LLMRequest, caplog: pytest.LogCaptureFixture) -> None:
    """A queue that nobody drains is warned of once."""
    with caplog.at_level(logging.WARNING, logger="llm_gateway"):
        for _ in range(3):
            await client.submit(question)
    assert warned(caplog) == 1


async def test_worker_here(client: LLMClient, question: LLMRequest, caplog: pytest.LogCaptureFixture) -> None:
    """A worker of this process counts before its first heartbeat."""
    with caplog.at_level(logging.WARNING, logger="llm_gateway"):
        async with client.worker():
            await client.submit(question)
    assert warned(caplog) == 0


async def test_worker_of_long_ago(
    desk: Desk, client: LLMClient, question: LLMRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker elsewhere counts as long as its heartbeat is fresh, and not longer."""
    with caplog.at_level(logging.WARNING, logger="llm_gateway"):
        async with client.worker():
            await client.submit(question)
            await desk.clock.run_for(1.0)
        await desk.queue.heartbeat("elsewhere", [LANE])
        await client.submit(question)
        fresh = warned(caplog)
        desk.clock.advance(11.0)
        await client.submit(question)
    assert (fresh, warned(caplog)) == (0, 1)
