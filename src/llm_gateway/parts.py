"""The replaceable parts of a client, and what each environment forbids."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llm_gateway._core.environments import Environment
from llm_gateway._null import NullBreaker, NullLimiter, NullObserver, NullSink, SystemClock
from llm_gateway.caches.none import NoCache
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import ConfigurationError
from llm_gateway.options import HttpOptions, QueueOptions, RetryOptions, WorkerOptions
from llm_gateway.protocols import (
    CircuitBreaker,
    Clock,
    EventPublisher,
    Observer,
    Part,
    PayloadCodec,
    Provider,
    QueueBackend,
    RateLimiter,
    ReceiptSink,
    ResponseCache,
)

__all__ = ["Parts", "refuse_forbidden", "require_fitting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything a client is built from beside its providers and its queue.

    Attributes:
        environment: Where it runs; ``None`` reads ``LLM_GATEWAY_ENVIRONMENT``, then ``ENVIRONMENT``, else production.
        breaker: Opens on outages; the default never does. `Settings` wires `CircuitGate`.
        limiter: Holds calls back; the default never does. `Settings` wires `RetryAfterLimiter`.
        cache: Development replays; the default holds nothing.
        codec: Seals what the queue stores; the default does not.
        publisher: Where status events go; ``None``: nowhere, and no outbox is written.
        sink: Where receipts go; the default drops them.
        observer: Metrics and traces; the default drops them.
        clock: Time as the policies see it.
        random: Draws from 0 to 1 for jitter.
        retry: When a live call is tried again.
        worker: How a worker drains the queue.
        queue: Bounds of the queue that the engine itself keeps.
        http: Its attempt timeout bounds each try.
        allow_plaintext_queue: Take an unsealed codec with a queue in staging and production.
    """

    environment: Environment | None = None
    breaker: CircuitBreaker = field(default_factory=NullBreaker)
    limiter: RateLimiter = field(default_factory=NullLimiter)
    cache: ResponseCache = field(default_factory=NoCache)
    codec: PayloadCodec = field(default_factory=PlainCodec)
    publisher: EventPublisher | None = None
    sink: ReceiptSink = field(default_factory=NullSink)
    observer: Observer = field(default_factory=NullObserver)
    clock: Clock = field(default_factory=SystemClock)
    random: Callable[[], float] = random.random
    retry: RetryOptions = field(default_factory=RetryOptions)
    worker: WorkerOptions = field(default_factory=WorkerOptions)
    queue: QueueOptions = field(default_factory=QueueOptions)
    http: HttpOptions = field(default_factory=HttpOptions)
    allow_plaintext_queue: bool = False

    @property
    def replays(self) -> bool:
        """Whether the cache can hold anything."""
        return not isinstance(self.cache, NoCache)


def refuse_forbidden(
    environment: Environment, providers: Iterable[Provider], queue: QueueBackend | None, parts: Parts
) -> None:
    """Refuse what the environment does not permit, whichever way it was put together.

    Raises:
        ConfigurationError: names every part that is refused, and what to use instead.
    """
    problems = [
        f"{type(part).__name__} may not run in {environment.value}"
        for part in _all_parts(providers, queue, parts)
        if environment.value not in {getattr(allowed, "value", allowed) for allowed in part.allowed_in}
    ]
    if environment.strict:
        problems += _broken_promises(environment, queue, parts)
    if not problems:
        return
    message = f"This client cannot keep its promises in {environment.value}: {'; '.join(problems)}."
    step = "Take out or replace what is named; a development environment takes everything."
    raise ConfigurationError(message, next_step=step)


def require_fitting(parts: Parts) -> None:
    """Refuse options of parts that cannot work together.

    Raises:
        ConfigurationError: a probe would be given up while its call may still run, and a second one go out.
    """
    lease, attempt = parts.breaker.probe_lease, parts.http.attempt_timeout
    if lease <= attempt:
        message = f"A probe lasts up to {attempt:g} s (http.attempt_timeout) but is given up after {lease:g} s."
        raise ConfigurationError(message, next_step="Make breaker.probe_lease longer than http.attempt_timeout.")


def _broken_promises(environment: Environment, queue: QueueBackend | None, parts: Parts) -> list[str]:
    problems: list[str] = []
    if parts.replays:
        problems.append(f"a response cache ({type(parts.cache).__name__}) would replay answers in {environment.value}")
    if queue is not None and not queue.durable:
        problems.append(f"{type(queue).__name__} would lose its requests with the process")
    if queue is not None and not parts.codec.sealed and not parts.allow_plaintext_queue:
        problems.append(
            f"{type(parts.codec).__name__} would store prompts in plain text; give a codec that seals "
            "(LLM_GATEWAY_QUEUE_KEYS) or accept it (LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE=true, in code "
            "allow_plaintext_queue=True)"
        )
    return problems


def _all_parts(providers: Iterable[Provider], queue: QueueBackend | None, parts: Parts) -> Iterable[Part]:
    yield from providers
    yield from (parts.breaker, parts.limiter, parts.cache, parts.codec, parts.sink, parts.observer)
    if queue is not None:
        yield queue
    if parts.publisher is not None:
        yield parts.publisher
