"""A group keeps to the model that began it, whatever becomes of the queue that knows which that is."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.client.desk import Desk

from llm_gateway import Completed, LLMClient, LLMRequest
from llm_gateway._core.circuit import CircuitKey
from llm_gateway._core.jobs import Lane
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault
from llm_gateway._pinning import Pins
from llm_gateway._pipeline import Call
from llm_gateway.errors import ModelMismatch, QueueUnavailable, TicketFailed
from llm_gateway.queues.memory import MemoryQueue

OTHER = "m-1-2027"


class Forgetful(MemoryQueue):
    """A queue that does not answer what a group is pinned to while ``out`` lasts.

    Attributes:
        out: How many questions go unanswered.
        asked: How many were asked.
    """

    out = 0
    asked = 0

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        """Answer, or not."""
        self.asked += 1
        if self.out > 0:
            self.out -= 1
            message = "The queue is out."
            raise QueueUnavailable(message)
        return await super().pin(tenant, group, lane, served_model)


@pytest.fixture
def queue(desk: Desk) -> Forgetful:
    """A queue that can be made to fail."""
    return Forgetful(clock=desk.clock)


@pytest.fixture
async def client(desk: Desk, queue: Forgetful) -> AsyncIterator[LLMClient]:
    """A client over that queue."""
    async with LLMClient([desk.provider], queue, desk.parts) as opened:
        yield opened


@pytest.fixture
def question() -> LLMRequest:
    """A question of a group."""
    return LLMRequest(provider="fake", model="m-1", prompt="Which essay is better?", group="batch-7")


def answer_as(desk: Desk, question: LLMRequest, model: str) -> None:
    """Let another model answer next."""
    call = desk.provider.prepare(question, TEXT)
    desk.provider.script(replace(desk.provider.answer(call, "x"), served_model=model))


async def test_known_pin_needs_no_queue(desk: Desk, client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """A pin that was read once holds a group to its model while the queue is out."""
    await client.complete(question)
    queue.out = 100
    assert isinstance(await client.complete(question), Completed)
    answer_as(desk, question, OTHER)
    with pytest.raises(ModelMismatch):
        await client.complete(question)
    assert queue.asked == 1


async def test_unknown_pin_is_no_answer(desk: Desk, client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """An answer that cannot be compared with its group's model is a typed error that says it may be billed."""
    queue.out = 100
    asked = asyncio.create_task(client.complete(question))
    await desk.clock.run_for(5.0)
    with pytest.raises(QueueUnavailable, match="may be billed") as caught:
        await asked
    assert caught.value.fault is Fault.MODEL_UNCHECKED
    assert [(attempt.fault, attempt.possibly_billed) for attempt in caught.value.attempts] == [
        (Fault.MODEL_UNCHECKED, True)
    ]
    assert (desk.sink.receipts, len(desk.provider.calls)) == ([], 1)


async def test_queue_that_comes_back(desk: Desk, client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """A queue that answers again in a moment saves the answer."""
    queue.out = 3
    asked = asyncio.create_task(client.complete(question))
    await desk.clock.run_for(5.0)
    assert isinstance(await asked, Completed)
    assert len(desk.provider.calls) == 1


async def test_no_waiting_past_the_timeout(client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """The queue is not waited for longer than the caller waits."""
    queue.out = 100
    with pytest.raises(QueueUnavailable):
        await client.complete(question, timeout=0.1)
    assert queue.asked == 2


async def test_worker_keeps_the_request(desk: Desk, client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """A job whose answer cannot be compared is tried again, and completes once the queue answers."""
    queue.out = 4
    ticket = (await client.submit(question)).ticket.id
    async with client.worker():
        await desk.clock.run_for(30.0)
    outcome = await client.result(ticket)
    assert isinstance(outcome, Completed)
    assert [attempt.fault for attempt in outcome.response.receipt.attempts] == [Fault.MODEL_UNCHECKED, None]
    assert len(desk.provider.calls) == 2


async def test_worker_saves_the_answer(desk: Desk, client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """A queue that answers again in a moment saves a worker's answer, though nobody waits for it."""
    queue.out = 3
    ticket = (await client.submit(question)).ticket.id
    async with client.worker():
        await desk.clock.run_for(30.0)
    assert isinstance(await client.result(ticket), Completed)
    assert len(desk.provider.calls) == 1


async def test_worker_pays_within_bounds(desk: Desk, client: LLMClient, queue: Forgetful, question: LLMRequest) -> None:
    """A queue that never tells a group's model costs no more answers than a request may have attempts."""
    queue.out = 1_000
    ticket = (await client.submit(question)).ticket.id
    async with client.worker():
        await desk.clock.run_for(600.0)
    with pytest.raises(TicketFailed) as caught:
        await client.result(ticket)
    assert (caught.value.fault, len(desk.provider.calls)) == (Fault.MODEL_UNCHECKED, 8)


async def test_remembers_within_bounds(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A process remembers the latest pins only, and asks for an older one again."""
    queue = Forgetful(clock=desk.clock)
    pins = Pins(queue, desk.clock, most=2)
    await queue.start(outbox=False)

    async def require(group: str) -> None:
        await pins.require("", call_of(desk, question.model_copy(update={"group": group})), "m-1")

    for group in ("a", "b", "c", "c", "b", "a"):
        await require(group)
    assert queue.asked == 4


def call_of(desk: Desk, question: LLMRequest) -> Call:
    """Make a call as the engine does."""
    prepared = desk.provider.prepare(question, TEXT)
    key = CircuitKey(prepared.endpoint, Lane("fake", "m-1"))
    return Call(question, TEXT, prepared, desk.provider, key, deadline=math.inf)
