"""A failed request can be asked again under a new ticket, once, sealed for that ticket."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage
from tests.codecs.stores import NEW

from llm_gateway import Completed, LLMClient, LLMRequest, TicketState
from llm_gateway._core.intake import requeue_key
from llm_gateway._core.jobs import AdoptedBy, Enqueued, NewJob
from llm_gateway._facts import Fault
from llm_gateway.codecs.aesgcm import AesGcmCodec
from llm_gateway.errors import (
    DurabilityUnknown,
    ErrorInfo,
    InvalidRequest,
    ProviderUnavailable,
    QueueError,
    TicketFailed,
    TicketNotFound,
)
from llm_gateway.queues.memory import MemoryQueue


async def failed(desk: Desk, client: LLMClient, question: LLMRequest) -> str:
    """Submit a request and let it fail."""
    desk.provider.script(InvalidRequest("No such field.", info=ErrorInfo(fault=Fault.BAD_REQUEST)))
    ticket = (await client.submit(question)).ticket.id
    async with client.worker():
        with pytest.raises(TicketFailed):
            await client.result(ticket, timeout=5)
    return ticket


@pytest.mark.parametrize("seals", [True, False])
async def test_requeue(desk: Desk, question: LLMRequest, *, seals: bool) -> None:
    """A failed request is stored anew with all that was asked and echoed, and answered; the dead letter stays."""
    parts = replace(desk.parts, codec=AesGcmCodec([NEW], desk.queue)) if seals else desk.parts
    asked = question.model_copy(update={"group": "g", "correlation_id": "c", "subjects": ("s",)})
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        dead = await failed(desk, client, asked)
        made = (await client.requeue(dead)).ticket
        assert (made.group, made.correlation_id, made.metadata) == ("g", "c", {"pair": 7})
        assert (await client.requeue(dead)).ticket.id == made.id != dead
        async with client.worker():
            outcome = await client.result(made.id, timeout=5)
        assert isinstance(outcome, Completed)
        assert (await client.status(dead)).state is TicketState.FAILED
        assert (await client.requeue(dead)).ticket.id == made.id
    asked_twice = [call.body for call in desk.provider.calls]
    assert asked_twice == [asked_twice[0]] * 2
    assert (await desk.queue.get("", made.id)).requeued_from == dead


async def test_time_to_live_starts_anew(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A requeued request may wait as long as the failed one might."""
    dead = await failed(desk, client, question)
    desk.clock.advance(3600.0)
    made = (await client.requeue(dead)).ticket
    assert made.expires_at - made.created_at == question.ttl
    assert made.created_at == desk.clock.now()


async def test_only_failed_tickets(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A ticket that waits, was answered or was cancelled is refused, and nothing is stored."""
    waiting, cancelled = [(await client.submit(question)).ticket.id for _ in range(2)]
    await client.cancel(cancelled)
    for ticket in (waiting, cancelled):
        with pytest.raises(QueueError, match="only a failed one"):
            await client.requeue(ticket)
    async with client.worker():
        await client.result(waiting, timeout=5)
    with pytest.raises(QueueError, match="completed"):
        await client.requeue(waiting)
    assert len(await desk.queue.list_jobs()) == 2


async def test_foreign_ticket(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Another tenant's dead letter does not exist."""
    dead = await failed(desk, client.for_tenant("school-1"), question)
    for stranger in (client, client.for_tenant("school-2")):
        with pytest.raises(TicketNotFound):
            await stranger.requeue(dead)


async def test_erased(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Neither an erased dead letter nor one whose new ticket was erased comes back."""
    erased, dead = await failed(desk, client, question), await failed(desk, client, question)
    await client.erase(ticket=erased)
    await client.erase(ticket=(await client.requeue(dead)).ticket.id)
    for ticket in (erased, dead):
        with pytest.raises(TicketNotFound):
            await client.requeue(ticket)
    assert (await client.health()).depth == 0


async def test_shredded_key(desk: Desk, question: LLMRequest) -> None:
    """A dead letter whose key was dropped is refused with a reason, and stays a dead letter."""
    parts = replace(desk.parts, codec=AesGcmCodec([NEW], desk.queue, clock=desk.clock))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        dead = await failed(desk, client, question)
        await desk.queue.drop_tenant_key("")
        desk.clock.advance(10.0)
        with pytest.raises(QueueError, match="dropped"):
            await client.requeue(dead)
        assert (await client.status(dead)).state is TicketState.FAILED


class Unsure(MemoryQueue):
    """Stores what is requeued, and loses the reply once."""

    lost = False

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Lose the first reply to a requeueing."""
        enqueued = await super().enqueue(job, adopted_by=adopted_by)
        if job.requeued_from is not None and not self.lost:
            self.lost = True
            assert job.idempotency_key == requeue_key(job.requeued_from)
            message = "The reply was lost."
            raise DurabilityUnknown(message)
        return enqueued


async def test_lost_reply(desk: Desk, question: LLMRequest) -> None:
    """When the reply is lost, the error says to requeue again, which finds the one ticket."""
    queue = Unsure(clock=desk.clock)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        dead = await failed(desk, client, question)
        with pytest.raises(DurabilityUnknown) as caught:
            await client.requeue(dead)
        assert "Requeue the ticket again" in str(caught.value)
        made = (await client.requeue(dead)).ticket.id
        assert {view.ticket_id for view in await queue.list_jobs()} == {dead, made}


async def test_during_an_outage(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A lane that is new to the queue learns from a requeued request that its circuit is open."""
    dead = await failed(desk, client, question)
    desk.provider.script(*[outage()] * 3)
    asking = [asyncio.create_task(client.complete(question, when_unavailable="raise")) for _ in range(3)]
    await desk.clock.run_for(60.0)
    assert {type(task.exception()) for task in asking} == {ProviderUnavailable}
    assert (await client.requeue(dead)).ticket.reason == "submitted"
    await desk.clock.run_for(0.0)
    assert {stats.gate.circuit for stats in await desk.queue.lanes()} == {"open"}
