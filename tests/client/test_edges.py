"""Where two parts meet at a bad moment: nothing is stuck, lost, paid twice, or told to the wrong one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._core.jobs import Disposition, FinishReply, Lane, LaneStats, Lease
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault, Masked
from llm_gateway.caches.dev import DevCache
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import (
    ErrorInfo,
    InvalidOutput,
    InvalidRequest,
    ModelMismatch,
    ModelNotFound,
    PayloadTooLarge,
    ProviderUnavailable,
    QueueUnavailable,
    QuotaExhausted,
    TicketExpired,
    TicketNotFound,
)
from llm_gateway.queues.memory import MemoryQueue


class Flickering(MemoryQueue):
    """A queue that is out for the first calls of what is named in ``out``."""

    def __init__(self, desk: Desk, out: dict[str, int]) -> None:
        super().__init__(clock=desk.clock)
        self._out = out

    def _flicker(self, name: str) -> None:
        if self._out.get(name, 0) > 0:
            self._out[name] -= 1
            message = "The queue is out."
            raise QueueUnavailable(message)

    async def start(self, *, outbox: bool) -> None:
        self._flicker("start")
        await super().start(outbox=outbox)

    async def lanes(self) -> list[LaneStats]:
        self._flicker("lanes")
        return await super().lanes()

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        leases = await super().claim(lane, count, worker=worker, lease_seconds=lease_seconds, claim_id=claim_id)
        self._flicker("claim reply")
        return leases

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        self._flicker("finish")
        return await super().finish(lease, disposition)


async def ended(desk: Desk, client: LLMClient, tickets: Sequence[str]) -> list[str]:
    """Return the states of tickets after half a minute."""
    await desk.clock.run_for(30.0)
    return [(await client.status(ticket)).state.value for ticket in tickets]


async def test_gate_does_not_stick(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A lane that emptied while its circuit was open takes jobs again when the circuit has closed meanwhile."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question.model_copy(update={"group": "g"}))
    await desk.clock.run_for(0.0)
    await client.cancel_group("g")
    desk.clock.advance(121.0)
    for _ in range(2):
        assert isinstance(await client.complete(question), Completed)
    pending = await client.submit(question)
    async with client.worker():
        assert await ended(desk, client, [pending.ticket.id]) == ["completed"]


async def test_output_retries_share_the_timeout(desk: Desk, question: LLMRequest) -> None:
    """Asking again for a valid answer has only what is left of the timeout."""
    desk.provider.script("no number", '{"value": 5}')
    desk.provider.hold()
    async with desk.client(queue=False) as client:
        asked = asyncio.create_task(client.complete(question, output_type=int, output_retries=1, timeout=30))
        await desk.provider.wait_for_calls(1)
        desk.clock.advance(20.0)
        desk.provider.release()
        await asked
    assert desk.provider.timeouts == [30.0, 10.0]


async def test_output_retries_in_receipt(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The tries that gave an invalid answer stand in the receipt of the valid one."""
    desk.provider.script("no number", '{"value": 5}')
    outcome = await client.complete(question, output_type=int, output_retries=1)
    assert isinstance(outcome, Completed)
    assert [attempt.fault for attempt in outcome.response.receipt.attempts] == [Fault.INVALID_OUTPUT, None]


async def test_invalid_answers_are_not_kept(desk: Desk, question: LLMRequest, tmp_path: Path) -> None:
    """A development cache keeps no answer that was found invalid."""
    desk.provider.script("no number", '{"value": 5}')
    async with LLMClient([desk.provider], None, replace(desk.parts, cache=DevCache(tmp_path))) as client:
        with pytest.raises(InvalidOutput):
            await client.complete(question, output_type=int)
        outcome = await client.complete(question, output_type=int)
    assert (outcome.status, len(desk.provider.calls)) == ("completed", 2)


async def test_group_is_pinned_without_queue(desk: Desk, question: LLMRequest) -> None:
    """A group keeps to one model in a client without a queue too."""
    grouped = question.model_copy(update={"group": "batch-7"})
    async with desk.client(queue=False) as client:
        await client.complete(grouped)
        call = desk.provider.prepare(grouped, TEXT)
        desk.provider.script(replace(desk.provider.answer(call, "x"), served_model="m-1-2027"))
        with pytest.raises(ModelMismatch):
            await client.complete(grouped)


async def test_key_is_looked_up_when_raising(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """With when_unavailable="raise" a key whose ticket waits is an error, and one that completed is its answer."""
    keyed = question.model_copy(update={"idempotency_key": "k-1"})
    pending = await client.submit(keyed)
    with pytest.raises(ProviderUnavailable) as caught:
        await client.complete(keyed, when_unavailable="raise")
    assert caught.value.ticket_id == pending.ticket.id
    async with client.worker():
        await client.result(pending.ticket.id, timeout=5)
    outcome = await client.complete(keyed, when_unavailable="raise")
    assert (outcome.response.text, len(desk.provider.calls)) == ("answer 1", 1)


async def test_key_of_erased_ticket(client: LLMClient, question: LLMRequest) -> None:
    """A key whose ticket was erased gives no ticket that nothing can be fetched under."""
    keyed = question.model_copy(update={"idempotency_key": "k-1"})
    pending = await client.submit(keyed)
    await client.erase(ticket=pending.ticket.id)
    with pytest.raises(TicketNotFound):
        await client.submit(keyed)
    (outcome,) = await client.submit_many([keyed])
    assert isinstance(outcome, TicketNotFound)


async def test_stored_is_told(desk: Desk, question: LLMRequest) -> None:
    """A request that is stored has its ticket, even when the queue cannot say more about it just then."""
    async with LLMClient([desk.provider], Flickering(desk, {"lanes": 1}), desk.parts) as client:
        assert isinstance(await client.submit(question), Pending)


async def test_finish_is_repeated(desk: Desk, question: LLMRequest) -> None:
    """A queue that is out when an answer arrives gets it a moment later; it is not asked for again."""
    async with LLMClient([desk.provider], Flickering(desk, {"finish": 2}), desk.parts) as client:
        pending = await client.submit(question)
        async with client.worker():
            assert await ended(desk, client, [pending.ticket.id]) == ["completed"]
    assert len(desk.provider.calls) == 1


@pytest.mark.parametrize("count", [1, 3])
async def test_lost_claim_reply(desk: Desk, question: LLMRequest, count: int) -> None:
    """A claim whose reply is lost is asked again, and its jobs are worked on before their leases lapse."""
    async with LLMClient([desk.provider], Flickering(desk, {"claim reply": 2}), desk.parts) as client:
        outcomes = await client.submit_many([question] * count)
        tickets = [outcome.ticket.id for outcome in outcomes if isinstance(outcome, Pending)]
        async with client.worker(concurrency=2):
            await desk.clock.run_for(10.0)
            states = [(await client.status(ticket)).state.value for ticket in tickets]
    assert (states, len(desk.provider.calls)) == (["completed"] * count, count)


async def test_start_is_repeated(desk: Desk, question: LLMRequest) -> None:
    """A client whose queue could not be opened opens it at the next try."""
    client = LLMClient([desk.provider], Flickering(desk, {"start": 1}), desk.parts)
    with pytest.raises(QueueUnavailable):
        await client.__aenter__()
    async with client:
        assert isinstance(await client.submit(question), Pending)


async def test_paused_lane_lets_live_calls_probe(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Jobs of a paused lane can be nobody's probe, so the live call is."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    (stats,) = await desk.queue.lanes()
    await desk.queue.pause(stats.lane)
    desk.clock.advance(121.0)
    await desk.queue.heartbeat("worker-1", [stats.lane])
    assert isinstance(await client.complete(question), Completed)


async def test_too_large_before_money(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Metadata that no ticket could hold is refused before the provider is asked."""
    with pytest.raises(PayloadTooLarge):
        await client.complete(question.model_copy(update={"metadata": {"x": "y" * 9_000_000}}))
    assert desk.provider.calls == []


async def test_expires_without_worker(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A ticket that has waited too long is expired for whoever asks, also where no worker runs."""
    pending = await client.submit(question)
    desk.clock.advance(question.ttl.total_seconds() + 1.0)
    assert (await client.status(pending.ticket.id)).status == "expired"
    with pytest.raises(TicketExpired):
        await client.result(pending.ticket.id)


async def test_latch_tells_nothing_of_others(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Who is refused by a latch learns nothing of the call that closed it."""
    info = ErrorInfo(fault=Fault.QUOTA, provider_request_id="req-a", correlation_id="c-a", detail=Masked("prompt of a"))
    desk.provider.script(QuotaExhausted("No money.", info=info))
    with pytest.raises(QuotaExhausted):
        await client.for_tenant("a").complete(question)
    with pytest.raises(QuotaExhausted) as caught:
        await client.for_tenant("b").complete(question)
    known = caught.value.info
    assert (known.provider_request_id, known.correlation_id, known.detail) == (None, None, None)


async def test_lane_goes_on_when_mended(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Once a live call has shown that the account works again, its parked jobs go on without waiting for a canary."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
    outcomes = await client.submit_many([question] * 5)
    tickets = [outcome.ticket.id for outcome in outcomes if isinstance(outcome, Pending)]
    async with client.worker(concurrency=1):
        await desk.clock.run_for(5.0)
        desk.clock.advance(895.5)
        assert isinstance(await client.complete(question), Completed)
        assert await ended(desk, client, tickets) == ["completed"] * 5


async def test_adapter_that_cancels(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A cancellation that nobody asked for is the adapter's fault, not the caller's."""
    desk.provider.script(asyncio.CancelledError())
    outcome = await client.complete(question)
    assert isinstance(outcome, Pending)
    assert (await client.status(outcome.ticket.id)).state == "queued"


async def test_adapter_leaves_no_context(desk: Desk, question: LLMRequest) -> None:
    """What a broken adapter raised does not hang on the typed error."""
    desk.provider.script(ValueError("Which essay is better?"))
    async with desk.client(queue=False) as client:
        with pytest.raises(Exception, match="raised ValueError") as caught:
            await client.complete(question)
    error: BaseException | None = caught.value
    while error is not None:
        assert "Which essay" not in str(error)
        error = error.__context__


async def test_closing_lets_calls_end(desk: Desk, question: LLMRequest) -> None:
    """A call that is under way when the client closes is given the drain timeout."""
    client = desk.client(queue=False)
    await client.__aenter__()
    desk.provider.hold()
    asked = asyncio.create_task(client.complete(question))
    await desk.provider.wait_for_calls(1)
    closing = asyncio.create_task(client.aclose())
    asyncio.get_running_loop().call_soon(desk.provider.release)
    assert isinstance(await asked, Completed)
    await closing


async def test_mended_once_is_not_mended_for_ever(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A lane parked after its account was mended stays parked, whatever the circuits do meanwhile."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
    with pytest.raises(QuotaExhausted):
        await client.complete(question)
    desk.clock.advance(901.0)
    await client.complete(question)
    await desk.clock.run_for(0.0)
    desk.provider.script(ModelNotFound("Gone.", info=ErrorInfo(fault=Fault.MODEL_NOT_FOUND)))
    pending = await client.submit(question)
    async with client.worker():
        await desk.clock.run_for(5.0)
        calls = len(desk.provider.calls)
        other = question.model_copy(update={"model": "m-2"})
        desk.provider.script(*[outage()] * 3)
        for _ in range(2):
            await client.complete(other)
        await desk.clock.run_for(1.0)
    status = await client.status(pending.ticket.id)
    asked = [call.model for call in desk.provider.calls[calls:]]
    assert (status.ticket.reason, asked.count("m-1")) == ("needs_operator", 0)


class Unsealing(PlainCodec):
    """Seals requests and breaks on answers."""

    async def seal(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Raise what no codec should."""
        if kind == "result":
            raise ZeroDivisionError
        return data


async def test_answer_that_cannot_be_sealed(desk: Desk, question: LLMRequest) -> None:
    """A codec that breaks on an answer fails the ticket after one paid call, and says why."""
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, codec=Unsealing())) as client:
        pending = await client.submit(question)
        async with client.worker():
            await desk.clock.run_for(120.0)
        status = await client.status(pending.ticket.id)
    assert (status.status, len(desk.provider.calls)) == ("failed", 1)
    assert status.error is not None
    assert "ZeroDivisionError" in status.error.message


@pytest.mark.parametrize("ask", ["complete", "submit"])
async def test_metadata_changed_behind_its_back(desk: Desk, client: LLMClient, question: LLMRequest, ask: str) -> None:
    """Metadata that became unwritable after the request was checked is a typed error before anything is spent."""
    broken = question.model_copy(update={"metadata": {"x": object()}})
    with pytest.raises(InvalidRequest):
        await (client.complete(broken) if ask == "complete" else client.submit(broken))
    assert (desk.provider.calls, (await client.health()).depth) == ([], 0)
