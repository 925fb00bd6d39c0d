"""Of several relays one leads: the others take over when it is lost, and it stops when it is replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.client.desk import Desk
from tests.queues.files import bench
from tests.relay.outlets import (
    LEASE,
    LOST,
    NotingQueue,
    Outlet,
    check_history,
    deliveries,
    make_relay,
    memory,
    running,
)

from llm_gateway import LLMClient, LLMRequest, TicketEvent
from llm_gateway.testing import FakeClock
from llm_gateway.testing.conformance.bench import PATIENCE, Bench


async def test_slow_delivery_keeps_the_lead() -> None:
    """A relay whose publisher takes ten leases for one event keeps the lead, and no standby delivers."""
    async with memory() as b:
        await b.put()
        slow, standby = Outlet(), Outlet()
        slow.gate = anyio.Event()
        async with running(make_relay(b.queue, b.clock, slow)):
            await b.clock.run_for(0.0)
            async with running(make_relay(b.queue, b.clock, standby)):
                await b.clock.run_for(LEASE * 10)
                assert (slow.waiting, standby.tries) == (1, 0)
                slow.gate.set()
                await b.clock.run_for(0.0)
                assert (slow.versions, await b.unrelayed()) == ([1], [])


async def test_publisher_that_is_down_keeps_the_lead() -> None:
    """While its publisher is down a relay keeps the lead, and delivers once the publisher is back."""
    async with memory() as b:
        await b.put()
        down, standby = Outlet(), Outlet()
        down.failing = 12
        async with running(make_relay(b.queue, b.clock, down)), running(make_relay(b.queue, b.clock, standby)):
            await b.clock.run_for(LEASE * 20)
        assert (down.versions, standby.tries) == ([1], 0)


async def test_standby_takes_over() -> None:
    """When the leader is lost, a standby leads at most a lease and a third later, and asks the queue seldom."""
    async with memory() as b:
        assert await b.queue.lead(0, "lost", LEASE)
        await b.put()
        standby = Outlet()
        async with running(make_relay(b.queue, b.clock, standby)):
            await b.clock.run_for(LEASE / 2)
            assert await b.queue.lead(0, "lost", LEASE)
            await b.clock.run_for(LEASE - 0.1)
            assert standby.tries == 0
            await b.clock.run_for(LOST - LEASE + 0.1)
            assert standby.versions == [1]
        assert isinstance(b.queue, NotingQueue)
        assert b.queue.calls["lead"] <= 8


async def test_lead_is_kept_between_events() -> None:
    """An event that comes while the lease of an idle leader still lasts leaves at once, under the same token."""
    async with memory() as b:
        assert isinstance(b.queue, NotingQueue)
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            for _ in range(3):
                await b.put()
                await b.clock.run_for(LEASE / 2)
            assert (outlet.versions, len(b.queue.tokens)) == ([1, 1, 1], 1)
            await b.clock.run_for(LEASE)
            await b.put()
            await b.clock.run_for(0.0)
            assert (outlet.versions, len(b.queue.tokens)) == ([1, 1, 1, 1], 2)


async def test_lead_whose_reply_was_lost() -> None:
    """A relay that took the lead without hearing of it is not shut out by itself: its token stays the same."""
    async with memory() as b:
        assert isinstance(b.queue, NotingQueue)
        b.queue.unheard = 2
        await b.put()
        outlet = Outlet()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(LEASE / 4)
        assert (outlet.versions, len(b.queue.tokens)) == ([1], 1)


async def test_killed_relay_is_followed() -> None:
    """A relay that is gone in the middle is followed by another, which repeats at most what was not acknowledged."""

    class Second(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            self.gate = anyio.Event() if event.version == 2 else None
            await super().publish(event)

    async with memory() as b:
        lease = await b.take()
        await b.complete(lease)
        victim, heir = Second(), Outlet()
        async with running(make_relay(b.queue, b.clock, victim)):
            await b.clock.run_for(0.0)
        async with running(make_relay(b.queue, b.clock, heir)):
            await b.clock.run_for(LOST)
        assert (victim.versions, heir.versions) == ([1], [1, 2, 3])
        check_history(deliveries([*victim.taken, *heir.taken]), {lease.job.ticket_id: 3})


async def test_replaced_relay_stops_in_mid_delivery(caplog: pytest.LogCaptureFixture) -> None:
    """A relay that learns during a delivery that another leads cancels it and delivers nothing more meanwhile."""
    async with memory() as b:
        lease = await b.take()
        await b.complete(lease)
        outlet = Outlet()
        outlet.gate = anyio.Event()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(0.0)
            assert outlet.waiting == 1
            # The process stands still for longer than the lease, and another is quicker afterwards.
            b.clock.advance(LEASE)
            assert await b.queue.lead(0, "other", LEASE)
            await b.clock.run_for(LEASE / 2)
            assert (outlet.waiting, outlet.tries) == (0, 1)
            outlet.gate.set()
            await b.queue.yield_lead(0, "other")
            await b.clock.run_for(LEASE)
            assert outlet.versions == [1, 2, 3]
    assert "this one stops" in caplog.text


async def test_replaced_relay_cannot_acknowledge() -> None:
    """The acknowledgement of a relay that was replaced during a delivery is refused, and its event stays."""

    class Replaced(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            await super().publish(event)
            clock.advance(LEASE)
            assert await queue.lead(0, "other", LEASE)

    async with memory() as b:
        clock, queue = b.clock, b.queue
        lease = await b.take()
        await b.complete(lease)
        outlet = Replaced()
        async with running(make_relay(queue, clock, outlet)):
            await clock.run_for(LEASE / 2)
            assert outlet.versions == [1]
            assert [event.version for event in await b.unrelayed()] == [1, 2, 3]


async def test_handler_that_blocks_for_longer_than_the_lease() -> None:
    """A handler that blocks its process for longer than the lease gets every event, and none for ever."""

    class Blocking(Outlet):
        async def publish(self, event: TicketEvent) -> None:
            clock.advance(LEASE * 1.5)
            await super().publish(event)

    async with memory() as b:
        clock = b.clock
        lease = await b.take()
        await b.complete(lease)
        outlet = Blocking()
        async with running(make_relay(b.queue, clock, outlet)):
            await clock.run_for(LEASE * 20)
        assert (outlet.versions, await b.unrelayed()) == ([1, 2, 3], [])


async def test_renewal_that_fails_for_a_while() -> None:
    """A renewal that fails is tried again while the lease lasts, and the delivery goes on."""
    async with memory() as b:
        assert isinstance(b.queue, NotingQueue)
        await b.put()
        outlet = Outlet()
        outlet.gate = anyio.Event()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(0.0)
            b.queue.failing["lead"] = 1
            await b.clock.run_for(LEASE * 2)
            assert (outlet.waiting, outlet.tries) == (1, 1)


async def test_queue_that_is_out_for_longer_than_the_lease() -> None:
    """A relay that cannot renew stops delivering when its lease ends by its own clock: another may lead by then."""
    async with memory() as b:
        assert isinstance(b.queue, NotingQueue)
        await b.put()
        outlet = Outlet()
        outlet.gate = anyio.Event()
        async with running(make_relay(b.queue, b.clock, outlet)):
            await b.clock.run_for(0.0)
            b.queue.failing["lead"] = 1_000_000
            await b.clock.run_for(LEASE - 0.1)
            assert outlet.waiting == 1
            await b.clock.run_for(0.2)
            assert outlet.waiting == 0


async def test_two_clients_of_one_file(desk: Desk, question: LLMRequest, tmp_path: Path) -> None:
    """Two clients on one file deliver each event in order, and when one closes, the other goes on."""
    path, clock = tmp_path / "queue.db", FakeClock()
    one, two = Outlet(), Outlet()
    two.taken = one.taken
    parts = replace(desk.parts, clock=clock)
    async with bench(path, clock=clock) as here, bench(path, clock=clock) as there, bench(path, clock=clock) as b:
        first = LLMClient([desk.provider], here.queue, replace(parts, publisher=one))
        async with LLMClient([desk.provider], there.queue, replace(parts, publisher=two)) as second:
            async with first:
                tickets = [(await first.submit(question)).ticket.id for _ in range(20)]
                await emptied(b)
            tickets += [(await second.submit(question)).ticket.id for _ in range(20)]
            await emptied(b)
            for ticket in tickets:
                await second.cancel(ticket)
            await emptied(b)
    check_history(deliveries(one.taken), dict.fromkeys(tickets, 2))


async def emptied(b: Bench) -> None:
    """Let time pass until every event has left."""
    with anyio.fail_after(PATIENCE):
        while (await b.queue.stats()).outbox:
            await b.clock.run_for(0.05)
