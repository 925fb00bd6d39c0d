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
from llm_gateway.providers._json import count_at, list_at, object_at, text_at
from llm_gateway.providers._reading import Reading, refuse_reading

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
        MalformedResponse: there is no choice in it, or a finished one without content.
    """
    choices = list_at(body, "choices")
    if not choices or not isinstance(choices[0], dict):
        refuse_reading("has no choices", request_id)
    choice = choices[0]
    message = object_at(choice, "message")
    content, refusal = text_at(message, "content"), text_at(message, "refusal")
    finish = _finish(choice, refusal)
    if not content and finish is FinishReason.STOP:
        refuse_reading("is finished but empty", request_id)
    return Reading(
        text=content or refusal or "",
        finish_reason=finish,
        usage=_usage(object_at(body, "usage")),
        served_model=text_at(body, "model"),
        response_id=text_at(body, "id"),
        provider_request_id=request_id,
        created=count_at(body, "created") or None,
        system_fingerprint=text_at(body, "system_fingerprint"),
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


def _usage(usage: JsonValue) -> Usage:
    prompt, completion = object_at(usage, "prompt_tokens_details"), object_at(usage, "completion_tokens_details")
    return Usage(
        input_tokens=count_at(usage, "prompt_tokens"),
        output_tokens=count_at(usage, "completion_tokens"),
        prompt_cache_read_tokens=count_at(prompt, "cached_tokens"),
        prompt_cache_write_tokens=count_at(prompt, "cache_write_tokens"),
        reasoning_tokens=count_at(completion, "reasoning_tokens"),
    )
