"""The same outages, on the queues that production keeps its tickets in."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Final

import pytest
from tests.e2e.places import LONG, OPEN, Place, results
from tests.faults.stage import question
from tests.queues.redis_server import RedisServer

from llm_gateway import LLMRequest, Pending, TicketEvent
from llm_gateway._core.circuit import CircuitState
from llm_gateway.errors import DurabilityUnknown
from llm_gateway.testing import Faults

HELD: Final = 20


async def test_outage_spends_nothing(place: Place) -> None:
    """Twenty jobs behind a circuit open for 120 s spend no attempt and no call, and then are answered once each."""
    queue, events = place.queue(), list[TicketEvent]()
    async with place.client(queue, events) as client:
        place.sim.outage(Faults.SERVER_ERROR)
        first = await client.complete(question(), timeout=LONG)
        assert isinstance(first, Pending)
        stored = await client.submit_many([question()] * HELD)
        tickets = [first.ticket.id, *(one.ticket.id for one in stored if isinstance(one, Pending))]
        calls = place.sim.call_count
        async with client.worker(concurrency=4):
            await queue.until_looks(10)
            statuses = [await client.status(ticket) for ticket in tickets]
            (lane,) = (await client.health()).lanes
            assert (CircuitState.OPEN, calls) == (lane.circuit, place.sim.call_count)
            assert {("queued", 0)} == {(status.state, status.attempts) for status in statuses}
            place.sim.recover()
            place.clock.leap(OPEN)
            ids = await results(client, tickets)
    assert (HELD + 1, sorted(place.sim.response_ids)) == (len(tickets), sorted(ids))
    ends = Counter(event.ticket_id for event in events if event.state.terminal)
    assert dict.fromkeys(tickets, 1) == ends


async def test_two_clients_make_each_call_once(place: Place) -> None:
    """Two clients with a worker each, on one queue, make exactly one call for each of thirty requests."""
    async with place.client() as one, place.client() as other:
        stored = await one.submit_many([question()] * 30)
        tickets = [told.ticket.id for told in stored if isinstance(told, Pending)]
        async with one.worker(concurrency=4), other.worker(concurrency=4):
            ids = await results(other, tickets)
    assert (30, 30, 30) == (len(tickets), place.sim.call_count, len(set(ids)))


async def test_parked_lane_goes_on_where_it_stood(place: Place) -> None:
    """An account without money parks its lane, attempts unspent; once it is mended and resumed, all are answered."""
    async with place.client() as client:
        stored = await client.submit_many([question()] * 5)
        tickets = [told.ticket.id for told in stored if isinstance(told, Pending)]
        place.sim.outage(Faults.QUOTA)
        async with client.worker(concurrency=1):
            while (lane := (await client.health()).lanes[0]).parked is None:
                await client.result(tickets[0], timeout=0.05)
        assert ("needs_operator", 5) == (lane.parked, (await client.health()).depth)
        statuses = [await client.status(ticket) for ticket in tickets]
        assert {("queued", 0)} == {(status.state, status.attempts) for status in statuses}
    place.sim.recover()
    # The operator mends the account and resumes the lane; the service has been started anew.
    async with place.client() as client:
        queue = place.queue()
        await queue.start(outbox=False)
        await queue.resume(lane.lane)
        await queue.aclose()
        async with client.worker():
            ids = await results(client, tickets)
    assert 5 == len(set(ids))


async def test_frozen_queue_costs_no_more_than_the_timeout(place: Place, server: RedisServer) -> None:
    """When the queue stands still, a call ends within its timeout in an error by which its ticket is found later."""
    place.sim.outage(Faults.SERVER_ERROR)
    async with place.client() as client:
        with standing_still(place, server):
            async with asyncio.timeout(LONG / 4):
                with pytest.raises(DurabilityUnknown) as caught:
                    await client.complete(question(), timeout=1.0)
        asked = caught.value.request
        assert isinstance(asked, LLMRequest)
        tickets = [(await client.submit(asked)).ticket.id for _ in range(2)]
    assert 1 == len(set(tickets))


@contextmanager
def standing_still(place: Place, server: RedisServer) -> Generator[None]:
    """Freeze the server, or hold the file as another process could."""
    if place.kind == "redis":
        server.freeze()
        try:
            yield
        finally:
            server.thaw()
        return
    with closing(sqlite3.connect(place.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


async def test_late_answer_completes_its_ticket(place: Place) -> None:
    """A call that outlasts its caller's timeout completes the ticket when it ends, with one call upstream."""
    async with place.client() as client:
        place.sim.script(Faults.HANG)
        outcome = await client.complete(question(), timeout=0.3)
        assert isinstance(outcome, Pending)
        place.sim.release()
        ids = await results(client, [outcome.ticket.id])
    assert (1, 1) == (place.sim.call_count, len(ids))
