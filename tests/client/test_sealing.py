"""What a client and its workers do with sealed requests, and when the key is missing, dropped or out of reach."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests.client.desk import Desk
from tests.codecs.stores import NEW, OLD, ShakyQueue

from llm_gateway import Completed, LLMClient, LLMRequest, TicketEvent, TicketState
from llm_gateway._core.fingerprint import content_of
from llm_gateway._core.intake import successor
from llm_gateway.codecs.aesgcm import AesGcmCodec
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import (
    DurabilityUnknown,
    IdempotencyConflict,
    InvalidRequest,
    LLMGatewayError,
    QueueError,
    QueueUnavailable,
    TicketFailed,
    TicketNotFound,
    UnknownKey,
)
from llm_gateway.protocols import PayloadCodec


@pytest.fixture
def queue(desk: Desk) -> ShakyQueue:
    """A queue whose store of keys fails on command."""
    return ShakyQueue(desk.clock)


def process(desk: Desk, queue: ShakyQueue, *keys: str) -> LLMClient:
    """Make a client as another process would, with its own codec; without keys it does not seal."""
    codec: PayloadCodec = AesGcmCodec(keys, queue, clock=desk.clock) if keys else PlainCodec()
    return LLMClient([desk.provider], queue, replace(desk.parts, codec=codec))


async def answered(client: LLMClient, ticket: str) -> str:
    """Fetch the answer of a ticket."""
    outcome = await client.result(ticket, timeout=5)
    assert isinstance(outcome, Completed)
    return outcome.response.text


async def test_nothing_readable_is_stored(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """Request and answer lie sealed in the queue, and reach worker, caller and handler as they were."""
    seen: list[TicketEvent] = []
    desk.provider.script("The first one.")
    parts = replace(desk.parts, codec=AesGcmCodec([NEW], queue))
    async with LLMClient([desk.provider], queue, parts, on_event=seen.append) as client:
        ticket = (await client.submit(question)).ticket.id
        stored = [await queue.payload("", ticket)]
        async with client.worker():
            assert await answered(client, ticket) == "The first one."
        stored.append(await queue.result("", ticket))
        await desk.clock.run_for(1.0)
    assert [blob[:3] for blob in stored if blob is not None] == [b"LGS", b"LGS"]
    assert [blob for blob in stored if b"essay" in (blob or b"") or b"first" in (blob or b"")] == []
    assert [event.receipt is not None for event in seen] == [False, False, True]


async def test_foreign_payload(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """A request that was moved to another ticket fails there with a reason, once, and is never sent."""
    async with process(desk, queue, NEW) as client:
        other = (await client.submit(question)).ticket.id
        payload, view = await queue.payload("", other), await queue.get("", other)
        await client.cancel(other)
        job = successor(view, payload or b"", queue.mint("", "k"), desk.clock.now())
        await queue.enqueue(job)
        async with client.worker():
            with pytest.raises(TicketFailed) as caught:
                await client.result(job.ticket_id, timeout=5)
    assert (caught.value.info.code, "belong elsewhere" in caught.value.message) == ("unreadable", True)
    assert desk.provider.calls == []


@pytest.mark.parametrize("keys", [[OLD], []], ids=["other key", "no key"])
async def test_worker_without_the_key(
    desk: Desk, queue: ShakyQueue, question: LLMRequest, caplog: pytest.LogCaptureFixture, *, keys: Sequence[str]
) -> None:
    """A worker that lacks the key leaves requests to those that have it: unspent, with a reason, logged once."""
    async with process(desk, queue, NEW) as client, process(desk, queue, *keys) as stranger:
        tickets = [(await client.submit(question)).ticket.id for _ in range(3)]
        async with stranger.worker(concurrency=1):
            await desk.clock.run_for(60.0)
            statuses = [await client.status(ticket) for ticket in tickets]
            assert {(s.state.value, s.ticket.reason, s.attempts) for s in statuses} == {("queued", "unknown_key", 0)}
            assert {stats.gate.parked for stats in await queue.lanes()} == {None}
            # Claimed and given back once in 10 s, each of which raises the version by one.
            assert max(status.version for status in statuses) <= 1 + 2 * 7
        assert desk.provider.calls == []
        async with client.worker():
            await desk.clock.run_for(10.0)
            assert len({await answered(client, ticket) for ticket in tickets}) == 3
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "LLM_GATEWAY_QUEUE_KEYS" in told[0].getMessage()


async def test_ttl_bounds_the_wait_for_a_key(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """A request that nobody can open expires like any other."""
    async with process(desk, queue, NEW) as client, process(desk, queue, OLD) as stranger:
        ticket = (await client.submit(question)).ticket.id
        desk.clock.advance(question.ttl.total_seconds() - 30.0)
        async with stranger.worker():
            await desk.clock.run_for(60.0)
        assert (await client.status(ticket)).state is TicketState.EXPIRED


async def test_submitting_without_the_key(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """A process that lacks the key stores nothing, and says which setting is missing."""
    async with process(desk, queue, NEW) as client, process(desk, queue, OLD) as stranger:
        await client.submit(question)
        with pytest.raises(UnknownKey, match="not given"):
            await stranger.submit(question)
        (refusal,) = await stranger.submit_many([question])
        assert isinstance(refusal, UnknownKey)
        assert (await client.health()).depth == 1


async def test_store_of_keys_is_away(
    desk: Desk, queue: ShakyQueue, question: LLMRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that cannot reach the keys gives a request back and answers it later; each outage is logged once."""
    away = ShakyQueue(desk.clock)
    parts = replace(desk.parts, codec=AesGcmCodec([NEW], away, clock=desk.clock))
    async with process(desk, queue, NEW) as client, LLMClient([desk.provider], queue, parts) as other:
        await client.cancel((await client.submit(question)).ticket.id)
        await away.keep_tenant_key("", await queue.tenant_key("") or b"")
        async with other.worker():
            for _ in range(2):
                away.failures["tenant_key"] = [QueueUnavailable("It is away.")] * 3
                ticket = (await client.submit(question)).ticket.id
                await desk.clock.run_for(60.0)
                await answered(client, ticket)
                assert (await client.status(ticket)).attempts == 1
    assert len(desk.provider.calls) == 2
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 2


async def test_answer_outlives_a_blink_of_the_keys(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """An answer that cannot be sealed for a moment is kept and sealed then: it is not paid for twice."""
    desk.provider.hold()
    async with process(desk, queue, NEW) as client:
        ticket = (await client.submit(question)).ticket.id
        async with client.worker():
            await desk.provider.wait_for_calls(1)
            await desk.clock.run_for(15.0)
            queue.failures["tenant_key"] = [QueueUnavailable("It is away.")] * 3
            desk.provider.release()
            await desk.clock.run_for(10.0)
            await answered(client, ticket)
    assert (len(desk.provider.calls), queue.failures["tenant_key"]) == (1, [])


async def test_event_waits_for_the_keys(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """An event whose answer cannot be opened for a moment is told later, with its receipt."""
    seen: list[TicketEvent] = []
    async with process(desk, queue, NEW) as client:
        ticket = (await client.submit(question)).ticket.id
        await queue.start(outbox=True)
        async with client.worker():
            await answered(client, ticket)
    await queue.start(outbox=True)
    parts = replace(desk.parts, codec=AesGcmCodec([NEW], queue, clock=desk.clock))
    queue.failures["tenant_key"] = [QueueUnavailable("It is away.")]
    async with LLMClient([desk.provider], queue, parts, on_event=seen.append):
        await desk.clock.run_for(60.0)
    assert (seen[-1].state, seen[-1].receipt is not None) == (TicketState.COMPLETED, True)


async def test_erase_everything(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """Erasing everything removes a tenant's tickets and its key; another tenant keeps both."""
    async with process(desk, queue, NEW) as client:
        ours, theirs = client.for_tenant("school-1"), client.for_tenant("school-2")
        tickets = [(await ours.submit(question)).ticket.id for _ in range(2)]
        kept = (await theirs.submit(question)).ticket.id
        async with client.worker():
            await answered(ours, tickets[0])
        copies = [await queue.result("school-1", tickets[0])]
        report = await ours.erase(everything=True)
        assert set(report.tickets) == set(tickets)
        for ticket in tickets:
            with pytest.raises(TicketNotFound):
                await ours.status(ticket)
        assert (await queue.tenant_key("school-1"), await queue.tenant_key("school-2") is None) == (None, False)
        async with client.worker():
            await answered(theirs, kept)
            again = (await ours.submit(question)).ticket.id
            await answered(ours, again)
    codec = AesGcmCodec([NEW], queue)
    with pytest.raises(QueueError):
        await codec.open(copies[0] or b"", tenant="school-1", ticket_id=tickets[0], kind="result")


async def test_request_after_an_erasure(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """A worker that still knows the dropped key answers what the tenant submits right after the erasure."""
    async with process(desk, queue, NEW) as client, process(desk, queue, NEW) as working, working.worker():
        await answered(client, (await client.submit(question)).ticket.id)
        await client.erase(everything=True)
        await answered(client, (await client.submit(question)).ticket.id)


async def test_erasing_without_keys(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """Erasing everything drops a tenant's key also when the process that erases has no keys itself."""
    async with process(desk, queue, NEW) as client:
        await client.submit(question)
        async with LLMClient([desk.provider], queue, desk.parts) as keyless:
            await keyless.erase(everything=True)
        assert None is await queue.tenant_key("")


async def test_erasure_that_is_not_certain(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """Who cannot be told whether the key is gone is told to erase again, which then does it."""
    queue.failures["drop_tenant_key"] = [DurabilityUnknown("The reply was lost.")]
    async with process(desk, queue, NEW) as client:
        await client.submit(question)
        with pytest.raises(DurabilityUnknown, match="Erase again"):
            await client.erase(everything=True)
        await client.erase(everything=True)
    assert None is await queue.tenant_key("")


async def test_smaller_erasures_keep_the_key(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """Erasing a ticket or a subject leaves the key, which the other tickets need."""
    async with process(desk, queue, NEW) as client:
        ticket = (await client.submit(question)).ticket.id
        kept = await queue.tenant_key("")
        await client.erase(ticket=ticket)
        await client.erase(subject="anna")
        assert kept is not None
        assert kept == await queue.tenant_key("")


@pytest.mark.parametrize(
    ("ticket", "subject", "everything"),
    [(None, None, False), ("t", "s", False), ("t", None, True), (None, "s", True)],
)
async def test_erase_needs_one(client: LLMClient, ticket: str | None, subject: str | None, *, everything: bool) -> None:
    """Erasing takes a ticket, or a subject, or everything."""
    with pytest.raises(InvalidRequest):
        await client.erase(ticket=ticket, subject=subject, everything=everything)


async def test_fingerprint_is_keyed(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """The stored fingerprint cannot be guessed at without the key, and rotating keys leaves keys of requests valid."""
    keyed = question.model_copy(update={"idempotency_key": "k"})
    async with process(desk, queue, OLD) as client:
        ticket = (await client.submit(keyed)).ticket.id
    plain = await PlainCodec().digest(content_of(keyed), tenant="")
    assert (await queue.get("", ticket)).fingerprint != plain
    await queue.start(outbox=False)
    async with process(desk, queue, NEW, OLD) as rotated:
        assert (await rotated.submit(keyed)).ticket.id == ticket
        other = keyed.model_copy(update={"prompt": "Another?"})
        for ask in (rotated.submit, rotated.complete):
            with pytest.raises(IdempotencyConflict):
                await ask(other)


async def test_errors_show_no_content(desk: Desk, queue: ShakyQueue, question: LLMRequest) -> None:
    """What is raised over a sealed payload quotes neither it nor a key."""
    async with process(desk, queue, NEW) as client:
        ticket = (await client.submit(question)).ticket.id
        await queue.drop_tenant_key("")
        desk.clock.advance(10.0)
        async with client.worker():
            with pytest.raises(LLMGatewayError) as caught:
                await client.result(ticket, timeout=5)
    assert "was dropped" in str(caught.value)
    assert [word for word in ("essay", NEW, OLD) if word in repr(vars(caught.value)) + str(caught.value)] == []
