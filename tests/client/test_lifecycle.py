"""A client lives in one event loop and one process, and leaves nothing behind, wherever it is cancelled."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Final

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, ConfigurationError, LLMClient, LLMRequest, Pending, TicketState
from llm_gateway._core.circuit import CircuitKey, Permit
from llm_gateway._core.jobs import AdoptedBy, Enqueued, Lane, NewJob
from llm_gateway.errors import ClientClosed
from llm_gateway.options import WorkerOptions
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeBreaker

LANE: Final = Lane("fake", "m-1")
STEPS: Final = range(1, 61)


class SlowQueue(MemoryQueue):
    """A queue that lets other tasks run before and after it stores, as one across a network does.

    Attributes:
        entered: Set once something is being stored.
    """

    entered: asyncio.Event

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store it, slowly."""
        self.entered.set()
        await pause()
        enqueued = await super().enqueue(job, adopted_by=adopted_by)
        await pause()
        return enqueued


async def pause(steps: int = 3) -> None:
    """Let the loop turn."""
    for _ in range(steps):
        await asyncio.sleep(0)


def slow(desk: Desk) -> tuple[SlowQueue, FakeBreaker, LLMClient]:
    """Make a client over a slow queue and a breaker that counts its permits."""
    queue, breaker = SlowQueue(clock=desk.clock), FakeBreaker()
    queue.entered = asyncio.Event()
    return queue, breaker, LLMClient([desk.provider], queue, replace(desk.parts, breaker=breaker))


async def cancelled_after(steps: int, work: Coroutine[object, object, object]) -> None:
    """Run *work* and cancel it after so many turns of the loop."""
    task = asyncio.create_task(work)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})


async def require_clean(desk: Desk, queue: MemoryQueue, breaker: FakeBreaker, base: set[asyncio.Task[object]]) -> None:
    """Assert that no permit is out, no lease held, no task left, and whatever is stored is whole."""
    desk.provider.release()
    await pause(50)
    assert (breaker.out, asyncio.all_tasks() - base) == (0, set())
    for job in await queue.list_jobs():
        assert job.state in {TicketState.QUEUED, TicketState.COMPLETED}
    assert [stats.processing for stats in (await queue.stats()).lanes if stats.processing] == []


async def test_before_opening(desk: Desk, question: LLMRequest) -> None:
    """A client that was never opened says so."""
    client = desk.client()
    with pytest.raises(ClientClosed, match="not open yet"):
        await client.complete(question)


USES: Final[dict[str, Callable[[LLMClient, LLMRequest], Awaitable[object]]]] = {
    "complete": lambda client, question: client.complete(question),
    "submit": lambda client, question: client.submit(question),
    "submit_many": lambda client, question: client.submit_many([question]),
    "status": lambda client, _: client.status("t"),
    "result": lambda client, _: client.result("t"),
    "cancel": lambda client, _: client.cancel("t"),
    "cancel_group": lambda client, _: client.cancel_group("g"),
    "requeue": lambda client, _: client.requeue("t"),
    "erase": lambda client, _: client.erase(ticket="t"),
    "health": lambda client, _: client.health(),
    "worker": lambda client, _: client.worker().__aenter__(),
    "for_tenant": lambda client, question: client.for_tenant("t").complete(question),
    "open again": lambda client, _: client.__aenter__(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_after_closing(
    desk: Desk, question: LLMRequest, use: Callable[[LLMClient, LLMRequest], Awaitable[object]]
) -> None:
    """Every use of a closed client is refused, and nothing is sent."""
    client = desk.client()
    async with client:
        pass
    with pytest.raises(ClientClosed):
        await use(client, question)
    with pytest.raises(ClientClosed):
        client.events()
    assert desk.provider.calls == []


async def test_closes_twice(desk: Desk) -> None:
    """Closing again does nothing, and each provider is closed once."""
    client = desk.client()
    async with client:
        await client.aclose()
    await client.aclose()
    assert desk.provider.closed == 1


async def test_leaves_no_task(desk: Desk, question: LLMRequest) -> None:
    """After closing, no task of the client is left."""
    base = asyncio.all_tasks()
    async with desk.client() as client, client.worker():
        await client.complete(question)
    assert asyncio.all_tasks() == base


async def test_error_in_block(desk: Desk) -> None:
    """An error in the block closes the client and comes out as it is."""
    base = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with desk.client() as client, client.worker():
            _ = 1 / 0
    assert (asyncio.all_tasks(), desk.provider.closed) == (base, 1)


async def test_opened_twice(desk: Desk, question: LLMRequest) -> None:
    """Opening an open client again starts nothing a second time: each event is delivered once."""
    seen: list[str] = []
    client = LLMClient([desk.provider], desk.queue, desk.parts, on_event=lambda event: seen.append(event.event_id))
    async with client:
        base = asyncio.all_tasks()
        await client.__aenter__()
        assert asyncio.all_tasks() == base
        await client.submit(question)
        await pause(30)
    assert len(seen) == 1


def test_second_loop(desk: Desk, question: LLMRequest) -> None:
    """A client opened in one event loop is refused in another."""
    client = desk.client()
    asyncio.run(client.__aenter__())
    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(use(client, question))


async def use(client: LLMClient, question: LLMRequest) -> None:
    """Ask."""
    await client.complete(question)


FORKING: Final = """
import asyncio, os, sys
from llm_gateway import ConfigurationError, LLMRequest
from tests.client.desk import Desk

async def main():
    desk = Desk()
    async with desk.client() as client:
        child = os.fork()
        if child == 0:
            try:
                client.complete(LLMRequest(provider="fake", model="m-1", prompt="p")).send(None)
            except ConfigurationError as error:
                os._exit(0 if "before a fork" in str(error) else 2)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

sys.exit(asyncio.run(main()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_fork() -> None:
    """A child that was forked from a process with an open client is told to open its own."""
    done = subprocess.run([sys.executable, "-c", FORKING], timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


async def test_adopted_call_ends_while_closing(desk: Desk, question: LLMRequest) -> None:
    """A call that a ticket adopted may end while the client closes, and its answer is the ticket's."""
    desk.provider.hold()
    async with desk.client() as client:
        outcome = await client.complete(question, timeout=0.01)
        assert isinstance(outcome, Pending)
        asyncio.get_running_loop().call_soon(desk.provider.release)
    view = await desk.queue.get("", outcome.ticket.id)
    assert (view.state, len(desk.provider.calls)) == (TicketState.COMPLETED, 1)


async def test_adopted_call_goes_back(desk: Desk, question: LLMRequest) -> None:
    """A call that a ticket adopted and that outlasts the drain timeout goes back to the queue, unspent."""
    desk.provider.hold()
    parts = replace(desk.parts, worker=WorkerOptions(drain_timeout=0.0))
    base = asyncio.all_tasks()
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        outcome = await client.complete(question, timeout=0.01)
    assert isinstance(outcome, Pending)
    view = await desk.queue.get("", outcome.ticket.id)
    assert (view.state, view.attempts, view.reason) == (TicketState.QUEUED, 0, "shutdown")
    assert asyncio.all_tasks() == base


@pytest.mark.parametrize("steps", STEPS)
async def test_cancelled_answer(desk: Desk, question: LLMRequest, steps: int) -> None:
    """A live call that is cancelled at any point leaves nothing behind and stores nothing."""
    queue, breaker, client = slow(desk)
    async with client:
        base = asyncio.all_tasks()
        await cancelled_after(steps, client.complete(question))
        await require_clean(desk, queue, breaker, base)
        assert (await client.health()).depth == 0


@pytest.mark.parametrize("steps", STEPS)
async def test_cancelled_probe(desk: Desk, question: LLMRequest, steps: int) -> None:
    """A live call that is a probe gives its slot back wherever it is cancelled."""
    queue, breaker, client = slow(desk)
    desk.provider.hold()
    breaker.script(Permit(key=CircuitKey("fake.test", LANE), model_epoch=0, endpoint_epoch=0, probe="one"))
    async with client:
        base = asyncio.all_tasks()
        await cancelled_after(steps, client.complete(question))
        await require_clean(desk, queue, breaker, base)


@pytest.mark.parametrize("steps", range(1, 26))
async def test_cancelled_real_probe(desk: Desk, question: LLMRequest, steps: int) -> None:
    """The slot of a half-open circuit is free again after a cancelled probe."""
    desk.provider.script(*[outage()] * 3)
    async with desk.client() as client:
        for _ in range(2):
            await client.complete(question)
        desk.clock.advance(121.0)
        desk.provider.hold()
        await cancelled_after(steps, client.complete(question))
        assert desk.breaker.snapshot(CircuitKey("fake.test", LANE)).probes == 0


@pytest.mark.parametrize("steps", STEPS)
async def test_cancelled_outage(desk: Desk, question: LLMRequest, steps: int) -> None:
    """A call that is being queued is stored whole or not at all, wherever it is cancelled."""
    queue, breaker, client = slow(desk)
    desk.provider.script(*[outage()] * 3)
    async with client:
        base = asyncio.all_tasks()
        await cancelled_after(steps, client.complete(question))
        await require_clean(desk, queue, breaker, base)


@pytest.mark.parametrize("steps", range(21))
async def test_cancelled_adoption(desk: Desk, question: LLMRequest, steps: int) -> None:
    """A call that a ticket is adopting leaves no lease that nobody tends, wherever its caller goes away."""
    queue, breaker, client = slow(desk)
    desk.provider.hold()
    async with client:
        base = asyncio.all_tasks()
        task = asyncio.create_task(client.complete(question, timeout=0.002))
        await queue.entered.wait()
        await pause(steps)
        task.cancel()
        await asyncio.wait({task})
        await require_clean(desk, queue, breaker, base)


@pytest.mark.parametrize("steps", range(1, 31))
async def test_cancelled_submit(desk: Desk, question: LLMRequest, steps: int) -> None:
    """A submit that is cancelled stores its request whole or not at all."""
    queue, breaker, client = slow(desk)
    async with client:
        base = asyncio.all_tasks()
        await cancelled_after(steps, client.submit(question))
        await require_clean(desk, queue, breaker, base)


async def drained(client: LLMClient) -> None:
    """Drain the queue until cancelled."""
    async with client.worker(concurrency=2):
        await asyncio.Event().wait()


@pytest.mark.parametrize("steps", STEPS)
async def test_cancelled_worker(desk: Desk, question: LLMRequest, steps: int) -> None:
    """A worker that is cancelled at any point gives back its permits and hands back its jobs."""
    breaker = FakeBreaker()
    parts = replace(desk.parts, breaker=breaker)
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        desk.provider.hold()
        await client.submit_many([question] * 3)
        base = asyncio.all_tasks()
        await cancelled_after(steps, drained(client))
        await require_clean(desk, desk.queue, breaker, base)
        assert {job.attempts for job in await desk.queue.list_jobs()} == {0}


async def test_cancelled_closing(desk: Desk, question: LLMRequest) -> None:
    """Closing that is cancelled while a call drains can be taken up again."""
    desk.provider.hold()
    client = desk.client()
    base = asyncio.all_tasks()
    await client.__aenter__()
    assert isinstance(await client.complete(question, timeout=0.01), Pending)
    await cancelled_after(5, client.aclose())
    desk.provider.release()
    await client.aclose()
    assert (asyncio.all_tasks() - base, desk.provider.closed) == (set(), 1)


async def test_cancelled_caller_sees_cancellation(desk: Desk, question: LLMRequest) -> None:
    """A cancelled call ends as cancelled, not as some other error or a result."""
    desk.provider.hold()
    async with desk.client() as client:
        task = asyncio.create_task(client.complete(question))
        await desk.provider.wait_for_calls(1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        desk.provider.release()
        assert isinstance(await client.complete(question), Completed)
