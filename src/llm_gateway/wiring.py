"""From settings to parts: the one module that names concrete ones. Each is imported only when it is wired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from llm_gateway._core.outcomes import TicketEvent
from llm_gateway.caches.none import NoCache
from llm_gateway.errors import ConfigurationError
from llm_gateway.parts import Parts
from llm_gateway.protocols import EventPublisher, Provider, QueueBackend, ResponseCache
from llm_gateway.settings import Settings

__all__ = ["Wired", "publish_to", "wire"]


class Wired(NamedTuple):
    """What a client takes.

    Attributes:
        providers: Every provider that has a key, and the mock where it is allowed.
        queue: The queue, or ``None``.
        parts: Everything else.
    """

    providers: tuple[Provider, ...]
    queue: QueueBackend | None
    parts: Parts


def wire(settings: Settings) -> Wired:
    """Build the parts that *settings* ask for.

    Raises:
        ConfigurationError: names every setting that is missing or not permitted in the environment.
    """
    problems = _problems(settings)
    if problems:
        message = f"The settings cannot be used in {settings.environment.value}: {'; '.join(problems)}."
        raise ConfigurationError(message, next_step=_next_step())
    from llm_gateway.breakers.gate import CircuitGate
    from llm_gateway.limits.retry_after import RetryAfterLimiter

    parts = Parts(
        environment=settings.environment,
        breaker=CircuitGate(settings.breaker),
        limiter=RetryAfterLimiter(),
        cache=_cache(settings),
        retry=settings.retry,
        worker=settings.worker,
        queue=settings.queue_options,
        http=settings.http,
        allow_plaintext_queue=settings.allow_plaintext_queue,
    )
    return Wired(_providers(settings), _queue(settings), parts)


def publish_to(handler: Callable[[TicketEvent], Awaitable[None] | None]) -> EventPublisher:
    """Make a publisher of a function in this process."""
    from llm_gateway.publishers.handler import HandlerPublisher

    return HandlerPublisher(handler)


def _problems(settings: Settings) -> list[str]:
    problems: list[str] = []
    if not settings.environment.strict:
        return problems
    if settings.openai_api_key is None and settings.anthropic_api_key is None:
        problems.append("no provider has a key (LLM_GATEWAY_OPENAI_API_KEY or LLM_GATEWAY_ANTHROPIC_API_KEY)")
    if settings.dev_cache:
        problems.append("dev_cache=True would replay answers (LLM_GATEWAY_DEV_CACHE)")
    if settings.queue == "memory":
        problems.append("a memory queue would lose its requests with the process (LLM_GATEWAY_QUEUE)")
    if settings.queue == "auto":
        problems.append("no durable queue is configured (LLM_GATEWAY_QUEUE)")
    return problems


def _next_step() -> str:
    return (
        "Set what is missing: a provider's key, and LLM_GATEWAY_QUEUE=none, which makes an outage a typed error "
        "instead of a ticket (a SqliteQueue can be put in by hand); unset what is refused. "
        "To try things out, set ENVIRONMENT=development."
    )


def _providers(settings: Settings) -> tuple[Provider, ...]:
    providers: list[Provider] = []
    if settings.openai_api_key is not None:
        from llm_gateway.providers.openai import OpenAIProvider

        providers.append(OpenAIProvider(settings.openai_api_key, base_url=settings.openai_base_url, http=settings.http))
    if settings.anthropic_api_key is not None:
        from llm_gateway.providers.anthropic import AnthropicProvider

        providers.append(
            AnthropicProvider(settings.anthropic_api_key, base_url=settings.anthropic_base_url, http=settings.http)
        )
    if not settings.environment.strict:
        from llm_gateway.providers.mock import MockProvider

        providers.append(MockProvider())
    return tuple(providers)


def _cache(settings: Settings) -> ResponseCache:
    if not settings.dev_cache:
        return NoCache()
    from llm_gateway.caches.dev import DevCache

    return DevCache(settings.dev_cache_dir)


def _queue(settings: Settings) -> QueueBackend | None:
    if settings.queue == "none":
        return None
    from llm_gateway.queues.memory import MemoryQueue

    return MemoryQueue(settings.queue_options)
