"""Relays under test, the publishers they feed, and what must hold of what was delivered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import anyio

from llm_gateway import Environment, Parts, TicketEvent
from llm_gateway._background import Background
from llm_gateway._core.jobs import JobEvent
from llm_gateway._engine import Engine
from llm_gateway._tickets import Tickets
from llm_gateway.errors import QueueUnavailable
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock, EventPublisher, QueueBackend
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.relay import Relay
from llm_gateway.testing import FakeClock, FakeProvider
from llm_gateway.testing.conformance.bench import Bench

__all__ = [
    "LEASE",
    "LOST",
    "Delivery",
    "NotingQueue",
    "Outlet",
    "check_history",
    "deliveries",
    "make_relay",
    "memory",
    "running",
]

LEASE = 10.0
# The longest a standby needs after the leader is lost: the rest of the lease, and until it looks again.
LOST = LEASE * 4 / 3 + 0.1
Delivery = tuple[str, int, bool, str]


class Outlet(EventPublisher):
    """Takes events, and fails in the ways that publishers fail.

    Attributes:
        taken: Every event that was delivered, repeats too.
        tries: How often one was offered.
        failing: How many of the next are refused.
        losing: How many of the next are delivered although an error is raised.
        gate: While set to an event, deliveries wait for it first.
        waiting: How many deliveries wait.
    """

    def __init__(self) -> None:
        self.taken: list[TicketEvent] = []
        self.tries = 0
        self.failing = 0
        self.losing = 0
        self.gate: anyio.Event | None = None
        self.waiting = 0

    @property
    def allowed_in(self) -> frozenset[Environment]:
        return frozenset(Environment)

    @property
    def versions(self) -> list[int]:
        """The versions that were delivered."""
        return [event.version for event in self.taken]

    async def publish(self, event: TicketEvent) -> None:
        self.tries += 1
        if self.gate is not None:
            self.waiting += 1
            try:
                await self.gate.wait()
            finally:
                self.waiting -= 1
        if self.failing > 0:
            self.failing -= 1
            message = "scripted"
            raise ConnectionError(message)
        self.taken.append(event)
        if self.losing > 0:
            self.losing -= 1
            message = "the reply was lost"
            raise ConnectionError(message)


class NotingQueue(MemoryQueue):
    """Counts what relays ask of it, and fails as often as told.

    Attributes:
        calls: Number of calls by name.
        failing: Number of failures to come, by name.
        unheard: Number of leads to come that are taken although the reply is lost.
        tokens: Every token that asked to lead, in order, each once.
        withheld: Whether events are kept from relays although there are some, as while a replica is behind.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.failing: defaultdict[str, int] = defaultdict(int)
        self.unheard = 0
        self.tokens: dict[str, None] = {}
        self.withheld = False

    async def lead(self, shard: int, token: str, seconds: float) -> bool:
        self._note("lead")
        self.tokens[token] = None
        leads = await super().lead(shard, token, seconds)
        if self.unheard > 0:
            self.unheard -= 1
            message = "the reply was lost"
            raise QueueUnavailable(message)
        return leads

    async def unrelayed(self, shard: int, limit: int = 100) -> list[JobEvent]:
        self._note("unrelayed")
        return [] if self.withheld else await super().unrelayed(shard, limit)

    async def relayed(self, shard: int, cursor: str, token: str) -> bool:
        self._note("relayed")
        return await super().relayed(shard, cursor, token)

    def _note(self, name: str) -> None:
        self.calls[name] += 1
        if self.failing[name] > 0:
            self.failing[name] -= 1
            message = "scripted"
            raise QueueUnavailable(message)


@asynccontextmanager
async def memory() -> AsyncGenerator[Bench]:
    """Open a queue that notes its calls."""
    clock = FakeClock()
    queue = NotingQueue(clock)
    await queue.start(outbox=True)
    try:
        yield Bench(queue, clock, count(1))
    finally:
        await queue.aclose()


def make_relay(queue: QueueBackend, clock: Clock, publisher: EventPublisher, *, lease: float = LEASE) -> Relay:
    """Make a relay as a client does."""
    options = QueueOptions(relay_lease_seconds=lease)
    parts = replace(Parts(), environment=Environment.TESTING, clock=clock, queue=options, random=lambda: 0.0)
    engine = Engine([FakeProvider()], queue, parts, Environment.TESTING)
    return Relay(engine, queue, Tickets(engine, queue), publisher)


@asynccontextmanager
async def running(relay: Relay) -> AsyncGenerator[Background]:
    """Run a relay; when the block ends it is gone without a farewell, as a process that was killed."""
    background = Background()
    background.start(relay.run(), "relay")
    try:
        yield background
    finally:
        await background.aclose()


def deliveries(events: Iterable[TicketEvent]) -> list[Delivery]:
    """Tell of each event what a consumer goes by."""
    return [(event.ticket_id, event.version, event.state.terminal, event.event_id) for event in events]


def check_history(delivered: Iterable[Delivery], expected: dict[str, int]) -> None:
    """Check that no event was lost, none came out of order at first, and repeats share their id.

    Args:
        delivered: What consumers got, in the order in which they got it.
        expected: The last version of each ticket.
    """
    firsts: defaultdict[str, list[int]] = defaultdict(list)
    ids: dict[tuple[str, int], str] = {}
    ends: defaultdict[str, set[str]] = defaultdict(set)
    for ticket, version, terminal, event_id in delivered:
        if (ticket, version) not in ids:
            firsts[ticket].append(version)
            ids[ticket, version] = event_id
        assert ids[ticket, version] == event_id
        if terminal:
            ends[ticket].add(event_id)
    assert {ticket: list(range(1, last + 1)) for ticket, last in expected.items()} == firsts
    assert len(set(ids.values())) == len(ids)
    assert all(len(found) == 1 for found in ends.values())
