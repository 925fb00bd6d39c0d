"""Holding a group to the one model that began it."""

from __future__ import annotations

import asyncio
from typing import Final

from llm_gateway._callers import GRACE
from llm_gateway._core.jobs import Lane
from llm_gateway._facts import Fault
from llm_gateway._pipeline import Call
from llm_gateway.errors import ModelMismatch, QueueError, QueueUnavailable
from llm_gateway.protocols import Clock, QueueBackend

__all__ = ["MOST_PINS", "Pins"]

MOST_PINS: Final = 10_000
PAUSES: Final = (0.2, 1.0, 3.0)


class Pins:
    """The models of groups, in the queue for all processes, and as far as this one has read them.

    A pin never changes, so one that was read once needs no queue any more.
    """

    def __init__(self, queue: QueueBackend | None, clock: Clock, *, most: int = MOST_PINS) -> None:
        self._queue = queue
        self._clock = clock
        self._most = most
        self._known: dict[tuple[str, str, Lane], str] = {}

    async def require(self, tenant: str, call: Call, served: str | None) -> None:
        """Pin a group to the first model that served it, and hold the rest of it to that one.

        Raises:
            ModelMismatch: another model served than the one the group is pinned to.
            QueueUnavailable: the queue that knows the pin does not answer, so the two cannot be compared.
        """
        group = call.request.group
        if group is None or served is None or call.request.served_model is not None:
            return
        place = (tenant, group, call.key.lane)
        pinned = self._known.get(place)
        if pinned is None:
            pinned = await self._asked(call, place, served)
            self._remember(place, pinned)
        if pinned != served:
            message = f"{served} answered in a group that {pinned} had begun."
            raise ModelMismatch(message, info=call.info(Fault.MODEL_MISMATCH))

    async def _asked(self, call: Call, place: tuple[str, str, Lane], served: str) -> str:
        if self._queue is None:
            return served
        try:
            async with asyncio.timeout(
                max(call.deadline - self._clock.monotonic(), 0.0) + GRACE if call.live else None
            ):
                return await self._patiently(self._queue, call, place, served)
        except (QueueError, TimeoutError):
            # Handed out unchecked, it could be a second model's in a group that counts on one. A caller gets an error
            # and may ask again; a worker gives the job back as after any failed attempt. Either way an answer may
            # have been paid for in vain, but no request is lost and no two models are mixed silently.
            message = "The model of the group could not be compared: the queue does not answer."
        step = "Restore the queue and ask again; the answer was dropped, and may be billed."
        raise QueueUnavailable(message, next_step=step, info=call.info(Fault.MODEL_UNCHECKED))

    async def _patiently(self, queue: QueueBackend, call: Call, place: tuple[str, str, Lane], served: str) -> str:
        for pause in PAUSES:
            try:
                return await queue.pin(*place, served)
            except QueueError:
                # The answer in hand is paid for; a queue that is back in a moment saves it.
                if call.live and self._clock.monotonic() + pause > call.deadline:
                    break
                await self._clock.sleep(pause)
        return await queue.pin(*place, served)

    def _remember(self, place: tuple[str, str, Lane], pinned: str) -> None:
        while len(self._known) >= self._most:
            del self._known[next(iter(self._known))]
        self._known[place] = pinned
