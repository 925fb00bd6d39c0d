"""Events kept in a list, for development and tests."""

from __future__ import annotations

from llm_gateway._core.environments import WORKSHOP, Environment
from llm_gateway._core.outcomes import TicketEvent
from llm_gateway.protocols import EventPublisher

__all__ = ["MemoryPublisher"]


class MemoryPublisher(EventPublisher):
    """Keeps every event. It grows without bound and ends with the process.

    Attributes:
        events: What was published, oldest first.
    """

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[TicketEvent] = []

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Development and testing."""
        return WORKSHOP

    async def publish(self, event: TicketEvent) -> None:
        """Keep one event."""
        self.events.append(event)
