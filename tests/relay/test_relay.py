"""One relay moves events at least once and in order, whatever its publisher and its queue do."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import count

import anyio
import pytest
from tests.relay.outlets import LEASE, NotingQueue, Outlet, check_history, deliveries, make_relay, memory, running

from llm_gateway import TicketEvent
from llm_gateway._core.jobs import JobEvent
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeClock
from llm_gateway.testing.conformance.bench import TENANT, Bench


async def three(b: Bench) -> str:
    """Take a ticket through its three events."""
    lease = await b.take()
    await b.complete(lease)
    return lease.job.ticket_id


def noting(b: Bench) -> NotingQueue:
    """Return the queue of the bench."""
    assert isinstance(b.queue, NotingQueue)
    return b.queue


async def test_batch_is_acknowledged_at_once() -> None:
    """A fast publisher costs the queue one acknowledgement for a batch, and events leave oldest first."""
    async with memory() as b:
        tickets = [await three(b) for _ in range(30)]
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(0.0)
        check_history(deliveries(outlet.taken), dict.fromkeys(tickets, 3))
        assert outlet.tries == 90
        assert (await b.unrelayed(), noting(b).calls["relayed"]) == ([], 1)


async def test_slow_publisher_is_acknowledged_as_it_goes() -> None:
    """Events that take their time are acknowledged one by one, so that a lost process repeats few."""

    class Slow(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            await super().publish(event)
            await clock.sleep(0.2)

    async with memory() as b:
        clock = b.clock
        await three(b)
        outlet = Slow()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(0.3)
            assert (outlet.tries, [event.version for event in await b.unrelayed()]) == (2, [2, 3])


async def test_idle_relay_asks_nothing() -> None:
    """While nothing happens the queue is neither written nor read, and the next event leaves at once."""
    async with memory() as b:
        await three(b)
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(0.0)
            before = dict(noting(b).calls)
            await b.clock.run_for(LEASE * 100)
            assert (noting(b).calls, b.clock.sleepers) == (before, 0)
            await b.put()
            await b.clock.run_for(0.0)
            assert outlet.versions == [1, 2, 3, 1]


async def test_event_that_fails_waits_with_those_behind_it() -> None:
    """A publisher that fails for a minute gets every event in order once it is back, none twice."""
    async with memory() as b:
        ticket = await three(b)
        outlet = Outlet()
        outlet.failing = 10
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(1.0)
            assert (outlet.taken, len(await b.unrelayed())) == ([], 3)
            await b.clock.run_for(120.0)
        check_history(deliveries(outlet.taken), {ticket: 3})
        assert (outlet.versions, await b.unrelayed()) == ([1, 2, 3], [])


async def test_repeat_has_the_same_id() -> None:
    """When a delivery raises although it arrived, the event comes again under the same id."""
    async with memory() as b:
        ticket = await three(b)
        outlet = Outlet()
        outlet.losing = 2
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(60.0)
        assert outlet.versions == [1, 1, 1, 2, 3]
        check_history(deliveries(outlet.taken), {ticket: 3})


async def test_delivered_events_are_acknowledged_before_a_pause() -> None:
    """What was delivered before a failure is acknowledged at once, and only the rest waits."""

    class SecondFails(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            self.failing = int(event.version == 2)
            await super().publish(event)

    async with memory() as b:
        await three(b)
        async with running(make_relay(b.queue, b.clock, SecondFails())):
            await b.clock.run_for(0.0)
            assert [event.version for event in await b.unrelayed()] == [2, 3]


async def test_unreadable_event_stays(caplog: pytest.LogCaptureFixture) -> None:
    """An event that cannot be made is neither dropped nor passed over; the log names its ticket, not its content."""
    async with memory() as b:
        view = await b.put(replace(b.job(), echo=b'{"secret": "words'))
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.put()
            await b.clock.run_for(600.0)
            assert (outlet.tries, len(await b.unrelayed())) == (0, 2)
    assert view.ticket_id in caplog.text
    assert "secret" not in caplog.text
    # Retried at growing intervals: not once for each of the seconds that passed.
    assert 10 < len(caplog.records) < 60


@pytest.mark.parametrize("call", ["lead", "unrelayed", "relayed"])
async def test_queue_that_fails_for_a_while(call: str, caplog: pytest.LogCaptureFixture) -> None:
    """A queue that does not answer is asked again, and no event is lost or comes out of order."""
    async with memory() as b:
        noting(b).failing[call] = 3
        ticket = await three(b)
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(5.0)
        check_history(deliveries(outlet.taken), {ticket: 3})
        assert (outlet.versions, await b.unrelayed()) == ([1, 2, 3], [])
    assert "QueueUnavailable" in caplog.text


async def test_events_that_may_not_leave_yet() -> None:
    """Events that the queue holds back, for they are not durable yet, are looked for now and then, not all the time."""
    async with memory() as b:
        noting(b).withheld = True
        await b.put()
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(1.0)
            assert noting(b).calls["unrelayed"] in range(8, 13)
            noting(b).withheld = False
            await b.clock.run_for(1.0)
        assert outlet.versions == [1]


async def test_cancelled_delivery_leaves_the_event() -> None:
    """A relay that ends during a delivery leaves its event in the outbox; those before it are acknowledged by then."""
    async with memory() as b:
        await three(b)

        class Stuck(Outlet):
            async def publish(self, event: TicketEvent) -> None:
                self.gate = anyio.Event() if event.version == 2 else None
                await super().publish(event)

        stuck = Stuck()
        async with running(make_relay(b.queue, b.clock, stuck)):
            await b.clock.run_for(0.0)
            assert (stuck.versions, stuck.waiting) == ([1], 1)
            await b.clock.run_for(LEASE / 2)
        assert [event.version for event in await b.unrelayed()] == [2, 3]
        assert stuck.waiting == 0


async def test_farewell_delivers_the_rest() -> None:
    """A relay that closes delivers what waits, repeats nothing it had delivered, and gives the lead back."""
    async with memory() as b:
        await three(b)
        outlet = Outlet()
        relay = make_relay(b.queue, b.clock, outlet)
        outlet.gate = anyio.Event()
        async with running(relay):
            await b.clock.run_for(0.0)
            assert outlet.waiting == 1
        outlet.gate = None
        await relay.farewell()
        assert (outlet.versions, await b.unrelayed()) == ([1, 2, 3], [])
        assert await b.queue.lead(0, "next", LEASE)


async def test_farewell_leaves_what_cannot_be_delivered(caplog: pytest.LogCaptureFixture) -> None:
    """A publisher or a queue that is out at closing costs no event, and what was delivered is acknowledged."""

    class SecondFails(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            self.failing = int(event.version == 2)
            await super().publish(event)

    async with memory() as b:
        await three(b)
        await make_relay(b.queue, b.clock, SecondFails()).farewell()
        assert [event.version for event in await b.unrelayed()] == [2, 3]
        assert await b.queue.lead(0, "next", LEASE)
        await b.queue.yield_lead(0, "next")
        noting(b).failing["unrelayed"] = 1
        await make_relay(b.queue, b.clock, Outlet()).farewell()
        assert await b.queue.lead(0, "next", LEASE)
    assert "Events stay in the outbox" in caplog.text


class Sharded(MemoryQueue):
    """Two outboxes over one journal: tickets whose key ends with an odd digit are in the second."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock=clock)
        self._gone: defaultdict[int, str] = defaultdict(str)

    @property
    def outbox_shards(self) -> int:
        return 2

    async def lead(self, shard: int, token: str, seconds: float) -> bool:
        return True

    async def unrelayed(self, shard: int, limit: int = 100) -> list[JobEvent]:
        events = await super().unrelayed(0, 1_000)
        own = [event for event in events if int(event.view.idempotency_key[-1]) % 2 == shard]
        return [event for event in own if event.cursor > self._gone[shard]][:limit]

    async def relayed(self, shard: int, cursor: str, token: str) -> bool:
        self._gone[shard] = cursor
        return True

    async def wait_unrelayed(self, shard: int) -> None:
        while not await self.unrelayed(shard):
            await self._ledger.journal.written.wait()


async def test_every_shard_is_served() -> None:
    """One relay serves every outbox, and one that is stuck does not hold up another."""

    class OddFails(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            self.failing = int(odd and int(event.idempotency_key[-1]) % 2)
            await super().publish(event)

    odd = True
    clock = FakeClock()
    queue = Sharded(clock)
    await queue.start(outbox=True)
    b = Bench(queue, clock, count(1))
    tickets = {(await b.put(b.job(f"k{number}"))).ticket_id: 1 for number in range(10)}
    outlet = OddFails()
    relay = make_relay(queue, clock, outlet)
    async with running(relay):
        await clock.run_for(1.0)
        assert len(outlet.taken) == 5
        odd = False
        await clock.run_for(10.0)
        check_history(deliveries(outlet.taken), tickets)
    await b.queue.cancel(TENANT, next(iter(tickets)))
    await relay.farewell()
    assert outlet.versions == [1] * 10 + [2]
