"""Moves events from the queue's outboxes to a publisher: at least once, in order, acknowledged after delivery.

Of all relays on one queue a single one moves the events of a shard at a time: it leads, under a lease. Parallel ones
would reorder the events of a ticket.
"""

from __future__ import annotations

import asyncio
import logging
from enum import Enum, auto
from secrets import token_hex
from typing import Final

from llm_gateway._core.jobs import JobEvent
from llm_gateway._core.retry import backoff
from llm_gateway._engine import Engine
from llm_gateway._tickets import Tickets
from llm_gateway.protocols import EventPublisher, QueueBackend

__all__ = ["Relay"]

logger: Final = logging.getLogger("llm_gateway")
BATCH: Final = 100
# A publisher that takes longer for an event is acknowledged after each; a faster one costs the queue no more than this.
ACKNOWLEDGE_SECONDS: Final = 0.1
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
FAREWELL_SECONDS: Final = 5.0
# Renewed at a third of the lease; a standby looks as often whether the lead has become free.
RENEWALS: Final = 3


class Relay:
    """Runs until cancelled, and serves every shard of the queue."""

    def __init__(self, engine: Engine, queue: QueueBackend, tickets: Tickets, publisher: EventPublisher) -> None:
        self._engine = engine
        self._shards = [
            ShardRelay(engine, queue, tickets, publisher, shard=shard) for shard in range(queue.outbox_shards)
        ]

    def start(self) -> None:
        """Move events until the client closes, and then deliver what waits."""
        self._engine.keep_running(self.run(), "relay", farewell=self.farewell)

    async def run(self) -> None:
        """Move events until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for shard in self._shards:
                tasks.create_task(shard.run())

    async def farewell(self) -> None:
        """Deliver what waits, as far as the publisher takes it in a few seconds; the rest stays in the outbox.

        Where another relay leads, the events are left to it. A lead of this one is given back.
        """
        async with asyncio.TaskGroup() as tasks:
            for shard in self._shards:
                tasks.create_task(shard.farewell())


class Step(Enum):
    """What one batch came to."""

    NOTHING = auto()
    MOVED = auto()
    STUCK = auto()


class ShardRelay:
    """Moves the events of one shard while it leads it.

    An event that cannot be delivered is tried again; those behind it wait, and the lead is kept meanwhile. It stops
    when the queue says that another leads, or when its lease has run out by its own clock: a process that was
    stopped for a while learns only so that it was replaced.
    """

    def __init__(
        self, engine: Engine, queue: QueueBackend, tickets: Tickets, publisher: EventPublisher, *, shard: int
    ) -> None:
        self._queue = queue
        self._tickets = tickets
        self._publisher = publisher
        self._shard = shard
        self._clock = engine.parts.clock
        self._random = engine.parts.random
        self._lease = engine.parts.queue.relay_lease_seconds
        self._token: str | None = None
        # Monotonic end of the lease; None: the queue has not confirmed it.
        self._ends: float | None = None
        self._delivered: str | None = None
        self._acknowledged_at = 0.0

    async def run(self) -> None:
        """Move events until cancelled."""
        failures = 0
        while True:
            try:
                await self._queue.wait_unrelayed(self._shard)
                if not await self._take():
                    await self._clock.sleep(self._lease / RENEWALS)
                elif not await self._move_while_leading():
                    # There was an event, but it may not leave yet, or another took it.
                    await self._clock.sleep(FIRST_PAUSE)
                failures = 0
            except Exception as error:
                # Backends are foreign code, and a relay that dies of one of them would look like an idle one.
                failures += 1
                logger.warning("Events wait: the queue does not answer (%s)", type(error).__name__)
                await self._pause(failures)

    async def farewell(self) -> None:
        """Deliver what waits in a few seconds, unless another leads, and give the lead back."""
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                while await self._take():
                    step = await self._move()
                    if step is not Step.MOVED:
                        break
        except Exception as error:
            logger.warning("Events stay in the outbox: %s while closing", type(error).__name__)
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._give_back()
        except Exception as error:
            logger.warning("The right to relay events was not given back (%s): it lapses", type(error).__name__)

    async def _give_back(self) -> None:
        await self._acknowledge()
        if self._token is not None:
            await self._queue.yield_lead(self._shard, self._token)
            self._token = self._ends = None

    async def _take(self) -> bool:
        """Lead from now on, or still; False while another does."""
        now = self._clock.monotonic()
        if self._ends is not None and now >= self._ends:
            self._token = self._ends = None
        if self._ends is not None and self._ends - now > self._lease * (RENEWALS - 1) / RENEWALS:
            return True
        # Kept while the answer is not known: a token that was taken unnoticed would shut out this relay itself.
        self._token = self._token or token_hex(12)
        return await self._renew(self._token)

    async def _renew(self, token: str) -> bool:
        before = self._clock.monotonic()
        leads = await self._queue.lead(self._shard, token, self._lease)
        if leads:
            self._token, self._ends = token, before + self._lease
        else:
            # Whoever leads now may have moved on; what was delivered here and not acknowledged comes again from there.
            self._token = self._ends = self._delivered = None
        return leads

    @property
    def _leads(self) -> bool:
        return self._ends is not None and self._clock.monotonic() < self._ends

    async def _move_while_leading(self) -> bool:
        """Move all there is; False when there was nothing. The lease is renewed however slow the publisher is."""
        async with asyncio.TaskGroup() as tasks:
            moving = tasks.create_task(self._move_all())
            guards = [tasks.create_task(self._renewed_until_lost()), tasks.create_task(self._lapsed())]
            await asyncio.wait({moving, *guards}, return_when=asyncio.FIRST_COMPLETED)
            finished = moving.done()
            for task in (moving, *guards):
                task.cancel()
        if not finished:
            logger.warning("The right to relay events was lost, another process may have it now: this one stops")
            return True
        return moving.result()

    async def _renewed_until_lost(self) -> None:
        while True:
            await self._clock.sleep(self._lease / RENEWALS)
            try:
                if self._token is None or not await self._renew(self._token):
                    return
                # What was delivered before a slow event need not wait for it.
                await self._acknowledge()
            except Exception as error:
                # It may be back before the lease ends; if not, the clock tells.
                logger.warning("The right to relay events was not renewed (%s)", type(error).__name__)

    async def _lapsed(self) -> None:
        while self._ends is not None and (left := self._ends - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)

    async def _move_all(self) -> bool:
        moved, failures = False, 0
        while self._leads:
            step = await self._tried()
            if step is Step.NOTHING:
                break
            moved = True
            failures = failures + 1 if step is Step.STUCK else 0
            if failures:
                await self._pause(failures)
        return moved

    async def _tried(self) -> Step:
        try:
            return await self._move()
        except Exception as error:
            logger.warning("Events wait: the queue does not answer (%s)", type(error).__name__)
            return Step.STUCK

    async def _move(self) -> Step:
        """Deliver a batch, one event after the other, and acknowledge it in as few steps as its pace allows."""
        await self._acknowledge()
        self._acknowledged_at = self._clock.monotonic()
        events = await self._queue.unrelayed(self._shard, BATCH)
        step = Step.MOVED if events else Step.NOTHING
        for event in events:
            if not self._leads:
                break
            if not await self._deliver(event):
                step = Step.STUCK
                break
            self._delivered = event.cursor
            if self._clock.monotonic() - self._acknowledged_at >= ACKNOWLEDGE_SECONDS:
                await self._acknowledge()
        await self._acknowledge()
        return step

    async def _deliver(self, event: JobEvent) -> bool:
        try:
            await self._publisher.publish(await self._tickets.event(event))
        except Exception as error:
            # Publishers are foreign code: whatever they raise means that the event is still to be delivered.
            where = (event.version, event.ticket_id, type(error).__name__)
            logger.warning("Events wait: delivery of version %d of ticket %s failed with %s", *where)
            return False
        return True

    async def _acknowledge(self) -> None:
        delivered, token = self._delivered, self._token
        if delivered is None or token is None:
            return
        if not await self._queue.relayed(self._shard, delivered, token):
            # What was delivered is kept for when this relay leads again before any other has: a handler that blocks
            # the process for longer than the lease would otherwise get the same event for ever.
            self._token = self._ends = None
            return
        self._acknowledged_at = self._clock.monotonic()
        if self._delivered == delivered:
            self._delivered = None

    async def _pause(self, failures: int) -> None:
        draw = 0.5 + self._random() / 2
        await self._clock.sleep(backoff(failures, base=FIRST_PAUSE, cap=LONGEST_PAUSE, draw=draw))
