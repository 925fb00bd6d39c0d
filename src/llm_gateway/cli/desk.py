"""The queue as the commands see it: opened from settings, without a provider's key."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from llm_gateway._core.jobs import JobView, Lane, LaneStats
from llm_gateway.client import LLMClient
from llm_gateway.errors import ConfigurationError, QueueError
from llm_gateway.parts import Parts
from llm_gateway.protocols import PayloadCodec, QueueBackend
from llm_gateway.settings import Settings
from llm_gateway.wiring import WiredQueue, wire_queue

__all__ = ["WINDOW", "OperatorDesk", "lane_of", "open_desk", "require_shared"]

PAYLOAD: Final = "payload"
# Most tickets looked at for a filtered list: the newest.
WINDOW: Final = 1000


@dataclass(frozen=True, slots=True)
class OperatorDesk:
    """What an operator can do: with the queue itself, and as the client of a tenant that can ask no provider."""

    queue: QueueBackend
    codec: PayloadCodec
    client: LLMClient

    def of(self, tenant: str) -> LLMClient:
        """Return the client of a tenant; ``""`` is the only one."""
        return self.client.for_tenant(tenant) if tenant else self.client

    async def payload(self, job: JobView) -> str | None:
        """Return what was asked, as JSON; ``None`` when it is not kept any more.

        Raises:
            QueueError: the payload cannot be opened.
        """
        sealed = await self.queue.payload(job.tenant, job.ticket_id)
        if sealed is None:
            return None
        data = await self.codec.open(sealed, tenant=job.tenant, ticket_id=job.ticket_id, kind=PAYLOAD)
        return data.decode(errors="replace")

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


def require_existing(wired: WiredQueue) -> None:
    """Refuse a queue file that is not there: opening would make one, whoever runs this, and show it as empty.

    Raises:
        ConfigurationError: it is not there.
    """
    if wired.file is None or wired.file.exists():
        return
    message = f"There is no queue at {wired.file}."
    step = "Correct LLM_GATEWAY_QUEUE_PATH; the service or a worker makes the file when it starts."
    raise ConfigurationError(message, next_step=step)


@asynccontextmanager
async def open_desk(settings: Settings) -> AsyncGenerator[OperatorDesk]:
    """Open the queue that *settings* name, and close it afterwards.

    Raises:
        ConfigurationError: there is no queue that can be operated from here.
        QueueUnavailable: it does not answer.
    """
    wired = wire_queue(settings)
    queue = require_shared(wired.queue)
    require_existing(wired)
    # An operator reads and moves what is there; whether new requests may be stored unsealed is the service's affair.
    parts = Parts(
        environment=settings.environment, codec=wired.codec, queue=settings.queue_options, allow_plaintext_queue=True
    )
    async with LLMClient((), queue, parts) as client:
        yield OperatorDesk(queue, wired.codec, client)
