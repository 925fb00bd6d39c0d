"""A live question ends in a result, a ticket or a typed error."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Literal

import pytest
from pydantic import BaseModel
from tests.client.desk import Desk, outage

from llm_gateway import Completed, FinishReason, LLMClient, LLMRequest, Pending
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault
from llm_gateway.errors import (
    AuthenticationFailed,
    DeadlineExceeded,
    ErrorInfo,
    IdempotencyConflict,
    InvalidOutput,
    InvalidRequest,
    ModelMismatch,
    ProviderError,
    ProviderUnavailable,
    QuotaExhausted,
    TicketFailed,
)


class Verdict(BaseModel):
    """What a judge says."""

    winner: Literal["Essay A", "Essay B"]
    confidence: int


GOOD = '{"winner": "Essay A", "confidence": 4}'
BAD = '{"winner": "Essay C", "confidence": 4}'


async def test_answer(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An answer comes with its text, its receipt and the caller's metadata."""
    outcome = await client.complete(question)
    assert isinstance(outcome, Completed)
    receipt = outcome.response.receipt
    assert (outcome.response.text, outcome.response.output) == ("answer 1", "answer 1")
    assert (receipt.source, receipt.requested_model, receipt.served_model) == ("live", "m-1", "m-1")
    assert [attempt.fault for attempt in receipt.attempts] == [None]
    assert outcome.metadata == {"pair": 7}
    assert [kept.response_id for kept in desk.sink.receipts] == [receipt.response_id]


async def test_identical_requests(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Identical requests, also when concurrent, are as many calls of the provider."""
    outcomes = await asyncio.gather(*(client.complete(question) for _ in range(20)))
    ids = {outcome.response.receipt.response_id for outcome in outcomes if isinstance(outcome, Completed)}
    assert (len(ids), len(desk.provider.calls)) == (20, 20)


async def test_structured(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A valid answer is read as the output type."""
    desk.provider.script(GOOD)
    outcome = await client.complete(question, output_type=Verdict)
    assert isinstance(outcome, Completed)
    assert outcome.response.output == Verdict(winner="Essay A", confidence=4)


async def test_invalid_output(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An invalid answer is an error that shows no piece of it, and is not asked for again."""
    desk.provider.script(BAD)
    with pytest.raises(InvalidOutput) as caught:
        await client.complete(question, output_type=Verdict)
    assert "Essay C" not in str(caught.value)
    assert caught.value.info.detail is not None
    assert "Essay C" in caught.value.info.detail.reveal()
    assert ([attempt.fault for attempt in caught.value.attempts], len(desk.provider.calls)) == (
        [Fault.INVALID_OUTPUT],
        1,
    )


async def test_output_retries(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An invalid answer is asked for again as often as the caller allows."""
    desk.provider.script(BAD, GOOD)
    outcome = await client.complete(question, output_type=Verdict, output_retries=1)
    assert isinstance(outcome, Completed)
    assert len(desk.provider.calls) == 2


async def test_truncated(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A truncated answer is a result without output, not an error."""
    call = desk.provider.prepare(question, TEXT)
    desk.provider.script(replace(desk.provider.answer(call, '{"winner": "Es'), finish_reason=FinishReason.LENGTH))
    outcome = await client.complete(question, output_type=Verdict)
    assert isinstance(outcome, Completed)
    assert (outcome.response.output, outcome.response.finish_reason) == (None, FinishReason.LENGTH)


async def test_retry_heals(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An overload that passes within the timeout costs the caller nothing but a recorded attempt."""
    desk.provider.script(outage())
    outcome = await client.complete(question)
    assert isinstance(outcome, Completed)
    assert [attempt.fault for attempt in outcome.response.receipt.attempts] == [Fault.OVERLOADED, None]


async def test_outage_queues(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An outage that retries do not heal gives a ticket with status "processing"."""
    desk.provider.script(*[outage()] * 3)
    outcome = await client.complete(question)
    assert isinstance(outcome, Pending)
    assert (outcome.status, outcome.ticket.reason) == ("processing", "provider_unavailable")
    assert outcome.ticket.metadata == {"pair": 7}
    status = await client.status(outcome.ticket.id)
    assert (status.state, status.attempts) == ("queued", 0)


async def test_outage_raises(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """With when_unavailable="raise" the same outage is an error, and nothing is stored."""
    desk.provider.script(*[outage()] * 3)
    with pytest.raises(ProviderUnavailable) as caught:
        await client.complete(question, when_unavailable="raise")
    assert caught.value.attempts
    assert (await client.health()).depth == 0


async def test_open_circuit(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """While the circuit is open the provider is not called at all."""
    desk.provider.script(*[outage()] * 4)
    for _ in range(2):
        await client.complete(question)
    calls = len(desk.provider.calls)
    outcomes = [await client.complete(question) for _ in range(10)]
    assert [outcome.ticket.reason for outcome in outcomes if isinstance(outcome, Pending)] == ["circuit_open"] * 10
    assert len(desk.provider.calls) == calls


async def test_long_retry_after(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A Retry-After beyond the timeout becomes a ticket that is not tried before it ends."""
    desk.provider.script(outage(Fault.RATE_LIMITED, retry_after=600.0))
    outcome = await client.complete(question, timeout=30)
    assert isinstance(outcome, Pending)
    assert outcome.ticket.not_before is not None
    assert (outcome.ticket.not_before - outcome.ticket.created_at).total_seconds() == 600.0


async def test_retry_after_beyond_ttl(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A Retry-After beyond the ttl is an error: such a ticket could only expire."""
    desk.provider.script(outage(Fault.RATE_LIMITED, retry_after=600.0))
    with pytest.raises(ProviderUnavailable):
        await client.complete(question.model_copy(update={"ttl": timedelta(seconds=60)}), timeout=30)
    assert (await client.health()).depth == 0


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("No.", info=ErrorInfo(fault=Fault.KEY)),
        QuotaExhausted("No.", info=ErrorInfo(fault=Fault.QUOTA)),
    ],
    ids=["key", "quota"],
)
async def test_latch(desk: Desk, client: LLMClient, question: LLMRequest, error: ProviderError) -> None:
    """A refused key or an empty account is one call; the next calls and submits fail without one."""
    desk.provider.script(error)
    for _ in range(3):
        with pytest.raises(type(error)):
            await client.complete(question)
    with pytest.raises(type(error)):
        await client.submit(question)
    assert len(desk.provider.calls) == 1
    desk.clock.advance(901.0)
    assert isinstance(await client.complete(question), Completed)
    assert isinstance(await client.complete(question), Completed)


async def test_timeout_adopts(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A call that outlasts the timeout completes its ticket later, and the provider was called once."""
    desk.provider.hold()
    outcome = await client.complete(question, timeout=0.05)
    assert isinstance(outcome, Pending)
    assert (outcome.ticket.reason, (await client.status(outcome.ticket.id)).state) == ("deadline", "processing")
    desk.provider.release()
    completed = await client.result(outcome.ticket.id, timeout=5)
    assert isinstance(completed, Completed)
    assert (completed.response.text, completed.response.receipt.ticket_id) == ("answer 1", outcome.ticket.id)
    assert len(desk.provider.calls) == 1


async def test_timeout_without_queue(desk: Desk, question: LLMRequest) -> None:
    """Without a queue the timeout is an error that says the attempt may be billed."""
    desk.provider.hold()
    async with desk.client(queue=False) as client:
        with pytest.raises(DeadlineExceeded) as caught:
            await client.complete(question, timeout=0.05)
    assert [attempt.possibly_billed for attempt in caught.value.attempts] == [True]


async def test_cancelled(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A cancelled call stores nothing, counts nothing and stays cancelled."""
    desk.provider.hold()
    asked = asyncio.create_task(client.complete(question))
    await desk.provider.wait_for_calls(1)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert asked.cancelled()
    assert (await client.health()).depth == 0
    desk.provider.release()
    assert isinstance(await client.complete(question), Completed)


async def test_key_finds_ticket(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A question whose idempotency key has a ticket is that ticket, not another call."""
    keyed = question.model_copy(update={"idempotency_key": "judgement-1"})
    pending = await client.submit(keyed)
    outcome = await client.complete(keyed)
    assert isinstance(outcome, Pending)
    assert (outcome.ticket.id, desk.provider.calls) == (pending.ticket.id, [])
    with pytest.raises(IdempotencyConflict):
        await client.complete(keyed.model_copy(update={"prompt": "Something else?"}))


async def test_key_of_failed_ticket(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A question whose ticket failed raises why, and asks nobody."""
    keyed = question.model_copy(update={"idempotency_key": "judgement-1"})
    desk.provider.script(InvalidRequest("No.", info=ErrorInfo(fault=Fault.BAD_REQUEST)))
    async with client.worker():
        pending = await client.submit(keyed)
        with pytest.raises(TicketFailed):
            await client.result(pending.ticket.id, timeout=5)
    with pytest.raises(TicketFailed) as caught:
        await client.complete(keyed)
    assert (caught.value.fault, len(desk.provider.calls)) == (Fault.BAD_REQUEST, 1)


async def test_served_model(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Another snapshot than the one required is refused, and the attempt counted as possibly billed."""
    with pytest.raises(ModelMismatch) as caught:
        await client.complete(question.model_copy(update={"served_model": "m-1-2026"}))
    assert [attempt.possibly_billed for attempt in caught.value.attempts] == [True]


async def test_group_is_pinned(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The first model that serves a group is the only one that may serve it."""
    grouped = question.model_copy(update={"group": "batch-7"})
    await client.complete(grouped)
    call = desk.provider.prepare(grouped, TEXT)
    desk.provider.script(replace(desk.provider.answer(call, "x"), served_model="m-1-2027"))
    with pytest.raises(ModelMismatch):
        await client.complete(grouped)


async def test_adapter_breaks(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Whatever an adapter raises is a typed outcome that quotes nothing of it."""
    desk.provider.script(RuntimeError("the prompt was: Which essay is better?"))
    outcome = await client.complete(question)
    assert isinstance(outcome, Pending)
    status = await client.status(outcome.ticket.id)
    assert "Which essay" not in repr(status)
