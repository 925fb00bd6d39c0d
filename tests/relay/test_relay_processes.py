"""Relays in processes of their own on one queue file: killed, stopped, closed, following one another."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
from tests.queues.processes import EarlyClock, Other, bench, process
from tests.relay.outlets import Delivery, check_history

from llm_gateway.testing.conformance.bench import Bench

SCRIPT: Final = Path(__file__).with_name("relay_process.py")
LEASE: Final = 1.0
NEVER: Final = -1


@dataclass(slots=True)
class Log:
    """What the relays reported, each event with the time at which it was delivered."""

    events: list[tuple[int, Delivery]] = field(default_factory=list[tuple[int, Delivery]])

    def note(self, line: list[str]) -> None:
        """Note one line; those that tell of no event are passed over."""
        if line[0] == "event":
            _, at, ticket, version, terminal, event_id = line
            self.events.append((int(at), (ticket, int(version), terminal == "1", event_id)))

    async def read(self, relay: Other, until: str) -> None:
        """Note what a relay reports until it says a word."""
        while (line := await relay.line())[0] != until:
            self.note(line)

    async def read_rest(self, relay: Other) -> None:
        """Note what a relay reports until it is gone."""
        for line in await relay.rest():
            self.note(line)

    def check(self, tickets: list[str]) -> None:
        """Check that every ticket's three events arrived, in the order in which they left."""
        check_history([delivery for _, delivery in sorted(self.events)], dict.fromkeys(tickets, 3))


@asynccontextmanager
async def relay(path: Path, *, stuck_after: int = NEVER) -> AsyncGenerator[Other]:
    """Start a process that relays."""
    async with process(SCRIPT, "relay", str(path), str(LEASE), str(stuck_after)) as started:
        yield started


async def done(b: Bench, count: int) -> list[str]:
    """Take so many tickets through their three events."""
    tickets = [(await b.put()).ticket_id for _ in range(count)]
    for lease in await b.claim(count):
        await b.complete(lease)
    return tickets


async def close(relay: Other, log: Log) -> None:
    """End a relay as a service does, and note the rest of what it reports."""
    assert relay.process.stdin is not None
    await relay.process.stdin.aclose()
    await log.read_rest(relay)
    assert await relay.process.wait() == 0


async def emptied(b: Bench) -> None:
    """Return once every event has left."""
    while (await b.queue.stats()).outbox:
        with anyio.move_on_after(0.05):
            await b.queue.wait_ready()


async def test_killed_relay_is_followed(tmp_path: Path) -> None:
    """When a relay is killed in the middle, a standby delivers the rest; what it repeats has the same ids."""
    path, log = tmp_path / "queue.db", Log()
    async with bench(path) as b:
        tickets = await done(b, 30)
        async with relay(path, stuck_after=50) as victim:
            await log.read(victim, "stuck")
            assert len(log.events) == 50
            async with relay(path) as heir:
                await log.read(heir, "ready")
                victim.process.send_signal(signal.SIGKILL)
                await emptied(b)
                await close(heir, log)
    log.check(tickets)


async def test_storm_of_kills(tmp_path: Path) -> None:
    """Of relays that are killed at work one after the other, while tickets go on changing, no event is lost."""
    path, log, tickets = tmp_path / "queue.db", Log(), list[str]()
    async with bench(path) as b:
        for number in range(4):
            tickets += await done(b, 10)
            async with relay(path, stuck_after=7 * number + 3) as victim:
                await log.read(victim, "stuck")
                victim.process.send_signal(signal.SIGKILL)
                await log.read_rest(victim)
        async with relay(path) as survivor:
            await emptied(b)
            await close(survivor, log)
    log.check(tickets)


async def test_two_relays_at_once(tmp_path: Path) -> None:
    """Two relays on one file deliver every event in order, and when one closes, the other goes on."""
    path, log = tmp_path / "queue.db", Log()
    async with bench(path) as b, relay(path) as one, relay(path) as two:
        tickets = await done(b, 30)
        await emptied(b)
        tickets += await done(b, 30)
        await close(one, log)
        tickets += await done(b, 30)
        await emptied(b)
        await close(two, log)
    log.check(tickets)


async def test_stopped_relay_is_replaced(tmp_path: Path) -> None:
    """A relay that is stopped past its lease is replaced, and when it goes on it takes no event and no order away."""
    path, log = tmp_path / "queue.db", Log()
    async with bench(path) as b:
        tickets = await done(b, 10)
        async with relay(path, stuck_after=4) as zombie:
            await log.read(zombie, "stuck")
            zombie.process.send_signal(signal.SIGSTOP)
            async with relay(path) as heir:
                await emptied(b)
                zombie.process.send_signal(signal.SIGCONT)
                await zombie.go()
                tickets += await done(b, 10)
                await emptied(b)
                await close(zombie, log)
                tickets += await done(b, 10)
                await emptied(b)
                await close(heir, log)
    log.check(tickets)


async def test_stopped_relay_cannot_acknowledge(tmp_path: Path) -> None:
    """The acknowledgement of a relay that was stopped past its lease is refused once another leads."""
    path = tmp_path / "queue.db"
    async with bench(path, clock=EarlyClock()) as b:
        await done(b, 3)
        before = await b.unrelayed()
        async with process(SCRIPT, "lead", str(path), "30", "2") as zombie:
            assert await zombie.line() == ["leads", "True"]
            zombie.process.send_signal(signal.SIGSTOP)
            assert await b.queue.lead(0, "heir", LEASE)
            zombie.process.send_signal(signal.SIGCONT)
            await zombie.go()
            assert await zombie.line() == ["refused"]
        assert await b.unrelayed() == before
