"""The vendors' own shapes: requests read, replies and errors written. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from enum import StrEnum
from typing import Final, cast

from pydantic import JsonValue

from llm_gateway.testing._sim_http import HttpReply

__all__ = [
    "SERVED",
    "Answer",
    "Question",
    "Refused",
    "Vendor",
    "VendorError",
    "answer_reply",
    "error_reply",
    "read_question",
    "tokens_in",
]

Json = dict[str, JsonValue]
CHARACTERS_PER_TOKEN: Final = 4
SERVED: Final[Mapping[str, str]] = {
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-opus-4-5": "claude-opus-4-5-20251101",
}


class Vendor(StrEnum):
    """Whose protocol a call speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a simulated model is asked.

    Attributes:
        vendor: Whose protocol was spoken.
        model: Model asked for.
        system: System text, joined.
        prompt: The text of all other messages, joined by blank lines.
        json_schema: Schema that the answer must obey; ``None``: plain text.
        number: Which call this is, from 1.
    """

    vendor: Vendor
    model: str
    system: str = field(default="", repr=False)
    prompt: str = field(default="", repr=False)
    json_schema: Mapping[str, JsonValue] | None = field(default=None, repr=False)
    number: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a simulated model says.

    Attributes:
        text: What it wrote.
        id: Id of the answer.
        model: The model that says it answered.
        created: When it says it answered (OpenAI only).
        prompt_tokens: Input as counted.
        completion_tokens: Output as counted.
        finish: Why it stopped, in the vendor's own word; ``""``: the ordinary one.
        refusal: Text of a refusal.
        extra: Fields put at the top of the body, whatever was there.
    """

    text: str = field(repr=False)
    id: str
    model: str
    created: datetime
    prompt_tokens: int
    completion_tokens: int
    finish: str = ""
    refusal: str | None = field(default=None, repr=False)
    extra: Mapping[str, JsonValue] = field(default_factory=dict[str, JsonValue])


@dataclass(frozen=True, slots=True)
class VendorError:
    """An error as one vendor reports it."""

    status: int
    type: str
    message: str
    code: str | None = None


class Refused(Exception):
    """The request itself is wrong."""

    def __init__(self, error: VendorError) -> None:
        super().__init__(error.message)
        self.error = error


def tokens_in(text: str) -> int:
    """Estimate tokens: four characters each, at least one."""
    return max(1, len(text) // CHARACTERS_PER_TOKEN)


def read_question(vendor: Vendor, body: Json, number: int) -> Question:
    """Read a request body.

    Raises:
        Refused: the vendor would answer 400.
    """
    _require(isinstance(body.get("model"), str), "you must provide a model parameter")
    messages = body.get("messages")
    _require(isinstance(messages, list) and bool(messages), "messages: at least one message is required")
    _require(not body.get("stream"), "stream: the simulated provider does not stream")
    _require(vendor is Vendor.OPENAI or isinstance(body.get("max_tokens"), int), "max_tokens: Field required")
    said = [cast("Json", message) for message in cast("list[JsonValue]", messages)]
    spoken = [message for message in said if message.get("role") not in {"system", "developer"}]
    system = [text for message in said if message not in spoken for text in _texts(message.get("content"))]
    return Question(
        vendor=vendor,
        model=str(body["model"]),
        system="\n\n".join([*_texts(body.get("system")), *system]),
        prompt="\n\n".join(text for message in spoken for text in _texts(message.get("content"))),
        json_schema=_schema_of(vendor, body),
        number=number,
    )


def _require(condition: object, message: str) -> None:
    if not condition:
        raise Refused(VendorError(400, "invalid_request_error", message))


def _texts(content: JsonValue) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield str(part["text"])


def _schema_of(vendor: Vendor, body: Json) -> Json | None:
    if vendor is Vendor.OPENAI:
        wanted = _object(_object(body.get("response_format")).get("json_schema"))
    else:
        wanted = _object(_object(body.get("output_config")).get("format"))
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else None


def _object(value: JsonValue) -> Json:
    return value if isinstance(value, dict) else {}


def answer_reply(vendor: Vendor, answer: Answer, request_id: str, now: datetime) -> HttpReply:
    """Write a successful reply in the vendor's shape."""
    body = BODIES[vendor](answer)
    body.update(answer.extra)
    return _json_reply(vendor, 200, body, (request_id, now))


def error_reply(vendor: Vendor, error: VendorError, request_id: str, now: datetime) -> HttpReply:
    """Write an error reply in the vendor's shape."""
    told: Json = {"message": error.message, "type": error.type}
    if vendor is Vendor.OPENAI:
        body: Json = {"error": {**told, "param": None, "code": error.code}}
    else:
        details: Json = {} if error.code is None else {"details": {"error_code": error.code}}
        body = {"type": "error", "error": {**told, **details}, "request_id": request_id}
    return _json_reply(vendor, error.status, body, (request_id, now))


def _json_reply(vendor: Vendor, status: int, body: Json, sent: tuple[str, datetime]) -> HttpReply:
    request_id, now = sent
    name = "x-request-id" if vendor is Vendor.OPENAI else "request-id"
    headers = (
        ("Date", format_datetime(now, usegmt=True)),
        ("Content-Type", "application/json"),
        (name, request_id),
        *LIMITS[vendor],
    )
    return HttpReply(status, json.dumps(body, ensure_ascii=False).encode(), headers)


def _openai_body(answer: Answer) -> Json:
    content = None if answer.refusal is not None else answer.text
    message: Json = {"role": "assistant", "content": content, "refusal": answer.refusal, "annotations": []}
    choice: Json = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish or "stop"}
    spent: Json = {"reasoning_tokens": 0, "audio_tokens": 0}
    spent |= {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    return {
        "id": answer.id,
        "object": "chat.completion",
        "created": int(answer.created.timestamp()),
        "model": answer.model,
        "choices": [choice],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": spent,
        },
        "service_tier": "default",
        "system_fingerprint": "fp_5177726f4c",
    }


def _anthropic_body(answer: Answer) -> Json:
    content: list[JsonValue] = [{"type": "text", "text": answer.text}] if answer.text else []
    return {
        "id": answer.id,
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": answer.finish or "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": answer.completion_tokens,
            "service_tier": "standard",
        },
    }


BODIES: Final[Mapping[Vendor, Callable[[Answer], Json]]] = {
    Vendor.OPENAI: _openai_body,
    Vendor.ANTHROPIC: _anthropic_body,
}
LIMITS: Final[Mapping[Vendor, tuple[tuple[str, str], ...]]] = {
    Vendor.OPENAI: (
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
    ),
    Vendor.ANTHROPIC: (
        ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
    ),
}
