"""Status events reach their consumer at least once and in order, and tenants see only their own tickets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import LLMClient, LLMRequest, Pending, TicketEvent, TicketState
from llm_gateway._asking import Desk as OpenDesk
from llm_gateway._facts import Fault
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import ErrorInfo, InvalidRequest, TicketCancelled, TicketError, TicketNotFound
from llm_gateway.testing import FakePublisher

TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=1"}
HAPPY = ["queued", "processing", "completed"]


async def settle(desk: Desk, seconds: float = 0.0) -> None:
    """Let everything that can run do so, and move the clock on."""
    await desk.clock.run_for(seconds)
    await desk.clock.run_for(0.0)


def listening(desk: Desk, publisher: FakePublisher) -> LLMClient:
    """Make a client whose events go to *publisher*."""
    return LLMClient([desk.provider], desk.queue, replace(desk.parts, publisher=publisher))


async def drain(client: LLMClient, *tickets: str) -> None:
    """Work until these tickets have ended."""
    async with client.worker(concurrency=4):
        for ticket in tickets:
            with suppress(TicketError):
                await client.result(ticket, timeout=5)


async def test_every_transition(desk: Desk, question: LLMRequest) -> None:
    """Each ticket's transitions come in order, with the caller's metadata, and the answer's receipt at the end."""
    seen: list[TicketEvent] = []
    told = {"correlation_id": "c-1", "callback_topic": "t-1", "group": "g", "trace_context": TRACE}
    asked = question.model_copy(update=told)
    async with LLMClient([desk.provider], desk.queue, desk.parts, on_event=seen.append) as client:
        tickets = [(await client.submit(asked)).ticket.id for _ in range(5)]
        await drain(client, *tickets)
        await settle(desk)
    for ticket in tickets:
        own = [event for event in seen if event.ticket_id == ticket]
        assert [event.state.value for event in own] == HAPPY
        assert [event.version for event in own] == sorted({event.version for event in own})
        assert {(e.correlation_id, e.callback_topic, e.group) for e in own} == {("c-1", "t-1", "g")}
        assert [(event.metadata, event.trace_context) for event in own] == [({"pair": 7}, TRACE)] * 3
        assert [event.receipt is not None for event in own] == [False, False, True]
    assert len({event.event_id for event in seen}) == 15


async def test_async_handler(desk: Desk, question: LLMRequest) -> None:
    """A handler may be async; its return acknowledges."""
    seen: list[str] = []

    async def note(event: TicketEvent) -> None:
        await asyncio.sleep(0)
        seen.append(event.state.value)

    async with LLMClient([desk.provider], desk.queue, desk.parts, on_event=note) as client:
        ticket = (await client.submit(question)).ticket.id
        await drain(client, ticket)
        await settle(desk)
        assert (seen, (await client.health()).outbox) == (HAPPY, 0)


async def test_failing_handler(desk: Desk, question: LLMRequest) -> None:
    """An event whose handler fails is delivered again later, under the same id, before those behind it."""
    publisher = FakePublisher()
    publisher.fail(4)
    async with listening(desk, publisher) as client:
        ticket = (await client.submit(question)).ticket.id
        await drain(client, ticket)
        await settle(desk)
        health = await client.health()
        assert (len(publisher.events), health.outbox, health.outbox_lag) == (0, 3, 0.0)
        await settle(desk, 60.0)
        health = await client.health()
        assert (health.outbox, health.outbox_lag) == (0, None)
    assert [event.state.value for event in publisher.events] == HAPPY
    assert {event.event_id for event in publisher.refused} == {publisher.events[0].event_id}


async def test_lag(desk: Desk, question: LLMRequest) -> None:
    """The lag is the age of the oldest event that was not delivered, and never negative after a jump of the clock."""
    publisher = FakePublisher()
    publisher.fail(1_000)
    async with listening(desk, publisher) as client:
        await client.submit(question)
        await settle(desk, 30.0)
        await client.submit(question)
        assert (await client.health()).outbox_lag == 30.0
        desk.clock.jump_wall(-100.0)
        assert (await client.health()).outbox_lag == 0.0


async def test_nothing_lost_at_closing(desk: Desk, question: LLMRequest) -> None:
    """An event that could not be delivered before closing is delivered by the next client of the queue."""
    first, second = FakePublisher(), FakePublisher()
    first.fail(1_000)
    async with listening(desk, first) as client:
        await client.submit(question)
        await settle(desk)
    async with listening(desk, second):
        await settle(desk)
    assert [event.event_id for event in second.events] == [first.refused[0].event_id]


async def test_terminal_id(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """However a ticket ends, the id of its terminal event is the same, so that consumers act on one end."""
    ticket = (await client.submit(question)).ticket.id
    desk_of_client = vars(client)["_desk"]
    assert isinstance(desk_of_client, OpenDesk)
    tickets = desk_of_client.tickets
    (queued,) = await desk.queue.events("", group=None, after="0")
    ids = {
        (await tickets.event(replace(queued, state=state, version=version))).event_id
        for version, state in enumerate((TicketState.COMPLETED, TicketState.FAILED, TicketState.CANCELLED), start=3)
    }
    assert (len(ids), queued.ticket_id) == (1, ticket)


async def test_failure_event(desk: Desk, question: LLMRequest) -> None:
    """The event of a failure tells why."""
    seen: list[TicketEvent] = []
    desk.provider.script(InvalidRequest("No.", info=ErrorInfo(fault=Fault.BAD_REQUEST, status=400)))
    async with LLMClient([desk.provider], desk.queue, desk.parts, on_event=seen.append) as client:
        await drain(client, (await client.submit(question)).ticket.id)
        await settle(desk)
    error = seen[-1].error
    assert error is not None
    assert (seen[-1].state.value, error.fault, error.status) == ("failed", Fault.BAD_REQUEST, 400)


async def taken(stream: AsyncIterator[TicketEvent], count: int) -> list[TicketEvent]:
    """Take so many events."""
    return [await asyncio.wait_for(anext(stream), 5) for _ in range(count)]


async def test_follow_group(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Whoever follows a group sees its events from now on, and goes on after a cursor without gap or repeat."""
    stream = client.events(group="g")
    first = asyncio.ensure_future(anext(stream))
    await settle(desk)
    await client.submit(question)
    ticket = (await client.submit(question.model_copy(update={"group": "g"}))).ticket.id
    seen = [await asyncio.wait_for(first, 5)]
    await drain(client, ticket)
    rest = await taken(client.events(group="g", after=seen[0].cursor), 2)
    assert [event.state.value for event in (*seen, *rest)] == HAPPY
    assert {event.ticket_id for event in (*seen, *rest)} == {ticket}
    assert [event.event_id for event in await taken(stream, 2)] == [event.event_id for event in rest]


async def test_tenants(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A foreign ticket does not exist, for every use of it, and touching it changes nothing."""
    ours, theirs = client.for_tenant("school-1"), client.for_tenant("school-2")
    ticket = (await ours.submit(question)).ticket.id
    for stranger in (theirs, client):
        for use in (stranger.status, stranger.result, stranger.cancel):
            with pytest.raises(TicketNotFound):
                await use(ticket)
        with pytest.raises(TicketNotFound):
            await stranger.erase(ticket=ticket)
    assert (await ours.status(ticket)).state is TicketState.QUEUED
    await drain(ours, ticket)
    with pytest.raises(TicketNotFound):
        await theirs.result(ticket)


async def test_tenants_events(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A tenant follows only its own events, and groups and subjects of one name are two tenants' two."""
    ours, theirs = client.for_tenant("school-1"), client.for_tenant("school-2")
    shared = question.model_copy(update={"group": "g", "subjects": ("anna",)})
    stream = ours.events(group="g")
    first = asyncio.ensure_future(anext(stream))
    await settle(desk)
    foreign = (await theirs.submit(shared)).ticket.id
    own = (await ours.submit(shared)).ticket.id
    assert (await asyncio.wait_for(first, 5)).ticket_id == own
    assert await ours.cancel_group("g") == 1
    assert (await ours.erase(subject="anna")).tickets == (own,)
    assert (await theirs.status(foreign)).state is TicketState.QUEUED


async def test_tenants_keys(client: LLMClient, question: LLMRequest) -> None:
    """The same idempotency key of two tenants is two tickets."""
    keyed = question.model_copy(update={"idempotency_key": "k"})
    tickets = {(await client.for_tenant(name).submit(keyed)).ticket.id for name in ("a", "b", "a")}
    assert len(tickets) == 2


@pytest.mark.parametrize("name", ["", "x" * 256])
async def test_tenant_names(client: LLMClient, name: str) -> None:
    """A tenant needs a name of a bounded length."""
    with pytest.raises(InvalidRequest):
        client.for_tenant(name)


async def test_cancel_group(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Cancelling a group ends what has not ended, and nothing else."""
    grouped = question.model_copy(update={"group": "g"})
    done = (await client.submit(grouped)).ticket.id
    await drain(client, done)
    waiting = [(await client.submit(grouped)).ticket.id for _ in range(3)]
    other = (await client.submit(question)).ticket.id
    assert (await client.cancel_group("g"), await client.cancel_group("g")) == (3, 0)
    states = [(await client.status(ticket)).state.value for ticket in (done, *waiting, other)]
    assert states == ["completed", "cancelled", "cancelled", "cancelled", "queued"]
    with pytest.raises(TicketCancelled):
        await client.result(waiting[0])


async def test_erase_ticket(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An erased ticket and its result are gone; one that waited is never sent."""
    done = (await client.submit(question)).ticket.id
    await drain(client, done)
    waiting = (await client.submit(question)).ticket.id
    calls = len(desk.provider.calls)
    assert (await client.erase(ticket=done)).tickets == (done,)
    assert (await client.erase(ticket=waiting)).cancelled == 1
    async with client.worker():
        await settle(desk, 10.0)
    for ticket in (done, waiting):
        with pytest.raises((TicketNotFound, TicketCancelled)):
            await client.result(ticket)
    assert len(desk.provider.calls) == calls


async def test_erase_subject(client: LLMClient, question: LLMRequest) -> None:
    """Erasing a subject erases every ticket that names it and no other."""
    named = question.model_copy(update={"subjects": ("anna", "ben")})
    own = {(await client.submit(named)).ticket.id for _ in range(2)}
    other = (await client.submit(question.model_copy(update={"subjects": ("ben",)}))).ticket.id
    report = await client.erase(subject="anna")
    assert (set(report.tickets), report.cancelled) == (own, 2)
    assert (await client.status(other)).state is TicketState.QUEUED
    assert (await client.erase(subject="anna")).cancelled == 0


async def test_live_ticket_events(desk: Desk, question: LLMRequest) -> None:
    """A ticket that a live call became has events like any other."""
    publisher = FakePublisher()
    desk.provider.script(outage(Fault.UNKNOWN))
    async with listening(desk, publisher) as client:
        outcome = await client.complete(question)
        assert isinstance(outcome, Pending)
        await drain(client, outcome.ticket.id)
        await settle(desk)
    assert [event.state.value for event in publisher.events] == HAPPY


class Forgetful(PlainCodec):
    """Keeps requests and loses answers."""

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Give back an answer cut short."""
        return data[:-3] if kind == "result" else data


async def test_unreadable_answer(desk: Desk, question: LLMRequest) -> None:
    """The end of a ticket whose answer cannot be read is told all the same, and those behind it do not wait."""
    seen: list[TicketEvent] = []
    parts = replace(desk.parts, codec=Forgetful())
    async with LLMClient([desk.provider], desk.queue, parts, on_event=seen.append) as client:
        outcomes = await client.submit_many([question] * 2)
        tickets = {outcome.ticket.id for outcome in outcomes if isinstance(outcome, Pending)}
        async with client.worker():
            await settle(desk, 1.0)
    ended = {event.ticket_id: event.receipt for event in seen if event.state is TicketState.COMPLETED}
    assert ended == dict.fromkeys(tickets)
