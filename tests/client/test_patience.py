"""No call outlasts its timeout for the queue's sake, and closing sends everyone away with an outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Final

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending, Receipt, TicketState
from llm_gateway._core.jobs import AdoptedBy, Enqueued, JobEvent, JobView, Lane, LaneStats, NewJob
from llm_gateway._facts import Fault
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import ClientClosed, DurabilityUnknown, QueueUnavailable
from llm_gateway.options import WorkerOptions
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeSink

TIMEOUT: Final = 0.1
# Far more than any of these may take, and far less than for ever.
BOUND: Final = 10.0


class Frozen(MemoryQueue):
    """A queue that stands still where it is told to, until it is thawed.

    Attributes:
        at: The calls that are not answered.
        reached: Set once one of them has been made.
        thawed: Set when they are answered again.
    """

    at: frozenset[str] = frozenset()
    reached: asyncio.Event
    thawed: asyncio.Event

    async def stand(self, call: str) -> None:
        """Stand still in *call* while it is frozen."""
        if call in self.at:
            self.reached.set()
            await self.thawed.wait()

    async def find(self, tenant: str, idempotency_key: str) -> JobView | None:
        await self.stand("find")
        return await super().find(tenant, idempotency_key)

    async def get(self, tenant: str, ticket_id: str) -> JobView:
        await self.stand("get")
        return await super().get(tenant, ticket_id)

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        self.reached.set()
        return await super().wait(tenant, ticket_id, beyond=beyond)

    async def events(self, tenant: str, *, group: str | None, after: str | None, limit: int = 100) -> list[JobEvent]:
        self.reached.set()
        return await super().events(tenant, group=group, after=after, limit=limit)

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        await self.stand("enqueue")
        return await super().enqueue(job, adopted_by=adopted_by)

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        await self.stand("pin")
        return await super().pin(tenant, group, lane, served_model)

    async def lanes(self) -> list[LaneStats]:
        await self.stand("lanes")
        return await super().lanes()


@pytest.fixture
async def queue(desk: Desk) -> Frozen:
    """A queue that can be frozen."""
    made = Frozen(clock=desk.clock)
    made.reached, made.thawed = asyncio.Event(), asyncio.Event()
    return made


@pytest.fixture
async def client(desk: Desk, queue: Frozen) -> AsyncIterator[LLMClient]:
    """A client over that queue that gives running calls no time when it closes."""
    parts = replace(desk.parts, worker=WorkerOptions(drain_timeout=0.0))
    async with LLMClient([desk.provider], queue, parts) as opened:
        yield opened


async def test_key_not_looked_up(desk: Desk, client: LLMClient, queue: Frozen, question: LLMRequest) -> None:
    """A queue that does not say whether it knows the key costs the timeout, and nothing is sent."""
    queue.at = frozenset({"find"})
    async with asyncio.timeout(BOUND):
        with pytest.raises(QueueUnavailable, match="within the timeout"):
            await client.complete(question.model_copy(update={"idempotency_key": "k"}), timeout=TIMEOUT)
    assert desk.provider.calls == []


async def test_not_stored_in_time(desk: Desk, client: LLMClient, queue: Frozen, question: LLMRequest) -> None:
    """A queue that does not say whether it stored a request leaves an error by which its one ticket is found."""
    queue.at = frozenset({"enqueue"})
    desk.provider.script(outage(Fault.ACCELERATION))
    async with asyncio.timeout(BOUND):
        with pytest.raises(DurabilityUnknown) as caught:
            await client.complete(question, timeout=TIMEOUT)
    assert len(caught.value.attempts) == 1
    queue.at = frozenset()
    assert isinstance(caught.value.request, LLMRequest)
    tickets = [(await client.submit(caught.value.request)).ticket.id for _ in range(2)]
    assert [view.ticket_id for view in await queue.list_jobs()] * 2 == tickets


async def test_not_adopted_in_time(desk: Desk, client: LLMClient, queue: Frozen, question: LLMRequest) -> None:
    """A running call whose ticket is not stored in time goes on, and completes the ticket once that is stored."""
    queue.at = frozenset({"enqueue"})
    desk.provider.hold()
    async with asyncio.timeout(BOUND):
        with pytest.raises(DurabilityUnknown) as caught:
            await client.complete(question, timeout=TIMEOUT)
        queue.thawed.set()
        await desk.clock.run_for(0.0)
        desk.provider.release()
        asked_again = caught.value.request
        assert isinstance(asked_again, LLMRequest)
        ticket = (await client.submit(asked_again)).ticket
        assert isinstance(await client.result(ticket.id, timeout=BOUND), Completed)
    assert len(desk.provider.calls) == 1


async def test_model_not_compared_in_time(client: LLMClient, queue: Frozen, question: LLMRequest) -> None:
    """An answer whose model cannot be compared in time is a typed error."""
    queue.at = frozenset({"pin"})
    async with asyncio.timeout(BOUND):
        with pytest.raises(QueueUnavailable) as caught:
            await client.complete(question.model_copy(update={"group": "g"}), timeout=TIMEOUT)
    assert caught.value.fault is Fault.MODEL_UNCHECKED


async def test_estimate_is_not_waited_for(
    desk: Desk, queue: Frozen, question: LLMRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """A ticket comes without its estimate, and without a warning, when the queue is slow to tell of its lanes."""
    queue.at = frozenset({"lanes"})
    desk.provider.script(outage(Fault.ACCELERATION))
    async with asyncio.timeout(BOUND), LLMClient([desk.provider], queue, desk.parts) as client:
        outcome = await client.complete(question, timeout=TIMEOUT)
    assert isinstance(outcome, Pending)
    assert (outcome.ticket.estimated_wait, caplog.messages) == (None, [])


class Stuck(PlainCodec):
    """A codec that never comes to an end."""

    async def seal(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("held", [True, False], ids=["running", "ended"])
async def test_not_sealed_in_time(desk: Desk, queue: Frozen, question: LLMRequest, *, held: bool) -> None:
    """A request that cannot be sealed in time is not stored, and no call of it goes on."""
    desk.provider.script(*[] if held else [outage(Fault.ACCELERATION)])
    if held:
        desk.provider.hold()
    base = asyncio.all_tasks()
    async with LLMClient([desk.provider], queue, replace(desk.parts, codec=Stuck())) as client:
        running = asyncio.all_tasks() - base
        async with asyncio.timeout(BOUND):
            with pytest.raises(QueueUnavailable, match="within the timeout"):
                await client.complete(question, timeout=TIMEOUT)
        assert (running, []) == (asyncio.all_tasks() - base, await queue.list_jobs())


class SlowSink(FakeSink):
    """A sink that takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()

    async def write(self, receipt: Receipt) -> None:
        await self.may.wait()
        await super().write(receipt)


async def test_receipt_is_not_waited_for(desk: Desk, question: LLMRequest) -> None:
    """A slow sink holds no answer back for longer than the timeout, and gets its receipt all the same."""
    sink = SlowSink()
    async with LLMClient([desk.provider], None, replace(desk.parts, sink=sink)) as client:
        async with asyncio.timeout(BOUND):
            outcome = await client.complete(question, timeout=TIMEOUT)
        sink.may.set()
    assert isinstance(outcome, Completed)
    assert sink.receipts == [outcome.response.receipt]


async def test_closing_hands_back(desk: Desk, client: LLMClient, queue: Frozen, question: LLMRequest) -> None:
    """Closing under a call that runs on gives its caller a ticket, and the call's try stands in it."""
    desk.provider.hold()
    asked = asyncio.create_task(client.complete(question))
    await desk.provider.wait_for_calls(1)
    await client.aclose()
    outcome = await asked
    assert isinstance(outcome, Pending)
    (job,) = await queue.list_jobs()
    assert (job.ticket_id, TicketState.QUEUED, "shutdown") == (outcome.ticket.id, job.state, job.reason)
    assert [Fault.CANCELLED] == [attempt.fault for attempt in job.history]


async def test_closing_queues_what_waits(desk: Desk, client: LLMClient, queue: Frozen, question: LLMRequest) -> None:
    """Closing under a call that waits for its next try gives its caller a ticket that says why."""
    desk.provider.script(outage(Fault.RATE_LIMITED, retry_after=30.0))
    asked = asyncio.create_task(client.complete(question))
    await desk.clock.run_for(1.0)
    await client.aclose()
    outcome = await asked
    assert isinstance(outcome, Pending)
    (job,) = await queue.list_jobs()
    assert (TicketState.QUEUED, "shutdown", 1) == (job.state, job.reason, len(job.history))


async def test_closing_without_queue(desk: Desk, question: LLMRequest) -> None:
    """Without a queue, closing under a call that runs on ends it in a typed error that knows its try."""
    client = LLMClient([desk.provider], None, replace(desk.parts, worker=WorkerOptions(drain_timeout=0.0)))
    async with client:
        desk.provider.hold()
        asked = asyncio.create_task(client.complete(question))
        await desk.provider.wait_for_calls(1)
        await client.aclose()
        with pytest.raises(ClientClosed) as caught:
            await asked
    assert [Fault.CANCELLED] == [attempt.fault for attempt in caught.value.attempts]


FOLLOWS: Final[dict[str, Callable[[LLMClient, str], Awaitable[object]]]] = {
    "result": lambda client, ticket: client.result(ticket, timeout=3600.0),
    "events": lambda client, _: anext(aiter(client.events(after=None))),
}


@pytest.mark.parametrize("follow", FOLLOWS.values(), ids=FOLLOWS)
async def test_closing_under_a_follower(
    desk: Desk, queue: Frozen, question: LLMRequest, follow: Callable[[LLMClient, str], Awaitable[object]]
) -> None:
    """Whoever follows a ticket is told at once that the client closes: its patience may be longer than any drain."""
    client = LLMClient([desk.provider], queue, replace(desk.parts, worker=WorkerOptions(drain_timeout=3600.0)))
    async with asyncio.timeout(BOUND), client:
        ticket = (await client.submit(question)).ticket.id
        queue.reached.clear()
        following = asyncio.ensure_future(follow(client, ticket))
        await queue.reached.wait()
        await client.aclose()
        with pytest.raises(ClientClosed, match="another client"):
            await following


async def test_closing_under_a_generator(client: LLMClient) -> None:
    """Events that are asked for after closing are refused as any other use."""
    events = client.events()
    await client.aclose()
    with pytest.raises(ClientClosed):
        await anext(events)


async def test_closing_waits_for_short_calls(desk: Desk, queue: Frozen, question: LLMRequest) -> None:
    """A call of the queue that is under way when the client closes gets its answer."""
    client = LLMClient([desk.provider], queue, desk.parts)
    async with client:
        ticket = (await client.submit(question)).ticket.id
        queue.at = frozenset({"get"})
        asked = asyncio.create_task(client.status(ticket))
        await queue.reached.wait()
        closing = asyncio.create_task(client.aclose())
        await desk.clock.run_for(0.0)
        queue.thawed.set()
        assert TicketState.QUEUED is (await asked).state
        await closing


async def test_call_beside_a_ticket(
    desk: Desk, client: LLMClient, question: LLMRequest, caplog: pytest.LogCaptureFixture
) -> None:
    """A call whose key got a ticket by another call meanwhile is given up, and the log says that it may be billed."""
    desk.provider.hold()
    keyed = question.model_copy(update={"idempotency_key": "k"})
    outcomes = await asyncio.gather(*(client.complete(keyed, timeout=TIMEOUT) for _ in range(2)))
    desk.provider.release()
    assert {type(outcome) for outcome in outcomes} == {Pending}
    beside = [message for message in caplog.messages if "was given up; it may be billed" in message]
    assert (len(desk.provider.calls), len(beside)) == (2, 1)
