"""Damaged answers: whatever stands where, reading ends in an answer or in a typed refusal."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Final, cast

from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from llm_gateway.errors import MalformedResponse
from llm_gateway.providers import _anthropic_wire, _openai_wire

Body = dict[str, JsonValue]

OPENAI: Final[Body] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_795_521_600,
    "model": "gpt-4o-2024-08-06",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Essay A", "refusal": None, "annotations": []},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 12},
    },
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "a_field_of_tomorrow": {"x": [1]},
}
ANTHROPIC: Final[Body] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5-20251001",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "Essay "},
        {"type": "block_of_tomorrow", "text": 5},
        {"type": "text", "text": "B"},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 10,
        "cache_creation_input_tokens": 30,
        "cache_read_input_tokens": 60,
        "output_tokens": 20,
        "output_tokens_details": {"thinking_tokens": 12},
        "service_tier": "standard",
    },
}


ODD: Final[st.SearchStrategy[JsonValue]] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.just(cast("JsonValue", [])),
    st.just(cast("JsonValue", {})),
    st.just(cast("JsonValue", [[{}]])),
)


def places(value: JsonValue, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value inside."""
    inner: list[tuple[str | int, JsonValue]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [found for name, part in inner for found in [(*path, name), *places(part, (*path, name))]]


def mutated(body: Body, changes: dict[tuple[str | int, ...], JsonValue]) -> JsonValue:
    """Return *body* with values put in place of others, where those still are."""
    changed = copy.deepcopy(body)
    for path, odd in changes.items():
        holder: JsonValue = changed
        with suppress(LookupError, TypeError):
            for name in path[:-1]:
                holder = cast("Body", holder)[cast("str", name)]
            cast("Body", holder)[cast("str", path[-1])] = odd
    return changed


@given(st.dictionaries(st.sampled_from(places(OPENAI)), ODD, min_size=1, max_size=4))
def test_openai_mutations_are_answers_or_malformed(changes: dict[tuple[str | int, ...], JsonValue]) -> None:
    """Whatever stands where, there is an answer that can be digested or a typed refusal."""
    with suppress(MalformedResponse):
        assert _openai_wire.read(mutated(OPENAI, changes), None).text.encode() is not None


@given(st.dictionaries(st.sampled_from(places(ANTHROPIC)), ODD, min_size=1, max_size=4))
def test_anthropic_mutations_are_answers_or_malformed(changes: dict[tuple[str | int, ...], JsonValue]) -> None:
    """Whatever stands where, there is an answer that can be digested or a typed refusal."""
    with suppress(MalformedResponse):
        assert _anthropic_wire.read(mutated(ANTHROPIC, changes), None).text.encode() is not None
