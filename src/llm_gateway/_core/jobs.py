"""The frozen values that move through a queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Fault
from llm_gateway.errors import LLMGatewayError

__all__ = [
    "AdoptedBy",
    "Complete",
    "Disposition",
    "Ending",
    "EnqueueReply",
    "Enqueued",
    "ErasureReport",
    "Fail",
    "FinishReply",
    "JobError",
    "JobEvent",
    "JobView",
    "Lane",
    "LaneGate",
    "LaneStats",
    "Lease",
    "NewJob",
    "Park",
    "ParkScope",
    "QueueStats",
    "Release",
    "Retry",
    "Swept",
]


class Lane(NamedTuple):
    """One provider and one model: an outage here delays nobody elsewhere."""

    provider: str
    model: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A request about to be stored.

    Attributes:
        ticket_id: Minted by the backend (`JobStore.mint`).
        tenant: Who owns it; ``""`` for the only tenant.
        lane: Provider and model.
        idempotency_key: Same key, same ticket.
        fingerprint: Digest of the content that the key stands for.
        priority: Its share of the lane.
        created_at: UTC time of the submission.
        expires_at: UTC time at which waiting ends.
        not_before: UTC time before which it must not be claimed.
        reason: Why it waits.
        group: The batch it belongs to.
        subjects: Pseudonyms to erase by.
        echo: What is echoed on events (metadata, correlation id …), kept until the record goes.
        payload: The sealed request, dropped at the terminal transition unless the job failed.
        history: Attempts made before it was stored.
        requeued_from: The dead letter this was made from.
    """

    ticket_id: str
    tenant: str
    lane: Lane
    idempotency_key: str
    fingerprint: str
    priority: Priority
    created_at: datetime
    expires_at: datetime
    not_before: datetime | None = None
    reason: str | None = None
    group: str | None = None
    subjects: tuple[str, ...] = ()
    echo: bytes = field(default=b"{}", repr=False)
    payload: bytes = field(repr=False)
    history: tuple[Attempt, ...] = ()
    requeued_from: str | None = None


class AdoptedBy(NamedTuple):
    """Store the job as already running under a lease of this worker: a live call goes on as its first attempt."""

    worker: str
    lease_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Why a job failed, in words that quote nobody's content.

    Attributes:
        type: Name of the error class.
        message: Its message.
        fault: The row of the admission table.
        code: The vendor's machine code.
        status: HTTP status.
    """

    type: str
    message: str
    fault: Fault | None = None
    code: str | None = None
    status: int | None = None


class JobView(NamedTuple):
    """What the queue knows of a job, without payload and result.

    Attributes:
        attempts: Attempts spent; an outage spends none.
        crashes: Leases that lapsed.
        history: Every attempt, the latest 32.
        position: Jobs ahead of it in its lane, when that is cheap to tell.
    """

    ticket_id: str
    tenant: str
    lane: Lane
    state: TicketState
    version: int
    priority: Priority
    idempotency_key: str
    fingerprint: str
    created_at: datetime
    expires_at: datetime
    updated_at: datetime
    not_before: datetime | None = None
    reason: str | None = None
    group: str | None = None
    subjects: tuple[str, ...] = ()
    echo: bytes = b"{}"
    attempts: int = 0
    crashes: int = 0
    history: tuple[Attempt, ...] = ()
    error: JobError | None = None
    position: int | None = None
    requeued_from: str | None = None

    def __repr__(self) -> str:
        """Show everything but the echo, which is the caller's own."""
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "echo")
        return f"JobView({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to work on a job until a deadline, shown by a random fencing token."""

    job: JobView
    payload: bytes = field(repr=False)
    token: str = field(repr=False)
    deadline: datetime
    worker: str


class Enqueued(NamedTuple):
    """Reply to an enqueue.

    Attributes:
        job: The job, new or found by its idempotency key.
        created: False when the key had a ticket already.
        lease: The lease of an adopted job, when one was asked for and the job is new.
    """

    job: JobView
    created: bool
    lease: Lease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """End with a result."""

    result: bytes = field(repr=False)
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """End as a dead letter; the payload is kept for `LLMClient.requeue`.

    Attributes:
        error: Why it failed.
        attempt: The attempt that ended it.
        park_group: Park the rest of the job's group in this lane for this reason, in the same step; ``None``, or a
            job without a group, parks nothing.
    """

    error: JobError
    attempt: Attempt | None = None
    park_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Go back and wait; the attempt is spent. At ``max_attempts`` the job fails with *error* instead."""

    error: JobError
    delay: float
    max_attempts: int
    attempt: Attempt | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Go back and wait; no attempt is spent: the provider is out, or the worker shuts down."""

    reason: str
    delay: float = 0.0
    attempt: Attempt | None = None


class ParkScope(StrEnum):
    """How much waits for an operator."""

    JOB = "job"
    GROUP = "group"
    LANE = "lane"


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Go back and wait for an operator; no attempt is spent. The whole scope is parked with it."""

    reason: str
    scope: ParkScope = ParkScope.LANE
    attempt: Attempt | None = None


Disposition = Complete | Fail | Retry | Release | Park


class FinishReply(NamedTuple):
    """Reply to a finish.

    Attributes:
        accepted: False when the token is not the current one: the worker drops its result.
        state: State of the job afterwards.
        replayed: True when this very finish had been accepted before.
    """

    accepted: bool
    state: TicketState | None
    replayed: bool = False


class Ending(NamedTuple):
    """How a job ended.

    Attributes:
        job: As it then is.
        result: What is stored of a completed job.
    """

    job: JobView
    result: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One accepted transition, in the order in which they were accepted."""

    cursor: str
    ticket_id: str
    tenant: str
    version: int
    state: TicketState
    reason: str | None
    group: str | None
    at: datetime
    view: JobView = field(repr=False)
    result: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneGate:
    """What claim respects: the mirrored circuit, a time to wait for, an operator's pause, a park.

    Attributes:
        circuit: ``closed``, ``open`` or ``half_open``.
        not_before: UTC time before which nothing is claimed.
        max_in_flight: Most jobs under lease at once; ``None``: no limit.
        paused: Stopped by an operator.
        parked: Why the lane waits for an operator; ``None`` when it does not.
    """

    circuit: str = "closed"
    not_before: datetime | None = None
    max_in_flight: int | None = None
    paused: bool = False
    parked: str | None = None


class LaneStats(NamedTuple):
    """Counts of one lane, each kept up to date rather than counted."""

    lane: Lane
    ready: int
    delayed: int
    processing: int
    parked: int
    dead: int
    oldest_created_at: datetime | None
    last_heartbeat_at: datetime | None
    gate: LaneGate


class QueueStats(NamedTuple):
    """Counts of the whole queue.

    Attributes:
        depth: Jobs that have not ended.
        bytes: Size of their payloads.
        outbox: Events that have not left.
        outbox_oldest_at: UTC time of the oldest of them; ``None`` when all have left.
        max_depth: Limit of depth and outbox together.
        max_bytes: Limit of bytes.
        oldest_created_at: UTC time at which the oldest job that has not ended was made.
        lanes: Counts of each lane.
    """

    depth: int
    bytes: int
    outbox: int
    outbox_oldest_at: datetime | None
    max_depth: int
    max_bytes: int
    oldest_created_at: datetime | None
    lanes: tuple[LaneStats, ...]


class Swept(NamedTuple):
    """What a sweep found: expired jobs, jobs taken back from lost workers, jobs that crashed too often.

    Attributes:
        more: Whether its limit was reached, so that there may be more to do.
    """

    expired: int = 0
    recovered: int = 0
    dead: int = 0
    more: bool = False


class ErasureReport(NamedTuple):
    """What an erasure removed."""

    tickets: tuple[str, ...] = ()
    cancelled: int = 0
    removed: tuple[str, ...] = ()


EnqueueReply = Enqueued | LLMGatewayError
