"""A call whose ticket has ended elsewhere is stopped at once, and nothing hangs on being told so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest, Pending
from llm_gateway._core.jobs import JobView
from llm_gateway._core.observations import ObservationKind
from llm_gateway.errors import QueueUnavailable
from llm_gateway.queues.memory import MemoryQueue

Ending = Callable[[LLMClient, str], Awaitable[object]]


ENDINGS: dict[str, Ending] = {
    "cancelled": lambda client, ticket: client.cancel(ticket),
    "cancelled with its group": lambda client, _: client.cancel_group("g"),
    "erased": lambda client, ticket: client.erase(ticket=ticket),
}


@pytest.fixture
def question() -> LLMRequest:
    """A question of a group."""
    return LLMRequest(provider="fake", model="m-1", prompt="Which essay is better?", group="g")


def fenced(desk: Desk) -> int:
    """Count the leases that were lost."""
    return sum(seen.kind is ObservationKind.FENCED for seen in desk.observer.observations)


@pytest.mark.parametrize("how", ENDINGS)
async def test_worker_stops(desk: Desk, client: LLMClient, question: LLMRequest, how: str) -> None:
    """A worker's call stops as soon as its ticket has ended, without a renewal being due."""
    desk.provider.hold()
    ticket = (await client.submit(question)).ticket.id
    async with client.worker() as worker:
        await desk.provider.wait_for_calls(1)
        await ENDINGS[how](client, ticket)
        await desk.clock.run_for(0.0)
        assert (worker.running, fenced(desk)) == (0, 1)


async def test_adopted_call_stops(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A live call that became a ticket stops when the ticket is cancelled."""
    desk.provider.hold()
    outcome = await client.complete(question, timeout=0.05)
    assert isinstance(outcome, Pending)
    await client.cancel(outcome.ticket.id)
    await desk.clock.run_for(0.0)
    assert fenced(desk) == 1


class Unwatchable(MemoryQueue):
    """A queue that cannot be watched."""

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        """Refuse."""
        message = "The queue is out."
        raise QueueUnavailable(message)


class Restless(MemoryQueue):
    """A queue that tells of a change though there was none."""

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        """Return at once."""
        return await self.get(tenant, ticket_id)


@pytest.fixture(params=[Unwatchable, Restless])
async def unreliable(desk: Desk, request: pytest.FixtureRequest) -> AsyncIterator[LLMClient]:
    """A client whose queue gives no good account of changes."""
    desk.queue = request.param(clock=desk.clock)
    async with desk.client() as client:
        yield client


async def test_unreliable_watch_stops_no_call(desk: Desk, unreliable: LLMClient, question: LLMRequest) -> None:
    """A watch that fails, or wakes for nothing, costs no call its answer."""
    desk.provider.hold()
    await unreliable.submit(question)
    async with unreliable.worker():
        await desk.provider.wait_for_calls(1)
        await desk.clock.run_for(60.0)
        desk.provider.release()
        await desk.clock.run_for(1.0)
        states = [job.state.value for job in await desk.queue.list_jobs()]
    assert (states, len(desk.provider.calls), fenced(desk)) == (["completed"], 1, 0)


async def test_heartbeat_stays_in_charge(desk: Desk, unreliable: LLMClient, question: LLMRequest) -> None:
    """Without a good watch the next renewal notices that the ticket was cancelled."""
    desk.provider.hold()
    ticket = (await unreliable.submit(question)).ticket.id
    async with unreliable.worker() as worker:
        await desk.provider.wait_for_calls(1)
        await unreliable.cancel(ticket)
        await desk.clock.run_for(11.0)
        assert (worker.running, fenced(desk)) == (0, 1)
