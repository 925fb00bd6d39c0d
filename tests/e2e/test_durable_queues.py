"""The same outages, on the queues that production keeps its tickets in."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from pydantic import SecretStr
from tests.faults.stage import LeapingClock, question
from tests.queues.redis_bench import QUICK, namespace
from tests.queues.redis_server import BINARIES, RedisServer

from llm_gateway import Completed, Environment, LLMClient, LLMRequest, Parts, Pending, TicketEvent
from llm_gateway._core.circuit import CircuitState
from llm_gateway._core.jobs import LaneStats
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.errors import DurabilityUnknown
from llm_gateway.options import BreakerOptions, HttpOptions, QueueOptions, RetryOptions, WorkerOptions
from llm_gateway.protocols import QueueBackend
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.queues.redis import RedisQueue
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import Faults, SimulatedProvider

OPEN: Final = 120.0
HELD: Final = 20
LONG: Final = 20.0
BREAKER: Final = BreakerOptions(consecutive_failures=2, open_time=OPEN, jitter=0.0)
RETRY: Final = RetryOptions(attempts=2, base=0.01, min_useful=0.05)
EAGER: Final = WorkerOptions(sweep_seconds=0.05)
KINDS: Final = ("sqlite", "redis")


class Looked:
    """Tells when the lanes of a queue have been looked at."""

    looks = 0
    looked = asyncio.Event()

    async def until_looks(self, count: int) -> None:
        """Return once the lanes have been looked at that many times from now."""
        goal = self.looks + count
        while self.looks < goal:
            self.looked = asyncio.Event()
            await self.looked.wait()

    def look(self, lanes: list[LaneStats]) -> list[LaneStats]:
        """Take note of a look."""
        self.looks += 1
        self.looked.set()
        return lanes


class LookedFile(Looked, SqliteQueue):
    """A queue file whose looks are counted."""

    async def lanes(self) -> list[LaneStats]:
        return self.look(await super().lanes())


class LookedRedis(Looked, RedisQueue):
    """A queue in Redis whose looks are counted."""

    async def lanes(self) -> list[LaneStats]:
        return self.look(await super().lanes())


@dataclass
class Place:
    """Where a queue lies; any number of clients can be opened on it."""

    kind: str
    path: Path
    url: str
    sim: SimulatedProvider
    clock: LeapingClock
    name: str

    def queue(self) -> LookedFile | LookedRedis:
        """Make a queue of its own on the same place."""
        if self.kind == "sqlite":
            return LookedFile(self.path, QueueOptions(), clock=self.clock)
        return LookedRedis(self.url, QueueOptions(), namespace=self.name, redis=QUICK, strict=False, clock=self.clock)

    @asynccontextmanager
    async def client(
        self, queue: QueueBackend | None = None, events: list[TicketEvent] | None = None
    ) -> AsyncGenerator[LLMClient]:
        """Open a client with a queue of its own on the same place."""
        http = HttpOptions(attempt_timeout=2.0)
        provider = OpenAIProvider(SecretStr("sk-test"), base_url=self.sim.openai_url, http=http)
        parts = Parts(
            environment=Environment.TESTING,
            breaker=CircuitGate(BREAKER, clock=self.clock),
            clock=self.clock,
            retry=RETRY,
            worker=EAGER,
            http=http,
            random=lambda: 0.0,
        )
        told = None if events is None else events.append
        async with LLMClient([provider], queue or self.queue(), parts, on_event=told) as client:
            yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Give a server."""
    found = RedisServer(tmp_path_factory.mktemp("redis"), BINARIES[0]).start()
    yield found
    found.stop()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, server: RedisServer, sim: SimulatedProvider) -> Place:
    """Give a place of each kind, in turn."""
    kind: str = request.param
    return Place(kind, tmp_path / "queue.db", server.url, sim, LeapingClock(), namespace())


async def results(client: LLMClient, tickets: list[str]) -> list[str]:
    """Wait for the results of tickets, and return the ids of the answers."""
    outcomes = await asyncio.gather(*(client.result(ticket, timeout=LONG) for ticket in tickets))
    assert [Completed] * len(tickets) == [type(outcome) for outcome in outcomes]
    return [one.response.receipt.response_id or "" for one in outcomes if isinstance(one, Completed)]


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
