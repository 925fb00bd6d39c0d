"""Events handed to a function in this process."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._core.outcomes import TicketEvent
from llm_gateway.protocols import EventPublisher

__all__ = ["EventHandler", "HandlerPublisher"]

EventHandler = Callable[[TicketEvent], Awaitable[None] | None]


class HandlerPublisher(EventPublisher):
    """Calls a function with each event. Its return acknowledges; what it raises means: deliver again later.

    Args:
        handler: A plain or an async function. A plain one runs in the event loop and must not block. An event can
            come more than once: ``event_id`` tells repeats.
    """

    __slots__ = ("_handler",)

    def __init__(self, handler: EventHandler) -> None:
        self._handler = handler

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    async def publish(self, event: TicketEvent) -> None:
        """Call the function with *event*, and wait for it when it is async.

        Raises:
            Exception: whatever the function raises.
        """
        waiting = self._handler(event)
        if inspect.isawaitable(waiting):
            await waiting
