"""Moves events from the queue's outbox to a publisher: at least once, in order, acknowledged after delivery."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from llm_gateway._core.retry import backoff
from llm_gateway._engine import Engine
from llm_gateway._tickets import Tickets
from llm_gateway.protocols import EventPublisher, QueueBackend

__all__ = ["Relay"]

logger: Final = logging.getLogger("llm_gateway")
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
FAREWELL_SECONDS: Final = 5.0


class Relay:
    """Runs until cancelled. An event that cannot be delivered is tried again; those behind it wait."""

    def __init__(self, engine: Engine, queue: QueueBackend, tickets: Tickets, publisher: EventPublisher) -> None:
        self._queue = queue
        self._tickets = tickets
        self._publisher = publisher
        self._clock = engine.parts.clock
        self._random = engine.parts.random

    async def run(self) -> None:
        """Move events until cancelled."""
        failures = 0
        while True:
            try:
                await self._queue.wait_unrelayed()
                await self._move()
                failures = 0
            except Exception as error:
                # Publishers are foreign code: whatever they raise means that the event is still to be delivered.
                failures += 1
                logger.warning("Events wait: delivery failed with %s", type(error).__name__)
                draw = 0.5 + self._random() / 2
                await self._clock.sleep(backoff(failures, base=FIRST_PAUSE, cap=LONGEST_PAUSE, draw=draw))

    async def farewell(self) -> None:
        """Deliver what waits, as far as the publisher takes it in a few seconds; the rest stays in the outbox."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                while await self._move() > 0:
                    pass
        except Exception as error:
            logger.warning("Events stay in the outbox: delivery failed with %s", type(error).__name__)

    async def _move(self) -> int:
        events = await self._queue.unrelayed()
        for event in events:
            await self._publisher.publish(await self._tickets.event(event))
            await self._queue.relayed(event.cursor)
        return len(events)
