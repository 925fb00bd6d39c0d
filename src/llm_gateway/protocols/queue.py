"""The contract of the durable queue, composed of what its users need of it.

Waits in these protocols are unbounded: the caller bounds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from llm_gateway._core.jobs import (
    AdoptedBy,
    Disposition,
    Ending,
    Enqueued,
    EnqueueReply,
    ErasureReport,
    FinishReply,
    JobEvent,
    JobView,
    Lane,
    LaneStats,
    Lease,
    NewJob,
    QueueStats,
    Swept,
)
from llm_gateway.protocols.parts import Part

__all__ = ["JobStore", "KeyStore", "Outbox", "QueueAdmin", "QueueBackend", "Watch", "WorkSource"]


class JobStore(Protocol):
    """Tickets by id and by idempotency key.

    Whoever names a ticket that is unknown, gone or another tenant's gets `TicketNotFound`, here and in every
    other protocol of the queue.
    """

    def mint(self, tenant: str, idempotency_key: str) -> str:
        """Make a new ticket id."""
        ...

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store a job durably, or find the one that has its key.

        Raises:
            QueueFull: at the depth or byte limit; nothing is stored.
            IdempotencyConflict: the key stands for other content.
            QueueUnavailable: nothing was stored.
            DurabilityUnknown: it may have been stored.
        """
        ...

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[EnqueueReply]:
        """Do the same for many, each on its own: one refusal does not touch the others."""
        ...

    async def find(self, tenant: str, idempotency_key: str) -> JobView | None:
        """Return the job that has this key."""
        ...

    async def get(self, tenant: str, ticket_id: str) -> JobView:
        """Return a job."""
        ...

    async def result(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored result of a completed job."""
        ...

    async def cancel(self, tenant: str, ticket_id: str) -> JobView:
        """Cancel a job that is not terminal; return it as it then is."""
        ...

    async def cancel_group(self, tenant: str, group: str) -> int:
        """Cancel every job of a group that is not terminal; return how many."""
        ...

    async def erase(
        self, tenant: str, *, ticket_id: str | None = None, subject: str | None = None, everything: bool = False
    ) -> ErasureReport:
        """Cancel, then remove payload, result, echo and history of a ticket, of all of a subject's, or of all.

        Raises:
            InvalidRequest: unless exactly one of the three is given.
        """
        ...


class WorkSource(Protocol):
    """What a worker needs."""

    async def lanes(self) -> list[LaneStats]:
        """Every lane that holds jobs, with its gate."""
        ...

    async def claim(self, lane: Lane, count: int, *, worker: str, lease_seconds: float, claim_id: str) -> list[Lease]:
        """Take up to *count* jobs under lease, in fair order, as far as the lane's gate lets them through.

        The same *claim_id* asked again returns the same jobs while their leases hold.
        """
        ...

    async def extend(self, lease: Lease, lease_seconds: float) -> bool:
        """Prolong a lease; False when the token is no longer the current one."""
        ...

    async def finish(self, lease: Lease, disposition: Disposition) -> FinishReply:
        """End one attempt. State, counters, result and event change in one step."""
        ...

    async def sweep(self, limit: int = 100) -> Swept:
        """Expire what has waited too long and take back what lost workers held."""
        ...

    async def heartbeat(self, worker: str, lanes: Sequence[Lane]) -> None:
        """Show that a worker stands ready for these lanes."""
        ...

    async def set_gate(self, lane: Lane, *, circuit: str, not_before: datetime | None) -> None:
        """Mirror the circuit of a lane."""
        ...

    async def unpark(self, lane: Lane, reason: str) -> None:
        """Let go what was parked for this reason: the lane, its groups, its jobs. A pause and other parks stay."""
        ...

    async def pin(self, tenant: str, group: str, lane: Lane, served_model: str) -> str:
        """Pin a group's served model if it has none, and return the one it has, which never changes."""
        ...

    async def wait_ready(self) -> None:
        """Return when jobs may have become claimable since the call began."""
        ...


class Outbox(Protocol):
    """Events that still have to leave. Written only when the queue was started with ``outbox=True``.

    There can be several outboxes, each a shard with a number from 0 and an order of its own. One relay at a time
    leads a shard, under a token of its own choice: parallel relays would reorder the events of a ticket.
    """

    @property
    def outbox_shards(self) -> int:
        """How many outboxes there are. The events of one ticket are always in one of them."""
        ...

    async def lead(self, shard: int, token: str, seconds: float) -> bool:
        """Take, or renew, the right to relay a shard for *seconds*; False while another token holds it."""
        ...

    async def yield_lead(self, shard: int, token: str) -> None:
        """Give the right back, if it is still this token's."""
        ...

    async def unrelayed(self, shard: int, limit: int = 100) -> list[JobEvent]:
        """Return the oldest events that nobody acknowledged.

        A durable queue returns only what is durable at its configured level: an event that could still be undone
        must not be told.
        """
        ...

    async def relayed(self, shard: int, cursor: str, token: str) -> bool:
        """Acknowledge all events up to this one; their results are retained from now on.

        False when the token no longer leads, because its time has passed or another took the lead: then nothing
        changes.
        """
        ...

    async def close_outbox(self, shard: int, token: str) -> bool:
        """Write no more events for a relay, until a queue is started with ``outbox=True`` again.

        False, and nothing changes, unless this token leads and all events have left.
        """
        ...

    async def wait_unrelayed(self, shard: int) -> None:
        """Return when there is an event to relay in this shard."""
        ...


class Watch(Protocol):
    """Being told of changes."""

    async def wait(self, tenant: str, ticket_id: str, *, beyond: int) -> JobView:
        """Return the job once its version exceeds *beyond*."""
        ...

    async def events(self, tenant: str, *, group: str | None, after: str | None, limit: int = 100) -> list[JobEvent]:
        """Wait for events after a cursor (from now on when ``None``); past a gap, the current states come first."""
        ...


class QueueAdmin(Protocol):
    """What an operator needs."""

    async def stats(self) -> QueueStats:
        """Counts, each O(1)."""
        ...

    async def list_jobs(self, *, tenant: str | None = None, failed: bool = False, limit: int = 100) -> list[JobView]:
        """Return the newest jobs, or the newest of those that have failed."""
        ...

    async def pause(self, lane: Lane) -> None:
        """Stop claims of a lane."""
        ...

    async def resume(self, lane: Lane) -> None:
        """Undo `pause`, and un-park the lane and its jobs."""
        ...

    async def limit(self, lane: Lane, max_in_flight: int | None) -> None:
        """Let at most so many jobs of a lane run at once, in all processes together; ``None``: as many as there are."""
        ...

    async def payload(self, tenant: str, ticket_id: str) -> bytes | None:
        """Return the stored request; ``None`` once it was dropped."""
        ...


class KeyStore(Protocol):
    """Where the keys of tenants are kept, each wrapped by a key that the store never sees."""

    async def tenant_key(self, tenant: str) -> bytes | None:
        """Return the wrapped key that is kept for a tenant.

        Raises:
            QueueUnavailable: the store cannot be reached.
        """
        ...

    async def keep_tenant_key(self, tenant: str, wrapped: bytes, *, replacing: bytes | None = None) -> bytes:
        """Keep *wrapped* if no key is kept, and return the one that is kept afterwards: all who come agree on it.

        With *replacing*, keep it only in place of that one. A key that was dropped meanwhile is not brought back:
        nothing is stored then, and the answer is empty.

        Raises:
            QueueUnavailable: the store cannot be reached; nothing was stored.
            DurabilityUnknown: it may have been stored.
        """
        ...

    async def drop_tenant_key(self, tenant: str) -> bool:
        """Forget the key of a tenant; True when there was one.

        Raises:
            QueueUnavailable: the store cannot be reached; the key is still there.
            DurabilityUnknown: it may have been forgotten.
        """
        ...


class QueueBackend(Part, JobStore, WorkSource, Outbox, Watch, QueueAdmin, KeyStore, Protocol):
    """The durable queue, composed of what its users need of it."""

    @property
    def durable(self) -> bool:
        """Whether an accepted job survives this process."""
        ...

    async def start(self, *, outbox: bool) -> None:
        """Open what is needed. Idempotent."""
        ...

    async def aclose(self) -> None:
        """Close what was opened. Stored jobs stay."""
        ...

    async def ended(self, tenant: str, ticket_id: str) -> Ending:
        """Return a job with its result once it has ended; a backend that can tell in fewer steps does so."""
        job = await self.get(tenant, ticket_id)
        while not job.state.terminal:
            job = await self.wait(tenant, ticket_id, beyond=job.version)
        return Ending(job, await self.result(tenant, ticket_id))
