"""What ``LLMClient.health`` tells, without asking any provider."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from llm_gateway._core.circuit import CircuitState
from llm_gateway._core.environments import Environment
from llm_gateway._core.jobs import Lane

__all__ = ["Health", "LaneHealth"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneHealth:
    """One lane: a provider and a model.

    Attributes:
        lane: Which.
        circuit: State of its circuits in this process.
        retry_in: Seconds until a probe is allowed.
        latched: Whether its account waits for an operator.
        paused: Whether an operator stopped it.
        parked: Why it waits for an operator.
        ready: Requests that could be claimed.
        delayed: Requests that wait for a time.
        processing: Requests under lease.
        dead: Requests that failed and are kept.
        oldest_created_at: When the oldest waiting request was submitted.
        last_heartbeat_at: When a worker last showed up for it.
    """

    lane: Lane
    circuit: CircuitState
    retry_in: float
    latched: bool
    paused: bool
    parked: str | None
    ready: int
    delayed: int
    processing: int
    dead: int
    oldest_created_at: datetime | None
    last_heartbeat_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The client as it stands.

    Attributes:
        environment: Where it runs.
        providers: Names that requests can use.
        queue: Class name of the queue; ``None`` without one.
        durable: Whether tickets survive this process.
        depth: Requests waiting or running.
        outbox: Events that have not left yet.
        outbox_lag: Seconds since the oldest of them happened; ``None`` when all have left, or none are to leave.
        lanes: Every lane that holds requests or was asked by this client.
    """

    environment: Environment
    providers: tuple[str, ...]
    queue: str | None
    durable: bool
    depth: int
    outbox: int
    outbox_lag: float | None
    lanes: tuple[LaneHealth, ...]
