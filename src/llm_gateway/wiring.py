"""From settings to parts: the one module that names concrete ones. Each is imported only when it is wired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from llm_gateway._core.outcomes import TicketEvent
from llm_gateway.caches.none import NoCache
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import ConfigurationError
from llm_gateway.parts import Parts
from llm_gateway.protocols import EventPublisher, PayloadCodec, Provider, QueueBackend, ResponseCache
from llm_gateway.settings import Settings

__all__ = ["Wired", "WiredQueue", "publish_to", "wire", "wire_queue"]

INSTALL_SEALED: Final = "pip install 'llm-gateway[sealed]'"


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


class WiredQueue(NamedTuple):
    """What an operator's commands take: no provider, so no key is needed.

    Attributes:
        queue: The queue, or ``None``.
        codec: What opens the payloads in it.
        file: The file it lies in, if it lies in one.
    """

    queue: QueueBackend | None
    codec: PayloadCodec
    file: Path | None


def wire(settings: Settings) -> Wired:
    """Build the parts that *settings* ask for.

    Raises:
        ConfigurationError: names every setting that is missing or not permitted in the environment.
    """
    _require_settings(settings)
    problems = _problems(settings)
    if problems:
        message = f"The settings cannot be used in {settings.environment.value}: {'; '.join(problems)}."
        raise ConfigurationError(message, next_step=_next_step())
    from llm_gateway.breakers.gate import CircuitGate
    from llm_gateway.limits.retry_after import RetryAfterLimiter

    queue = _queue(settings)
    parts = Parts(
        environment=settings.environment,
        breaker=CircuitGate(settings.breaker),
        limiter=RetryAfterLimiter(),
        cache=_cache(settings),
        codec=_codec(settings, queue),
        retry=settings.retry,
        worker=settings.worker,
        queue=settings.queue_options,
        http=settings.http,
        allow_plaintext_queue=settings.allow_plaintext_queue,
    )
    return Wired(_providers(settings), queue, parts)


def wire_queue(settings: Settings) -> WiredQueue:
    """Build only the queue and the codec that *settings* ask for, whatever else is missing.

    Raises:
        ConfigurationError: the queue's place is not given.
    """
    problems = _without_place(settings)
    if problems:
        message = f"The queue cannot be used: {'; '.join(problems)}."
        raise ConfigurationError(message, next_step="Set the variable that is named, as the service does.")
    queue = _queue(settings)
    file = settings.queue_path if settings.queue_kind == "sqlite" else None
    return WiredQueue(queue, _codec(settings, queue), file)


def publish_to(handler: Callable[[TicketEvent], Awaitable[None] | None]) -> EventPublisher:
    """Make a publisher of a function in this process."""
    from llm_gateway.publishers.handler import HandlerPublisher

    return HandlerPublisher(handler)


def _require_settings(given: object) -> None:
    if not isinstance(given, Settings):
        message = f"settings is a Settings, not {type(given).__name__}."
        raise ConfigurationError(message, next_step="Pass Settings(...), or nothing to read the environment.")


def _problems(settings: Settings) -> list[str]:
    problems = _without_place(settings)
    if settings.environment.strict:
        problems += _broken_promises(settings) + _unsealed(settings)
    # Missing alone, it is an error of its own class, raised where it is imported.
    if problems and settings.queue_keys and settings.queue_kind != "none" and not _can_seal():
        problems.append(f"the keys of the queue need cryptography ({INSTALL_SEALED})")
    return problems


def _without_place(settings: Settings) -> list[str]:
    if settings.queue == "redis" and settings.redis_url is None:
        return ["the Redis queue has no server (LLM_GATEWAY_REDIS_URL)"]
    if settings.queue == "sqlite" and settings.queue_path is None:
        return ["the SQLite queue has no file (LLM_GATEWAY_QUEUE_PATH)"]
    return []


def _broken_promises(settings: Settings) -> list[str]:
    problems: list[str] = []
    if settings.openai_api_key is None and settings.anthropic_api_key is None:
        problems.append("no provider has a key (LLM_GATEWAY_OPENAI_API_KEY or LLM_GATEWAY_ANTHROPIC_API_KEY)")
    if settings.dev_cache:
        problems.append("dev_cache=True would replay answers (LLM_GATEWAY_DEV_CACHE)")
    if settings.queue == "memory":
        problems.append("a memory queue would lose its requests with the process (LLM_GATEWAY_QUEUE)")
    elif settings.queue_kind == "memory":
        problems.append(
            "no durable queue is configured (LLM_GATEWAY_REDIS_URL, LLM_GATEWAY_QUEUE_PATH or LLM_GATEWAY_QUEUE)"
        )
    return problems


def _unsealed(settings: Settings) -> list[str]:
    if settings.queue_kind == "none" or settings.queue_keys or settings.allow_plaintext_queue:
        return []
    extra = "" if _can_seal() else f", which needs {INSTALL_SEALED}"
    consent = "LLM_GATEWAY_ALLOW_PLAINTEXT_QUEUE=true to accept that"
    return [f"the queue would store prompts in plain text without keys (LLM_GATEWAY_QUEUE_KEYS{extra}; or {consent})"]


def _can_seal() -> bool:
    return find_spec("cryptography") is not None


def _next_step() -> str:
    return (
        "Set what is missing: a provider's key, and LLM_GATEWAY_REDIS_URL for a queue that hosts share, or "
        "LLM_GATEWAY_QUEUE_PATH for one host, each with LLM_GATEWAY_QUEUE_KEYS; or LLM_GATEWAY_QUEUE=none, which makes "
        "an outage a typed error instead of a ticket. Unset what is refused. To try things out, set "
        "ENVIRONMENT=development."
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


def _codec(settings: Settings, queue: QueueBackend | None) -> PayloadCodec:
    if queue is None or not settings.queue_keys:
        return PlainCodec()
    from llm_gateway.codecs.aesgcm import AesGcmCodec

    return AesGcmCodec(settings.queue_keys, queue)


def _queue(settings: Settings) -> QueueBackend | None:
    built: dict[str, Callable[[Settings], QueueBackend]] = {"memory": _memory, "sqlite": _sqlite, "redis": _redis}
    build = built.get(settings.queue_kind)
    return None if build is None else build(settings)


def _memory(settings: Settings) -> QueueBackend:
    from llm_gateway.queues.memory import MemoryQueue

    return MemoryQueue(settings.queue_options)


def _sqlite(settings: Settings) -> QueueBackend:
    from llm_gateway.queues.sqlite import SqliteQueue

    return SqliteQueue(settings.queue_path or "", settings.queue_options)


def _redis(settings: Settings) -> QueueBackend:
    from llm_gateway.queues.redis import RedisQueue

    return RedisQueue(
        "" if settings.redis_url is None else settings.redis_url.get_secret_value(),
        settings.queue_options,
        namespace=settings.queue_namespace,
        redis=settings.redis,
        strict=settings.environment.strict,
    )
