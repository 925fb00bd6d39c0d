"""A worker drains the queue with permits and leases, spends nothing on outages, and hands back what it cannot end."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Message, Pending, TicketEvent
from llm_gateway._core.circuit import CircuitKey, CircuitState
from llm_gateway._core.observations import ObservationKind
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault
from llm_gateway.errors import (
    ErrorInfo,
    InvalidRequest,
    LLMGatewayError,
    ModelNotFound,
    QuotaExhausted,
    TicketExpired,
    TicketFailed,
)
from llm_gateway.options import WorkerOptions
from llm_gateway.testing import FakeCodec


class SlowCodec(FakeCodec):
    """Takes time to open a payload."""

    def __init__(self, desk: Desk, seconds: float) -> None:
        super().__init__()
        self._desk = desk
        self._seconds = seconds

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Let time pass first."""
        self._desk.clock.advance(self._seconds)
        return await super().open(data, tenant=tenant, ticket_id=ticket_id, kind=kind)


class StuckCodec(FakeCodec):
    """Opens nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Never return."""
        self.reached.set()
        await asyncio.Event().wait()
        return data


async def submitted(client: LLMClient, question: LLMRequest, count: int) -> list[str]:
    """Submit the same question *count* times and return the tickets."""
    outcomes = await client.submit_many([question] * count)
    return [outcome.ticket.id for outcome in outcomes if isinstance(outcome, Pending)]


async def test_drains(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Thirty requests and two workers are exactly thirty calls and thirty different answers."""
    tickets = await submitted(client, question, 30)
    async with client.worker(concurrency=4), client.worker(concurrency=4):
        outcomes = [await client.result(ticket, timeout=10) for ticket in tickets]
    ids = {outcome.response.receipt.response_id for outcome in outcomes if isinstance(outcome, Completed)}
    assert (len(ids), len(desk.provider.calls)) == (30, 30)


async def test_receipt_of_queued_answer(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A queued answer's receipt names its ticket, its wait and its attempts, and reaches the sink once."""
    (ticket,) = await submitted(client, question, 1)
    async with client.worker():
        outcome = await client.result(ticket, timeout=5)
    assert isinstance(outcome, Completed)
    receipt = outcome.response.receipt
    assert (receipt.ticket_id, [attempt.fault for attempt in receipt.attempts]) == (ticket, [None])
    assert outcome.metadata == {"pair": 7}
    assert [kept.ticket_id for kept in desk.sink.receipts] == [ticket]


async def test_outage_spends_nothing(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Twenty jobs held through a two-minute outage complete with no attempt spent before their last."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    calls = len(desk.provider.calls)
    tickets = await submitted(client, question, 20)
    async with client.worker(concurrency=5):
        await desk.clock.run_for(119.0)
        assert len(desk.provider.calls) == calls
        statuses = [await client.status(ticket) for ticket in tickets]
        assert {(status.state.value, status.attempts) for status in statuses} == {("queued", 0)}
        await desk.clock.run_for(10.0)
        outcomes = [await client.result(ticket, timeout=5) for ticket in tickets]
    ids = {outcome.response.receipt.response_id for outcome in outcomes if isinstance(outcome, Completed)}
    assert len(ids) == 20
    assert {(await client.status(ticket)).attempts for ticket in tickets} == {1}


async def test_one_probe(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """After the open time one job goes out as a probe, and the others wait for what becomes of it."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    calls = len(desk.provider.calls)
    await submitted(client, question, 10)
    desk.provider.hold()
    async with client.worker(concurrency=5):
        await desk.clock.run_for(125.0)
        assert len(desk.provider.calls) - calls == 1
        desk.provider.release()


async def test_live_call_yields_probe(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A live call leaves the probe to a queued job when a worker stands by, and gets a ticket."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    desk.clock.advance(121.0)
    await submitted(client, question, 1)
    await desk.queue.heartbeat("worker-elsewhere", [stats.lane for stats in await desk.queue.lanes()])
    calls = len(desk.provider.calls)
    outcome = await client.complete(question)
    assert isinstance(outcome, Pending)
    assert (outcome.ticket.reason, len(desk.provider.calls)) == ("circuit_open", calls)


async def test_live_call_probes_alone(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A live call probes by itself when no worker stands by."""
    desk.provider.script(*[outage()] * 3)
    for _ in range(2):
        await client.complete(question)
    desk.clock.advance(121.0)
    assert isinstance(await client.complete(question), Completed)


async def test_request_at_fault(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """What the vendor refuses as the request's own fault fails at once, with the reason."""
    desk.provider.script(InvalidRequest("No such field.", info=ErrorInfo(fault=Fault.BAD_REQUEST, status=400)))
    (ticket,) = await submitted(client, question, 1)
    async with client.worker():
        with pytest.raises(TicketFailed) as caught:
            await client.result(ticket, timeout=5)
    assert (caught.value.fault, caught.value.info.status, len(desk.provider.calls)) == (Fault.BAD_REQUEST, 400, 1)


async def test_attempts_end(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A request that makes the provider fail again and again fails after the attempts it may spend."""
    parts = replace(desk.parts, queue=desk.parts.queue.model_copy(update={"max_attempts": 2}))
    desk.provider.script(*[outage(Fault.SERVER_ERROR)] * 2)
    async with LLMClient([desk.provider], desk.queue, parts) as client_:
        (ticket,) = await submitted(client_, question, 1)
        async with client_.worker():
            await desk.clock.run_for(60.0)
            with pytest.raises(TicketFailed) as caught:
                await client_.result(ticket, timeout=5)
    assert (caught.value.fault, len(desk.provider.calls)) == (Fault.SERVER_ERROR, 2)


@pytest.mark.parametrize(
    "error",
    [
        QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)),
        ModelNotFound("Gone.", info=ErrorInfo(fault=Fault.MODEL_NOT_FOUND)),
    ],
    ids=["quota", "model"],
)
async def test_parks(desk: Desk, client: LLMClient, question: LLMRequest, error: LLMGatewayError) -> None:
    """What only an operator can mend parks the lane, attempts unspent, and one canary later shows it is mended."""
    desk.provider.script(error)
    tickets = await submitted(client, question, 6)
    async with client.worker(concurrency=1):
        await desk.clock.run_for(60.0)
        assert len(desk.provider.calls) == 1
        assert {(await client.status(ticket)).attempts for ticket in tickets} == {0}
        (lane,) = (await client.health()).lanes
        assert lane.parked == "needs_operator"
        await desk.clock.run_for(900.0)
        outcomes = [await client.result(ticket, timeout=5) for ticket in tickets]
    assert all(isinstance(outcome, Completed) for outcome in outcomes)


async def test_model_change_parks_group(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """The first answer of another model fails its ticket and parks the rest of the group, unsent and unspent."""
    grouped = question.model_copy(update={"group": "batch-7"})
    await client.complete(grouped)
    call = desk.provider.prepare(grouped, TEXT)
    other = replace(desk.provider.answer(call, "x"), served_model="m-1-2027")
    desk.provider.script(other)
    first, *rest = await submitted(client, grouped, 3)
    async with client.worker(concurrency=1):
        with pytest.raises(TicketFailed) as caught:
            await client.result(first, timeout=5)
        await desk.clock.run_for(30.0)
        waiting = [await client.status(ticket) for ticket in rest]
    assert (caught.value.fault, len(desk.provider.calls)) == (Fault.MODEL_MISMATCH, 2)
    assert {(status.ticket.reason, status.attempts) for status in waiting} == {("model_changed", 0)}


async def test_model_change_is_told(desk: Desk, question: LLMRequest) -> None:
    """The event of the ticket that failed names the mismatch, and each parked ticket has an event with the reason."""
    grouped = question.model_copy(update={"group": "batch-7"})
    told: list[TicketEvent] = []
    async with LLMClient([desk.provider], desk.queue, desk.parts, on_event=told.append) as client_:
        await client_.complete(grouped)
        call = desk.provider.prepare(grouped, TEXT)
        desk.provider.script(replace(desk.provider.answer(call, "x"), served_model="m-1-2027"))
        first, second = await submitted(client_, grouped, 2)
        async with client_.worker(concurrency=1):
            await desk.clock.run_for(30.0)
    last = {event.ticket_id: (event.state.value, event.reason, event.error and event.error.type) for event in told}
    assert {first: ("failed", None, "ModelMismatch"), second: ("queued", "model_changed", None)} == last


async def test_slow_lane_leaves_places(desk: Desk, question: LLMRequest) -> None:
    """With a bound for each lane, a lane whose calls hang takes its own places only and the others go on."""
    parts = replace(desk.parts, worker=WorkerOptions(concurrency=4, lane_concurrency=2))
    desk.provider.hold()
    async with LLMClient([desk.provider], desk.queue, parts) as client_:
        await submitted(client_, question, 6)
        await submitted(client_, question.model_copy(update={"model": "m-2"}), 6)
        async with client_.worker() as worker:
            await desk.provider.wait_for_calls(4)
            await desk.clock.run_for(30.0)
            assert (Counter({"m-1": 2, "m-2": 2}), 4) == (
                Counter(call.model for call in desk.provider.calls),
                worker.running,
            )
            desk.provider.release()
            await desk.provider.wait_for_calls(12)


async def test_expires_unpaid(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A request that waited longer than its ttl expires without being sent."""
    brief = question.model_copy(update={"ttl": timedelta(seconds=30)})
    (ticket,) = await submitted(client, brief, 1)
    desk.clock.advance(31.0)
    async with client.worker():
        with pytest.raises(TicketExpired):
            await client.result(ticket, timeout=5)
    assert desk.provider.calls == []


async def test_expires_between_claim_and_call(desk: Desk, question: LLMRequest) -> None:
    """A request whose ttl passes after it was claimed, while its payload is opened, is not sent either."""
    parts = replace(desk.parts, codec=SlowCodec(desk, 31.0))
    async with LLMClient([desk.provider], desk.queue, parts) as client_:
        (ticket,) = await submitted(client_, question.model_copy(update={"ttl": timedelta(seconds=30)}), 1)
        async with client_.worker():
            with pytest.raises(TicketExpired) as caught:
                await client_.result(ticket, timeout=5)
    assert (desk.provider.calls, caught.value.attempts) == ([], ())


async def test_stopped_before_the_call(desk: Desk, question: LLMRequest) -> None:
    """A worker stopped while it opens a payload hands the job back unspent, without a crash, at once."""
    codec = StuckCodec()
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, codec=codec)) as client_:
        (ticket,) = await submitted(client_, question, 1)
        async with client_.worker(drain_timeout=0):
            await codec.reached.wait()
    job = await desk.queue.get("", ticket)
    assert ("queued", "shutdown", 0, 0) == (job.state, job.reason, job.attempts, job.crashes)
    assert desk.breaker.snapshot(CircuitKey(desk.provider.endpoint, job.lane)).state is CircuitState.CLOSED


async def test_installs_no_signal_handlers(client: LLMClient) -> None:
    """A worker inside a service leaves the service's signal handlers alone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    async with client.worker():
        during = {number: signal.getsignal(number) for number in before}
    after = {number: signal.getsignal(number) for number in before}
    assert (before, before) == (during, after)


async def test_drain_hands_back(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """What is not done at the end of the drain timeout goes back unspent, its attempt marked as possibly billed."""
    desk.provider.hold()
    (ticket,) = await submitted(client, question, 1)
    async with client.worker(drain_timeout=0):
        await desk.provider.wait_for_calls(1)
    status = await client.status(ticket)
    assert (status.state, status.attempts, status.ticket.reason) == ("queued", 0, "shutdown")
    desk.provider.release()
    async with client.worker():
        outcome = await client.result(ticket, timeout=5)
    assert isinstance(outcome, Completed)
    assert [attempt.possibly_billed for attempt in outcome.response.receipt.attempts] == [True, False]


async def test_drain_lets_end(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """What ends within the drain timeout is a result."""
    desk.provider.hold()
    (ticket,) = await submitted(client, question, 1)
    async with client.worker(drain_timeout=5):
        await desk.provider.wait_for_calls(1)
        asyncio.get_running_loop().call_soon(desk.provider.release)
    assert isinstance(await client.result(ticket), Completed)


async def test_lost_lease(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A worker that lost its lease stops its call and drops the answer; the ticket has the other one's."""
    desk.provider.hold()
    (ticket,) = await submitted(client, question, 1)
    async with client.worker():
        await desk.provider.wait_for_calls(1)
        await client.cancel(ticket)
        await desk.clock.run_for(15.0)
    fenced = [seen for seen in desk.observer.observations if seen.kind is ObservationKind.FENCED]
    assert (len(fenced), (await client.status(ticket)).state) == (1, "cancelled")


async def test_lease_is_renewed(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A call that takes longer than its lease keeps it as long as the worker lives."""
    desk.provider.hold()
    (ticket,) = await submitted(client, question, 1)
    async with client.worker():
        await desk.provider.wait_for_calls(1)
        await desk.clock.run_for(200.0)
        desk.provider.release()
        assert isinstance(await client.result(ticket, timeout=5), Completed)
    assert len(desk.provider.calls) == 1


async def test_validates_before_completing(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """An answer that breaks the schema fails its ticket; it never completes."""
    desk.provider.script("not a number")
    pending = await client.submit(question, output_type=int)
    async with client.worker():
        with pytest.raises(TicketFailed) as caught:
            await client.result(pending.ticket.id, output_type=int, timeout=5)
    assert caught.value.fault is Fault.INVALID_OUTPUT


async def test_unreadable_for_this_worker(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A provider this process does not have leaves its jobs to workers that do."""
    turns = [Message.user("Hello?")]
    other = LLMRequest(provider="fake", model="m-1", messages=tuple(turns))
    (ticket,) = await submitted(client, other, 1)
    parts = replace(desk.parts)
    async with LLMClient([], desk.queue, parts) as stranger, stranger.worker():
        await desk.clock.run_for(20.0)
        assert (await stranger.status(ticket)).state == "queued"


async def test_result_that_is_not_there_yet(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Who waited in vain is told where the ticket stands now, not where it stood when the wait began."""
    ticket = (await client.submit(question)).ticket.id
    desk.provider.hold()
    waiting = asyncio.create_task(client.result(ticket, timeout=0.2))
    async with client.worker():
        await desk.provider.wait_for_calls(1)
        outcome = await waiting
        assert isinstance(outcome, Pending)
        assert (None, None) == (outcome.ticket.reason, outcome.ticket.position)
        desk.provider.release()
