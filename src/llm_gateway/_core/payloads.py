"""How requests, results and echoes are written for the queue. Versioned, so that releases can share a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, TypeVar

from pydantic import JsonValue, TypeAdapter, ValidationError

from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import Receipt
from llm_gateway._core.schema import OutputSchema
from llm_gateway.errors import InvalidRequest, LLMGatewayError, QueueError

__all__ = ["Echo", "StoredJob", "StoredResult", "read_echo", "read_job", "read_result", "write_echo"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredJob:
    """A request as it lies in the queue, with the schema its answer must fit."""

    request: LLMRequest
    schema: OutputSchema
    version: Literal[1] = 1

    def write(self) -> bytes:
        """Write it as JSON."""
        return _jobs().dump_json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResult:
    """An answer as it lies in the queue until it is fetched or its retention ends."""

    text: str = field(repr=False)
    receipt: Receipt
    version: Literal[1] = 1

    def write(self) -> bytes:
        """Write it as JSON."""
        return _results().dump_json(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What a caller gets back untouched on every outcome and event."""

    correlation_id: str | None = None
    callback_topic: str | None = None
    trace_context: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    metadata: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue], repr=False)


def read_job(data: bytes) -> StoredJob:
    """Read what `StoredJob.write` wrote.

    Raises:
        QueueError: it is damaged, or of a version this release does not know.
    """
    return _read(_jobs(), data)


def read_result(data: bytes) -> StoredResult:
    """Read what `StoredResult.write` wrote.

    Raises:
        QueueError: it is damaged, or of a version this release does not know.
    """
    return _read(_results(), data)


def write_echo(request: LLMRequest) -> bytes:
    """Write what a request wants echoed.

    Raises:
        InvalidRequest: its metadata were changed behind its back and cannot be written.
    """
    echo = {
        "correlation_id": request.correlation_id,
        "callback_topic": request.callback_topic,
        "trace_context": request.trace_context,
        "metadata": request.metadata,
    }
    try:
        # Refused here is what could be written and not be read back: a lone surrogate, a number that is none.
        written = json.dumps(
            {name: value for name, value in echo.items() if value}, ensure_ascii=False, allow_nan=False
        )
        return written.encode()
    except (TypeError, ValueError, RecursionError):
        message = "The metadata holds something that cannot be written as JSON."
    raise InvalidRequest(message, next_step="Build the request anew; what is changed in place is not checked.")


def read_echo(data: bytes) -> Echo:
    """Read what `write_echo` wrote.

    Raises:
        QueueError: it is damaged.
    """
    return _read(_echoes(), data or b"{}")


def _read(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validate_json(data)
    except (ValidationError, LLMGatewayError):
        # The cause could quote the prompt.
        message = "A stored payload cannot be read: it is damaged or of a newer version."
    raise QueueError(message, next_step="Read it with the release that wrote it, or erase the ticket.")


@cache
def _jobs() -> TypeAdapter[StoredJob]:
    return TypeAdapter(StoredJob)


@cache
def _results() -> TypeAdapter[StoredResult]:
    return TypeAdapter(StoredResult)


@cache
def _echoes() -> TypeAdapter[Echo]:
    return TypeAdapter(Echo)
