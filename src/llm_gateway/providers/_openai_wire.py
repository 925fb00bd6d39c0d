"""OpenAI Chat Completions on the wire: bodies out, answers in. Pure.

Source: the API reference of ``POST /v1/chat/completions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from llm_gateway._core.messages import Message
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import FinishReason, Usage
from llm_gateway._core.schema import OutputSchema
from llm_gateway.providers._json import list_at, object_at, text_at
from llm_gateway.providers._reading import Reading, count, label, refuse_reading, words

__all__ = ["body_of", "read"]

FINISH: Final[Mapping[str, FinishReason]] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
}


def body_of(
    request: LLMRequest, schema: OutputSchema, compiled: JsonValue, dropped: frozenset[str]
) -> dict[str, JsonValue]:
    """Write a request; *compiled* is the schema as this vendor takes it."""
    body: dict[str, JsonValue] = {
        "model": request.model,
        "messages": [_message(message) for message in request.conversation],
    }
    given: dict[str, JsonValue] = {
        "max_completion_tokens": request.max_output_tokens,
        "temperature": request.temperature,
        "reasoning_effort": request.reasoning_effort,
        "verbosity": request.verbosity,
        "seed": request.seed,
    }
    body |= {name: value for name, value in given.items() if value is not None and name not in dropped}
    if schema.json_schema is not None:
        named: JsonValue = {"name": schema.name, "strict": True, "schema": compiled}
        body["response_format"] = {"type": "json_schema", "json_schema": named}
    return body


def read(body: JsonValue, request_id: str | None) -> Reading:
    """Read an answer.

    Raises:
        MalformedResponse: it has no choice, no message, or says to be finished and is empty.
    """
    choices = list_at(body, "choices")
    message = object_at(choices[0], "message") if choices else {}
    # Null content is legal; content that is not there is not, but beside a refusal or a call of a tool.
    if not any((message.get("refusal"), message.get("tool_calls"), "content" in message)):
        refuse_reading("has no message", request_id)
    content, refusal = words(message, "content", request_id), words(message, "refusal", request_id)
    finish = _finish(choices[0], refusal)
    if not content and finish is FinishReason.STOP:
        refuse_reading("is finished but empty", request_id)
    created = object_at(body).get("created")
    return Reading(
        text=content or refusal or "",
        finish_reason=finish,
        usage=_usage(object_at(body, "usage"), request_id),
        usage_counted=bool(object_at(body, "usage")),
        served_model=label(body, "model", request_id),
        response_id=label(body, "id", request_id),
        provider_request_id=request_id,
        created=int(created) if isinstance(created, int | float) else None,
        system_fingerprint=label(body, "system_fingerprint", request_id),
    )


def _message(message: Message) -> JsonValue:
    if len(message.parts) == 1:
        return {"role": message.role, "content": message.parts[0].text}
    parts: list[JsonValue] = [{"type": "text", "text": part.text} for part in message.parts]
    return {"role": message.role, "content": parts}


def _finish(choice: JsonValue, refusal: str | None) -> FinishReason:
    if refusal:
        return FinishReason.REFUSAL
    return FINISH.get(text_at(choice, "finish_reason") or "", FinishReason.OTHER)


def _usage(usage: JsonValue, request_id: str | None) -> Usage:
    prompt, completion = object_at(usage, "prompt_tokens_details"), object_at(usage, "completion_tokens_details")
    return Usage(
        input_tokens=count(usage, "prompt_tokens", request_id),
        output_tokens=count(usage, "completion_tokens", request_id),
        prompt_cache_read_tokens=count(prompt, "cached_tokens", request_id),
        prompt_cache_write_tokens=count(prompt, "cache_write_tokens", request_id),
        reasoning_tokens=count(completion, "reasoning_tokens", request_id),
    )
