"""The publishers that stay in this process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from llm_gateway._core.environments import EVERYWHERE, WORKSHOP
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.outcomes import TicketEvent
from llm_gateway.publishers.handler import HandlerPublisher
from llm_gateway.publishers.memory import MemoryPublisher

EVENT = TicketEvent(
    event_id="e-1",
    cursor="1",
    ticket_id="t-1",
    tenant="",
    version=2,
    state=TicketState.COMPLETED,
    reason=None,
    at=datetime(2026, 1, 1, tzinfo=UTC),
    idempotency_key="k-1",
)


async def test_memory_keeps_events() -> None:
    """Events are kept in order, repeats included, in development and testing only."""
    publisher = MemoryPublisher()

    await publisher.publish(EVENT)
    await publisher.publish(EVENT)

    assert [EVENT, EVENT] == publisher.events
    assert WORKSHOP == publisher.allowed_in


async def test_plain_handler() -> None:
    """A plain function is called with the event, in every environment."""
    seen: list[TicketEvent] = []
    publisher = HandlerPublisher(seen.append)

    await publisher.publish(EVENT)

    assert [EVENT] == seen
    assert EVERYWHERE == publisher.allowed_in


async def test_async_handler_acknowledges_on_return() -> None:
    """An async function is awaited: publishing lasts until it returns."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handler(event: TicketEvent) -> None:
        entered.set()
        await leave.wait()

    publishing = asyncio.create_task(HandlerPublisher(handler).publish(EVENT))
    await entered.wait()
    assert not publishing.done()

    leave.set()

    await publishing


async def test_what_a_handler_raises_is_raised() -> None:
    """An error of either kind of function is not acknowledged but passed on."""

    def plain(event: TicketEvent) -> None:
        raise ConnectionError

    async def later(event: TicketEvent) -> None:
        await asyncio.sleep(0)
        raise ConnectionError

    for handler in (plain, later):
        with pytest.raises(ConnectionError):
            await HandlerPublisher(handler).publish(EVENT)


async def test_cancelling_reaches_the_handler() -> None:
    """Cancelling a delivery cancels the function that it waits for."""
    entered = asyncio.Event()

    async def handler(event: TicketEvent) -> None:
        entered.set()
        await asyncio.Event().wait()

    publishing = asyncio.create_task(HandlerPublisher(handler).publish(EVENT))
    await entered.wait()
    publishing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await publishing
