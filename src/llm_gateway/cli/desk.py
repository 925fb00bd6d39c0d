"""The queue as the commands see it: opened from settings, without a provider's key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from llm_gateway._core.jobs import ErasureReport, JobView, Lane, LaneStats
from llm_gateway.errors import ConfigurationError, QueueError
from llm_gateway.protocols import PayloadCodec, QueueBackend
from llm_gateway.settings import Settings
from llm_gateway.wiring import wire_queue

__all__ = ["WINDOW", "OperatorDesk", "lane_of", "open_desk", "require_shared"]

PAYLOAD: Final = "payload"
# Most tickets looked at for a filtered list: the newest.
WINDOW: Final = 1000


@runtime_checkable
class KeepsPayloads(Protocol):
    """A queue that gives a stored payload out."""

    async def payload(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the sealed payload, ``None`` when it has been dropped."""
        ...


@dataclass(frozen=True, slots=True)
class OperatorDesk:
    """What an operator can do. The one place of these commands that calls the queue."""

    queue: QueueBackend
    codec: PayloadCodec

    async def payload(self, job: JobView) -> str | None:
        """Return what was asked, as JSON; ``None`` when it is not kept any more.

        Raises:
            QueueError: this queue gives no payload out, or the payload cannot be opened.
        """
        if not isinstance(self.queue, KeepsPayloads):
            message = f"{type(self.queue).__name__} gives no payload out."
            raise QueueError(message, next_step="Show the ticket without --payload.")
        sealed = await self.queue.payload(job.tenant, job.ticket_id)
        if sealed is None:
            return None
        data = await self.codec.open(sealed, tenant=job.tenant, ticket_id=job.ticket_id, kind=PAYLOAD)
        return data.decode(errors="replace")

    async def requeue(self, tenant: str, ticket_id: str) -> JobView:
        """Make a new ticket of a failed one."""
        return await self.queue.requeue(tenant, ticket_id)

    async def erase(self, tenant: str, *, ticket_id: str | None = None, subject: str | None = None) -> ErasureReport:
        """Cancel, then remove what is held."""
        return await self.queue.erase(tenant, ticket_id=ticket_id, subject=subject)

    async def lane(self, text: str) -> LaneStats:
        """Return a lane that the queue knows.

        Raises:
            QueueError: it knows none of that name: pausing it would hold nothing.
        """
        lane = lane_of(text)
        lanes = (await self.queue.stats()).lanes
        found = next((stats for stats in lanes if stats.lane == lane), None)
        if found is not None:
            return found
        known = ", ".join(str(stats.lane) for stats in lanes) or "none"
        message = f"The queue has no lane {lane}."
        raise QueueError(message, next_step=f"Name one that it has: {known}.")

    async def reset(self, lane: Lane) -> None:
        """Close the mirrored circuit of a lane and let it go on."""
        await self.queue.set_gate(lane, circuit="closed", not_before=None)
        await self.queue.resume(lane)


def lane_of(text: str) -> Lane:
    """Read ``provider/model``.

    Raises:
        ConfigurationError: it is not written so.
    """
    provider, _, model = text.partition("/")
    if not provider or not model:
        message = f"{text[:80]!r} is no lane."
        raise ConfigurationError(message, next_step="Write it as provider/model, such as openai/gpt-4o.")
    return Lane(provider, model)


def require_shared(queue: QueueBackend | None) -> QueueBackend:
    """Return the queue if another process can work on it.

    Raises:
        ConfigurationError: there is none, or it lives in one process only.
    """
    if queue is not None and queue.durable:
        return queue
    message = "No queue is configured." if queue is None else "The configured queue lives in one process only."
    step = "Set LLM_GATEWAY_QUEUE to a queue that several processes share, as the service does."
    raise ConfigurationError(message, next_step=step)


@asynccontextmanager
async def open_desk(settings: Settings, *, outbox: bool) -> AsyncGenerator[OperatorDesk]:
    """Open the queue that *settings* name, and close it afterwards.

    Raises:
        ConfigurationError: there is no queue that can be operated from here.
        QueueUnavailable: it does not answer.
    """
    wired = wire_queue(settings)
    queue = require_shared(wired.queue)
    await queue.start(outbox=outbox)
    try:
        yield OperatorDesk(queue, wired.codec)
    finally:
        await queue.aclose()
