"""How a worker ends an attempt: what it stores, how long it waits, and what the receipt remembers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, FinishReason, LLMClient, LLMRequest
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault
from llm_gateway.errors import TicketFailed
from llm_gateway.testing.clock import settle


async def test_truncated_answer_completes(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An answer that was cut short is a result without output, not an invalid one."""
    answer = desk.provider.answer(desk.provider.prepare(question, TEXT), '{"value": ')
    desk.provider.script(replace(answer, finish_reason=FinishReason.LENGTH))
    ticket = (await client.submit(question, output_type=int)).ticket.id
    async with client.worker():
        outcome = await client.result(ticket, output_type=int, timeout=5)
    assert isinstance(outcome, Completed)
    assert (outcome.response.output, outcome.response.finish_reason) == (None, FinishReason.LENGTH)


async def test_invalid_answer_is_blamed(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The attempt that brought an invalid answer says so, and that it was paid for."""
    desk.provider.script("no number")
    ticket = (await client.submit(question, output_type=int)).ticket.id
    async with client.worker():
        with pytest.raises(TicketFailed) as caught:
            await client.result(ticket, output_type=int, timeout=5)
    assert [(tried.fault, tried.possibly_billed) for tried in caught.value.attempts] == [(Fault.INVALID_OUTPUT, True)]


async def waits(desk: Desk, question: LLMRequest, *, hint: float | None, fault: Fault) -> list[float]:
    """Let two attempts fail, and return for how long the ticket waits after each."""
    seconds: list[float] = []
    desk.provider.script(outage(fault, retry_after=hint), outage(fault, retry_after=hint))
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, random=lambda: 1.0)) as client:
        ticket = (await client.submit(question)).ticket.id
        for _ in range(2):
            async with client.worker():
                await desk.clock.run_for(0.0)
            until = (await client.status(ticket)).ticket.not_before
            seconds.append((until - desk.clock.now()).total_seconds() if until is not None else 0.0)
            desk.clock.advance(seconds[-1])
    return seconds


@pytest.mark.parametrize(
    ("fault", "hint", "expected"),
    [
        (Fault.SERVER_ERROR, None, [0.5, 1.0]),
        (Fault.OVERLOADED, None, [1.0, 2.0]),
        (Fault.OVERLOADED, 30.0, [30.0, 30.0]),
    ],
    ids=["broken", "overloaded", "told"],
)
async def test_waits(
    desk: Desk, question: LLMRequest, *, fault: Fault, hint: float | None, expected: list[float]
) -> None:
    """A job waits longer after each attempt, from a longer base when the provider has too much to do, or as told."""
    assert await waits(desk, question, fault=fault, hint=hint) == expected


async def test_kept_receipt_has_every_attempt(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The receipt that is kept of a queued answer has the attempts of earlier leases too."""
    desk.provider.script(outage())
    await client.submit(question)
    async with client.worker():
        await desk.clock.run_for(5.0)
    (receipt,) = desk.sink.receipts
    assert [attempt.fault for attempt in receipt.attempts] == [Fault.OVERLOADED, None]


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_again_while_it_ends(desk: Desk, client: LLMClient, question: LLMRequest, turns: int) -> None:
    """A job whose task is cancelled once more while its call ends goes back all the same, without a crash."""
    desk.provider.hold()
    ticket = (await client.submit(question)).ticket.id
    async with client.worker(drain_timeout=0):
        await desk.provider.wait_for_calls(1)
        (job,) = [task for task in asyncio.all_tasks() if ticket in task.get_name()]
        job.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        job.cancel()
        await asyncio.wait({job})
    await settle()
    view = await desk.queue.get("", ticket)
    assert ("queued", "shutdown", 0) == (view.state, view.reason, view.crashes)
