"""Anthropic Messages on the wire: bodies out, answers in. Pure.

Source: the API reference of ``POST /v1/messages``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Final

from pydantic import JsonValue

from llm_gateway._core.messages import Message
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import FinishReason, Usage
from llm_gateway._core.schema import OutputSchema
from llm_gateway.errors import ErrorInfo, InvalidRequest
from llm_gateway.providers._json import object_at, text_at
from llm_gateway.providers._reading import Reading, count, label, refuse_reading, words

__all__ = ["DEFAULT_MAX_TOKENS", "body_of", "read"]

# The vendor requires a limit; this one is taken where the caller gave none.
DEFAULT_MAX_TOKENS: Final = 4096

FINISH: Final[Mapping[str, FinishReason]] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.REFUSAL,
    "tool_use": FinishReason.TOOL_CALLS,
}


def body_of(
    request: LLMRequest, schema: OutputSchema, compiled: JsonValue, dropped: frozenset[str]
) -> dict[str, JsonValue]:
    """Write a request; *compiled* is the schema as this vendor takes it.

    Raises:
        InvalidRequest: a system message stands behind the first turn, or the last turn is the assistant's.
    """
    system, turns = _split(request)
    body: dict[str, JsonValue] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens or DEFAULT_MAX_TOKENS,
        "messages": [_message(message) for message in turns],
    }
    if system:
        body["system"] = "\n\n".join(message.text for message in system)
    if request.temperature is not None and "temperature" not in dropped:
        body["temperature"] = request.temperature
    config: dict[str, JsonValue] = {}
    if request.reasoning_effort is not None and "reasoning_effort" not in dropped:
        config["effort"] = request.reasoning_effort
    if schema.json_schema is not None:
        config["format"] = {"type": "json_schema", "schema": compiled}
    if config:
        body["output_config"] = config
    return body


def read(body: JsonValue, request_id: str | None) -> Reading:
    """Read an answer.

    Raises:
        MalformedResponse: it is not a message, or says to be finished and is empty.
    """
    content = object_at(body).get("content")
    if text_at(body, "type") != "message" or not isinstance(content, list):
        refuse_reading("is not a message", request_id)
    # Blocks of thinking and of kinds to come are passed over.
    said = [words(block, "text", request_id) or "" for block in content if text_at(block, "type") == "text"]
    text = "".join(said)
    finish = FINISH.get(text_at(body, "stop_reason") or "", FinishReason.OTHER)
    if not text and finish is FinishReason.STOP:
        refuse_reading("is finished but empty", request_id)
    return Reading(
        text=text,
        finish_reason=finish,
        usage=_usage(object_at(body, "usage"), request_id),
        usage_counted=bool(object_at(body, "usage")),
        served_model=label(body, "model", request_id),
        response_id=label(body, "id", request_id),
        provider_request_id=request_id,
    )


def _split(request: LLMRequest) -> tuple[list[Message], list[Message]]:
    conversation = request.conversation
    system = list(takewhile(lambda message: message.role == "system", conversation))
    turns = list(conversation[len(system) :])
    problem = None
    if any(message.role == "system" for message in turns):
        problem = "Anthropic takes system messages only before the first turn."
    elif turns[-1].role == "assistant":
        problem = "Anthropic takes no unfinished assistant turn at the end."
    if problem is not None:
        raise InvalidRequest(problem, info=ErrorInfo(provider=request.provider, model=request.model))
    return system, turns


def _message(message: Message) -> JsonValue:
    if len(message.parts) == 1:
        return {"role": message.role, "content": message.parts[0].text}
    parts: list[JsonValue] = [{"type": "text", "text": part.text} for part in message.parts]
    return {"role": message.role, "content": parts}


def _usage(usage: JsonValue, request_id: str | None) -> Usage:
    reads = count(usage, "cache_read_input_tokens", request_id)
    writes = count(usage, "cache_creation_input_tokens", request_id)
    return Usage(
        # The vendor counts only what its prompt cache did not have.
        input_tokens=count(usage, "input_tokens", request_id) + reads + writes,
        output_tokens=count(usage, "output_tokens", request_id),
        prompt_cache_read_tokens=reads,
        prompt_cache_write_tokens=writes,
        reasoning_tokens=count(object_at(usage, "output_tokens_details"), "thinking_tokens", request_id),
    )
