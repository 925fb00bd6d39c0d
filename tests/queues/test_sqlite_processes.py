"""Several processes on one queue file: killed, stopped, waking one another."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import anyio
from tests.queues.files import miscounts
from tests.queues.processes import EarlyClock, bench, process

from llm_gateway._core.jobs import Complete, JobEvent
from llm_gateway._core.lifecycle import TERMINAL, TicketState
from llm_gateway.testing.conformance.bench import LANE, TENANT

SCRIPT = Path(__file__).with_name("sqlite_process.py")


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

        async with anyio.create_task_group() as tasks, process(SCRIPT, "drain", str(path)) as survivor:
            await survivor.line()
            for number in range(8):
                tasks.start_soon(submit, number)
            for _ in range(3):
                async with process(SCRIPT, "drain", str(path)) as victim:
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
        assert [] == miscounts(path)


async def test_two_processes_share_thirty_jobs(tmp_path: Path) -> None:
    """Two workers and 30 jobs make exactly 30 claims, each finished by whoever made it."""
    path = tmp_path / "queue.db"
    async with bench(path) as b, process(SCRIPT, "drain", str(path)) as one, process(SCRIPT, "drain", str(path)) as two:
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
        async with process(SCRIPT, "hold", str(path)) as zombie:
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
        async with process(SCRIPT, "hold", str(path)) as worker:
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
