"""Callers of a client over real sockets that go away at any turn: nothing leaks, nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Final

import pytest
from tests.e2e.places import BREAKER, LONG, Place
from tests.faults.stage import BookedGate, own_tasks, question

from llm_gateway import LLMClient, LLMGatewayError, LLMRequest, TicketState
from llm_gateway.testing import Faults

# Each of the first turns, then ever fewer: the turns in which nothing happens are the most.
EACH: Final = 12
MOST: Final = 400
NEVER: Final = 0x7FFFFFFF


def turns() -> Iterator[int]:
    """Give the numbers of turns after which to cancel."""
    yield from range(EACH)
    turn = float(EACH)
    while turn < MOST:
        yield int(turn)
        turn *= 1.3
    yield NEVER


async def cancelled_after(number: int, work: Awaitable[object]) -> None:
    """Begin *work* and cancel it after so many turns of the loop."""
    task = asyncio.ensure_future(work)
    if number < NEVER:
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
    with suppress(asyncio.CancelledError, LLMGatewayError):
        await task


Use = Callable[[LLMClient, LLMRequest], Awaitable[object]]
USES: Final[dict[str, tuple[str, bool, Use]]] = {
    "answered": ("well", False, lambda client, asked: client.complete(asked, timeout=LONG)),
    "queued": ("out", True, lambda client, asked: client.complete(asked, timeout=LONG)),
    "adopted": ("slow", True, lambda client, asked: client.complete(asked, timeout=0.002)),
    "submitted": ("well", True, lambda client, asked: client.submit(asked)),
    "submitted together": ("well", True, lambda client, asked: client.submit_many([asked])),
}


@pytest.mark.parametrize(("state", "stores", "use"), USES.values(), ids=USES)
async def test_cancelled_at_any_turn(place: Place, state: str, use: Use, *, stores: bool) -> None:
    """Whatever is stored by then is answered once, every permit comes back, and no task is left."""
    running = own_tasks()
    asked = [question().model_copy(update={"idempotency_key": f"k-{number}"}) for number in turns()]
    gate, queue = BookedGate(BREAKER, place.clock), place.queue()
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(place.client(queue, gate=gate))
        if state != "well":
            place.sim.outage(Faults.SERVER_ERROR if state == "out" else Faults.HANG)
        for number, request in zip(turns(), asked, strict=True):
            await cancelled_after(number, use(client, request))
        place.sim.recover()
        place.sim.release()
        gate.reset()
        stored = {job.idempotency_key: job.ticket_id for job in await queue.list_jobs(limit=1_000)}
        before = place.sim.call_count
        async with client.worker():
            for ticket in stored.values():
                await client.result(ticket, timeout=LONG)
        states = {job.state for job in await queue.list_jobs(limit=1_000)}
        # The last was let end: unless it was answered, it is stored.
        assert states == ({TicketState.COMPLETED} if stores else set())
        # Asked again, each key that has a ticket finds its answer.
        for request in asked:
            if request.idempotency_key in stored:
                await client.complete(request, timeout=LONG)
        assert place.sim.call_count <= before + len(stored)
        assert [0] * len(await queue.lanes()) == [lane.processing for lane in await queue.lanes()]
    assert gate.balanced
    assert running == own_tasks()
