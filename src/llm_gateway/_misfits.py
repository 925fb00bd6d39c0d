"""Refusing what is no part at all, by the name of the argument, before it breaks in the middle of a call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, cast

from llm_gateway.errors import ConfigurationError
from llm_gateway.options import HttpOptions, QueueOptions, RetryOptions, WorkerOptions
from llm_gateway.parts import Parts
from llm_gateway.protocols import (
    CircuitBreaker,
    Clock,
    EventPublisher,
    Observer,
    PayloadCodec,
    Provider,
    QueueBackend,
    RateLimiter,
    ReceiptSink,
    ResponseCache,
)

__all__ = ["fitting_parts"]

SHOWN: Final = 4
PROTOCOLS: Final[Mapping[str, type]] = {
    "breaker": CircuitBreaker,
    "limiter": RateLimiter,
    "cache": ResponseCache,
    "codec": PayloadCodec,
    "publisher": EventPublisher,
    "sink": ReceiptSink,
    "observer": Observer,
    "clock": Clock,
}
OPTIONS: Final[Mapping[str, type]] = {
    "retry": RetryOptions,
    "worker": WorkerOptions,
    "queue": QueueOptions,
    "http": HttpOptions,
}


def fitting_parts(providers: object, queue: object, parts: object, on_event: object) -> Parts:
    """Return *parts*, or the default ones, if everything a client is given is what its argument takes.

    Raises:
        ConfigurationError: names every argument that is something else, and what it must be.
    """
    problems = [*_of_providers(providers), *_mismatch("queue", queue, QueueBackend, optional=True), *_of_parts(parts)]
    if on_event is not None and not callable(on_event):
        problems.append(f"on_event is a function of one event, and {type(on_event).__name__} cannot be called")
    if problems:
        message = f"A client cannot be made of this: {'; '.join(problems)}."
        raise ConfigurationError(message, next_step="Pass what is named; llm_gateway.protocols has every part.")
    return parts if isinstance(parts, Parts) else Parts()


def _of_providers(given: object) -> Iterator[str]:
    kind = type(given).__name__
    if not isinstance(given, Collection) or isinstance(given, (str, bytes, Mapping)):
        yield f"providers is a list of Provider, not {kind}"
        return
    for place, provider in enumerate(cast("Collection[object]", given)):
        yield from _mismatch(f"providers[{place}]", provider, Provider)


def _of_parts(given: object) -> Iterator[str]:
    if given is None:
        return
    if not isinstance(given, Parts):
        yield f"parts is a Parts, not {type(given).__name__}"
        return
    for name, protocol in PROTOCOLS.items():
        yield from _mismatch(f"parts.{name}", getattr(given, name), protocol, optional=name == "publisher")
    for name, options in OPTIONS.items():
        if not isinstance(getattr(given, name), options):
            yield f"parts.{name} is a {options.__name__}, not {type(getattr(given, name)).__name__}"
    if not callable(cast("Callable[[], float] | object", given.random)):
        yield f"parts.random is a function without arguments, not {type(given.random).__name__}"


def _mismatch(name: str, given: object, protocol: type, *, optional: bool = False) -> Iterator[str]:
    if given is None and optional:
        return
    if isinstance(given, type):
        yield f"{name} is a {protocol.__name__}, and {given.__name__} is a class: make one of it"
        return
    missing = [member for member in dir(protocol) if not member.startswith("_") and not _has(given, member)]
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        lacking = f"{', '.join(missing[:SHOWN])}{more}"
        yield f"{name} is a {protocol.__name__}, and {type(given).__name__} has no {lacking}"


def _has(given: object, member: str) -> bool:
    try:
        return hasattr(given, member)
    except Exception:
        # A property of foreign code that raises is of no more use than one that is missing.
        return False
