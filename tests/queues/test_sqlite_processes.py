"""Several processes on one queue file: killed, stopped, waking one another."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from subprocess import PIPE

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from llm_gateway._core.jobs import Complete, JobEvent
from llm_gateway._core.lifecycle import TERMINAL, TicketState
from llm_gateway._null import SystemClock
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import Clock
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import LANE, TENANT, Bench

SCRIPT = Path(__file__).with_name("sqlite_process.py")
PATIENCE = 60.0
LINE = 200
AHEAD = 3_600.0


class EarlyClock(Clock):
    """The machine's own time, but for a monotonic clock that is ahead: to it every other process's lease has lapsed."""

    def __init__(self) -> None:
        self._real = SystemClock()

    def monotonic(self) -> float:
        return self._real.monotonic() + AHEAD

    def now(self) -> datetime:
        return self._real.now()

    async def sleep(self, seconds: float) -> None:
        await self._real.sleep(seconds)


class NowClock(FakeClock):
    """A clock that starts at the real time, as the bench needs one of its kind to describe jobs."""

    def __init__(self) -> None:
        super().__init__(SystemClock().now())


@dataclass(slots=True)
class Other:
    """Another process."""

    process: Process
    lines: BufferedByteReceiveStream

    async def line(self) -> list[str]:
        """Return the words of its next line."""
        return (await self.lines.receive_until(b"\n", LINE)).decode().split()

    async def go(self) -> None:
        """Tell it to go on."""
        assert self.process.stdin is not None
        await self.process.stdin.send(b"\n")

    async def rest(self) -> list[list[str]]:
        """Return its remaining lines."""
        found: list[list[str]] = []
        while True:
            try:
                found.append(await self.line())
            except (anyio.EndOfStream, anyio.IncompleteRead):
                return found


@asynccontextmanager
async def other(what: str, path: Path) -> AsyncGenerator[Other]:
    """Start another process; it is killed at the latest at the end."""
    command = [sys.executable, str(SCRIPT), what, str(path)]
    async with await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None) as process:
        assert process.stdout is not None
        try:
            yield Other(process, BufferedByteReceiveStream(process.stdout))
        finally:
            if process.returncode is None:
                process.kill()


@asynccontextmanager
async def bench(path: Path, *, clock: Clock | None = None) -> AsyncGenerator[Bench]:
    """Open the queue in this process."""
    queue = SqliteQueue(path, QueueOptions(max_crashes=50), clock=clock)
    await queue.start(outbox=True)
    try:
        with anyio.fail_after(PATIENCE):
            yield Bench(queue, NowClock(), count(1))
    finally:
        await queue.aclose()


def terminal(events: list[JobEvent]) -> Counter[str]:
    """Count the terminal events of each ticket."""
    return Counter(event.ticket_id for event in events if event.state in TERMINAL)


async def test_storm_of_kills_loses_nothing(tmp_path: Path) -> None:
    """Of 200 jobs worked on by processes of which three are killed at work, each has exactly one terminal event."""
    path = tmp_path / "queue.db"
    async with bench(path, clock=EarlyClock()) as b:
        tickets: list[str] = []

        async def submit(number: int) -> None:
            tickets.extend([(await b.put(b.job(f"{number}-{each}"))).ticket_id for each in range(25)])

        async with anyio.create_task_group() as tasks, other("drain", path) as survivor:
            await survivor.line()
            for number in range(8):
                tasks.start_soon(submit, number)
            for _ in range(3):
                async with other("drain", path) as victim:
                    await victim.line()
                    await victim.go()
                    for _ in range(20):
                        await victim.line()
                    victim.process.send_signal(signal.SIGKILL)
            await survivor.go()
            while (await b.queue.stats()).depth:
                await b.queue.sweep()
                with anyio.move_on_after(0.2):
                    await b.queue.wait_ready()
            await survivor.rest()
            assert await survivor.process.wait() == 0
        events = await b.unrelayed()
        assert terminal(events) == Counter(tickets)
        assert len(tickets) == 200
        for ticket in tickets:
            versions = [event.version for event in events if event.ticket_id == ticket]
            assert versions == list(range(1, len(versions) + 1))


async def test_two_processes_share_thirty_jobs(tmp_path: Path) -> None:
    """Two workers and 30 jobs make exactly 30 claims, each finished by whoever made it."""
    path = tmp_path / "queue.db"
    async with bench(path) as b, other("drain", path) as one, other("drain", path) as two:
        tickets = [(await b.put()).ticket_id for _ in range(30)]
        for each in (one, two):
            await each.line()
        for each in (one, two):
            await each.go()
        lines = [*await one.rest(), *await two.rest()]
        assert Counter(ticket for _, ticket in lines) == Counter(tickets)
        assert {word for word, _ in lines} == {"done"}
        states = [event.state for event in await b.unrelayed()]
        assert Counter(states) == dict.fromkeys((TicketState.QUEUED, TicketState.PROCESSING, "completed"), 30)


async def test_stopped_process_is_fenced_when_it_goes_on(tmp_path: Path) -> None:
    """A worker stopped past its lease cannot finish when it goes on; the result that came meanwhile stands."""
    path = tmp_path / "queue.db"
    async with bench(path, clock=EarlyClock()) as b:
        ticket = (await b.put()).ticket_id
        async with other("hold", path) as zombie:
            assert await zombie.line() == ["held", ticket]
            zombie.process.send_signal(signal.SIGSTOP)
            assert (await b.queue.sweep()).recovered == 1
            (lease,) = await b.claim()
            await b.queue.finish(lease, Complete(result=b"current"))
            zombie.process.send_signal(signal.SIGCONT)
            await zombie.go()
            assert await zombie.line() == ["fenced", ticket]
        assert await b.queue.result(TENANT, ticket) == b"current"
        assert terminal(await b.unrelayed()) == {ticket: 1}


async def test_processes_wake_one_another(tmp_path: Path) -> None:
    """Whoever waits for a ticket, for events or for an outbox is woken by what another process does."""
    path = tmp_path / "queue.db"
    async with bench(path) as b:
        ticket = (await b.put()).ticket_id
        async with other("hold", path) as worker:
            await worker.line()
            await b.relay_all()
            seen: list[object] = []

            async def wait() -> None:
                seen.append((await b.queue.wait(TENANT, ticket, beyond=2)).state)

            async def watch() -> None:
                seen.append((await b.queue.events(TENANT, group=None, after=None))[0].state)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                tasks.start_soon(watch)
                tasks.start_soon(b.queue.wait_unrelayed, 0)
                await anyio.lowlevel.checkpoint()
                # Its answer comes after what the tasks asked of the file, so they wait by now.
                await b.queue.stats()
                await worker.go()
        assert seen == [TicketState.COMPLETED, TicketState.COMPLETED]


async def test_worker_is_woken_by_another_process(tmp_path: Path) -> None:
    """A worker that waits is woken by a job that another process, or another queue on the file, stores."""
    async with bench(tmp_path / "queue.db") as b, bench(tmp_path / "queue.db") as elsewhere:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.queue.wait_ready)
            await anyio.lowlevel.checkpoint()
            await b.queue.list_jobs()
            await elsewhere.put()
        assert len(await b.claim(lane=LANE)) == 1
