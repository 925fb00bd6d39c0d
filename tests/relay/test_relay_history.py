"""Random histories of two relays on one queue: killed, closed, stalled, with publishers that fail in every way."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import anyio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.relay.outlets import LEASE, NotingQueue, Outlet, check_history, deliveries, make_relay, memory

from llm_gateway import TicketEvent
from llm_gateway._background import Background
from llm_gateway._core.jobs import Lease
from llm_gateway.relay import Relay
from llm_gateway.testing.conformance.bench import TENANT, Bench

RELAYS: Final = 2
WHO: Final = st.integers(0, RELAYS - 1)
FEW: Final = st.integers(1, 3)
ACTIONS: Final = st.one_of(
    st.tuples(st.sampled_from(["submit", "work", "cancel"]), FEW),
    st.tuples(st.sampled_from(["fail", "lose", "hang", "let_go", "kill", "close", "start"]), WHO),
    st.tuples(st.sampled_from(["fail_lead", "fail_unrelayed", "fail_relayed"]), FEW),
    st.tuples(st.just("pass_time"), st.integers(0, 30)),
    st.tuples(st.just("stand_still"), st.integers(1, 30)),
)


class Stage:
    """The queue, the relays on it, and everything that was delivered, in order."""

    def __init__(self, b: Bench, queue: NotingQueue) -> None:
        self.b = b
        self.queue = queue
        self.taken: list[TicketEvent] = []
        self.outlets = [Outlet() for _ in range(RELAYS)]
        for outlet in self.outlets:
            outlet.taken = self.taken
        self.relays: list[tuple[Relay, Background] | None] = [None] * RELAYS
        self.versions: Counter[str] = Counter()
        self.leases: list[Lease] = []

    async def act(self, name: str, number: int) -> None:
        """Do one thing, and let whoever can run do so."""
        if name.startswith("fail_"):
            self.queue.failing[name.removeprefix("fail_")] += number
        else:
            deed: Callable[[int], Awaitable[None]] = getattr(self, name)
            await deed(number)
        await self.b.clock.run_for(0.0)

    async def submit(self, number: int) -> None:
        """Store some jobs."""
        for _ in range(number):
            self.versions[(await self.b.put()).ticket_id] = 1

    async def work(self, number: int) -> None:
        """Take some jobs to their ends."""
        for lease in await self.b.claim(number):
            await self.b.complete(lease)
            self.versions[lease.job.ticket_id] += 2

    async def cancel(self, number: int) -> None:
        """Cancel the newest job."""
        for view in await self.queue.list_jobs(tenant=TENANT, limit=number):
            after = await self.queue.cancel(TENANT, view.ticket_id)
            self.versions[view.ticket_id] = after.version

    async def fail(self, who: int) -> None:
        """Let the publisher refuse the next two."""
        self.outlets[who].failing += 2

    async def lose(self, who: int) -> None:
        """Let the publisher take the next two and raise."""
        self.outlets[who].losing += 2

    async def hang(self, who: int) -> None:
        """Let deliveries wait."""
        self.outlets[who].gate = self.outlets[who].gate or anyio.Event()

    async def let_go(self, who: int) -> None:
        """Let them go on."""
        gate, self.outlets[who].gate = self.outlets[who].gate, None
        if gate is not None:
            gate.set()

    async def start(self, who: int) -> None:
        """Start a relay."""
        if self.relays[who] is None:
            relay, background = make_relay(self.queue, self.b.clock, self.outlets[who]), Background()
            background.start(relay.run(), "relay")
            self.relays[who] = (relay, background)

    async def kill(self, who: int) -> None:
        """End a relay at once."""
        if (found := self.relays[who]) is not None:
            self.relays[who] = None
            await found[1].aclose()

    async def close(self, who: int) -> None:
        """End a relay as a client does."""
        if (found := self.relays[who]) is not None:
            await self.kill(who)
            await self.let_go(who)
            await found[0].farewell()

    async def pass_time(self, seconds: int) -> None:
        """Let time pass while everybody can act."""
        await self.b.clock.run_for(seconds)

    async def stand_still(self, seconds: int) -> None:
        """Let time pass while nobody can act."""
        self.b.clock.advance(seconds)

    async def heal(self) -> None:
        """Mend everything and let all events leave."""
        self.queue.failing.clear()
        for who, outlet in enumerate(self.outlets):
            outlet.failing = outlet.losing = 0
            await self.let_go(who)
            await self.start(who)
        await self.b.clock.run_for(LEASE * 10)


async def play(actions: list[tuple[str, int]]) -> None:
    """Let a history happen, heal, and check what was delivered."""
    async with AsyncExitStack() as stack:
        b = await stack.enter_async_context(memory())
        assert isinstance(b.queue, NotingQueue)
        stage = Stage(b, b.queue)
        for who in range(RELAYS):
            stack.push_async_callback(stage.kill, who)
        for name, number in actions:
            await stage.act(name, number)
        await stage.heal()
        check_history(deliveries(stage.taken), dict(stage.versions))
        assert await b.unrelayed() == []


@settings(max_examples=200, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_history(actions: list[tuple[str, int]]) -> None:
    """Whatever happens, the events 1..n of each ticket arrive, in order at first, with one terminal id."""
    with asyncio.Runner() as runner:
        runner.run(play(actions))


@example([(4, "kill"), (0, "kill")])
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["kill", "close"])), min_size=1, max_size=6))
def test_end_at_any_turn(ends: list[tuple[int, str]]) -> None:
    """A relay that ends at any turn of the loop, one after the other, costs no event and no order."""

    async def ending(stage: Stage) -> None:
        for turns, how in ends:
            await stage.submit(2)
            await stage.work(1)
            await stage.start(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            await partial(stage.act, how)(0)
            await stage.pass_time(2)

    async def run() -> None:
        async with memory() as b:
            assert isinstance(b.queue, NotingQueue)
            stage = Stage(b, b.queue)
            await ending(stage)
            await stage.heal()
            check_history(deliveries(stage.taken), dict(stage.versions))
            for who in range(RELAYS):
                await stage.kill(who)

    with asyncio.Runner() as runner:
        runner.run(run())
