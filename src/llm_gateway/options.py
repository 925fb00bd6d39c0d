"""Frozen options of the parts, each with its default, unit and range. Durations are seconds.

A value out of range is a `ConfigurationError` at construction.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from llm_gateway._core.checked import complaints
from llm_gateway.errors import ConfigurationError

__all__ = ["BreakerOptions", "HttpOptions", "QueueOptions", "RedisOptions", "RetryOptions", "WorkerOptions"]

Seconds = Annotated[float, Field(gt=0.0, le=86_400.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


class Options(BaseModel):
    """Frozen, closed to unknown names, checked when built."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_typed(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            message = f"{cls.__name__} is not valid: {complaints(error)}."
        raise ConfigurationError(message)


class HttpOptions(Options):
    """How HTTP calls are made.

    Attributes:
        connect_timeout: Most seconds to connect, TLS included.
        attempt_timeout: Most seconds for one whole attempt, body included.
        max_connections: Connections open at once, for each provider.
        keepalive: Seconds an idle connection is kept; below what providers use, so that they do not close it first.
        max_response_bytes: Most bytes of a decoded response.
    """

    connect_timeout: Seconds = 5.0
    attempt_timeout: Seconds = 300.0
    max_connections: Count = 256
    keepalive: Seconds = 15.0
    max_response_bytes: Count = 16 * 1024 * 1024


class BreakerOptions(Options):
    """When a circuit opens and how it closes again.

    It trips after ``consecutive_failures`` within ``window``, or when at least ``failure_rate`` of at least
    ``minimum_calls`` in ``window`` failed.

    Attributes:
        consecutive_failures: Failures in a row.
        window: Seconds that count.
        minimum_calls: Calls below which no rate is computed.
        failure_rate: Share of failures.
        open_time: Seconds open at first; doubles with each trip that follows without a full recovery.
        open_time_cap: Most seconds open, but for a longer Retry-After.
        jitter: Share by which the open time varies, either way.
        max_probes: Calls let through at once while half-open.
        success_threshold: Probes in a row that must succeed.
        probe_lease: Seconds after which a probe that was not given back is void; above the HTTP attempt timeout.
    """

    consecutive_failures: Count = 5
    window: Seconds = 60.0
    minimum_calls: Count = 20
    failure_rate: Share = 0.5
    open_time: Seconds = 15.0
    open_time_cap: Seconds = 300.0
    jitter: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    max_probes: Count = 1
    success_threshold: Count = 2
    probe_lease: Seconds = 310.0


class RetryOptions(Options):
    """How often and when a live call is tried again.

    Attributes:
        attempts: Most attempts of one live call, the first included. A worker makes one for each lease.
        base: Upper bound of the first wait; doubles each time; the wait is drawn evenly below it (full jitter).
        throttled_base: The same after a rate limit.
        cap: Most seconds of one such wait.
        honour: Longest Retry-After that a live call waits for; a longer one goes to the queue.
        min_useful: Least seconds left for which another attempt is started.
        budget: Tokens of the retry budget of an endpoint; a retry takes one.
        budget_ratio: Tokens that each first attempt puts back.
        budget_refill: Seconds in which one token comes back by itself.
    """

    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    base: Seconds = 0.5
    throttled_base: Seconds = 1.0
    cap: Seconds = 20.0
    honour: Seconds = 120.0
    min_useful: Annotated[float, Field(ge=0.0, le=60.0)] = 0.5
    budget: Annotated[float, Field(ge=1.0)] = 10.0
    budget_ratio: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    budget_refill: Seconds = 10.0


class QueueOptions(Options):
    """Bounds and retention of the queue, and the lease of whoever takes its events out.

    Attributes:
        max_depth: Most requests waiting or running.
        max_bytes: Most bytes of their payloads.
        max_payload_bytes: Most bytes of one payload.
        max_attempts: Attempts after which a request fails.
        max_crashes: Lost workers after which a request fails.
        result_retention: How long a result is kept once its event has been relayed.
        dead_letter_retention: How long a failed request is kept.
        relay_lease_seconds: How long the right to relay events holds without renewal. It is renewed at a third of
            that; when the process that has it is lost, another goes on about so much later.
    """

    max_depth: Count = 100_000
    max_bytes: Count = 512 * 1024 * 1024
    max_payload_bytes: Count = 8 * 1024 * 1024
    max_attempts: Count = 8
    max_crashes: Count = 3
    result_retention: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(days=7)
    dead_letter_retention: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(days=14)
    relay_lease_seconds: Seconds = 10.0


class RedisOptions(Options):
    """How the queue uses a Redis server.

    Attributes:
        durability: What has to hold before a request counts as stored: ``process``, the server has it in memory and
            writes it in its own time; ``disk``, it is in the server's append-only file; ``replicated``, it is in
            those of *replicas* more servers too.
        replicas: How many replicas ``replicated`` waits for.
        wait_timeout: Seconds given to disks and replicas; then it is not known whether the request is safe.
        shards: Into how many slots the jobs are spread; 1 but for a cluster. Fixed with the first start. Each shard has
            its part of the queue's bounds and is fair within itself.
        connect_timeout: Most seconds to connect, TLS and checks included.
        reply_timeout: Most seconds for a reply; a connection that takes longer is given up.
    """

    durability: Literal["process", "disk", "replicated"] = "disk"
    replicas: Annotated[int, Field(ge=1, le=16)] = 1
    wait_timeout: Seconds = 2.0
    shards: Annotated[int, Field(ge=1, le=1024)] = 1
    connect_timeout: Seconds = 5.0
    reply_timeout: Seconds = 10.0


class WorkerOptions(Options):
    """How a worker drains the queue.

    Attributes:
        concurrency: Requests worked on at once.
        lane_concurrency: Most of them of one lane, so that a slow lane cannot take every place; ``None``: no limit.
        lease_seconds: How long a claim holds without a heartbeat; it is renewed at a third of that.
        sweep_seconds: How often expired and abandoned requests are looked for.
        drain_timeout: Seconds given to running requests at shutdown before they go back.
    """

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 8
    lane_concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    lease_seconds: Seconds = 30.0
    sweep_seconds: Seconds = 5.0
    drain_timeout: Annotated[float, Field(ge=0.0, le=3_600.0)] = 20.0

    def changed(self, *, concurrency: int | None = None, drain_timeout: float | None = None) -> WorkerOptions:
        """Return these options with what is given in place.

        Raises:
            ConfigurationError: a value is out of range.
        """
        given = {"concurrency": concurrency, "drain_timeout": drain_timeout}
        changes = {name: value for name, value in given.items() if value is not None}
        return WorkerOptions.model_validate(self.model_dump() | changes, strict=True)
