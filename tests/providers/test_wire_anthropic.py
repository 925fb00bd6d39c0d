"""Anthropic on the wire: what is sent is what the vendor's own client sends, and every shape of answer is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Final, cast

import pytest
from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
from pydantic import BaseModel, Field, JsonValue, SecretStr, ValidationError
from tests.providers.vendors import KEY, City, Country, adapter, answer, body_of, request

from llm_gateway import FinishReason, Message, Usage
from llm_gateway._core.schema import output_type_of
from llm_gateway._facts import Fault
from llm_gateway.errors import InvalidRequest, MalformedResponse
from llm_gateway.providers import _anthropic_wire as wire
from llm_gateway.providers.anthropic import AnthropicDialect, AnthropicProvider
from llm_gateway.testing import SimulatedProvider

USER: Final = {"role": "user", "content": "Hi"}
TURNS: Final = [USER, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Which is better?"}]
BLOCKS: Final = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
LIMIT: Final = {"max_output_tokens": 64}


class Bounded(BaseModel):
    """What the vendor cannot enforce."""

    score: int = Field(ge=1, le=6, description="From 1 to 6.")
    words: list[str] = Field(min_length=2, max_length=9)
    some: list[str] = Field(min_length=1)
    code: str = Field(pattern="^[A-Z]+$")
    note: str | None = None


@pytest.fixture
async def sdk(sim: SimulatedProvider) -> AsyncIterator[AsyncAnthropic]:
    async with (
        DefaultAsyncHttpxClient(trust_env=False) as http,
        AsyncAnthropic(api_key=KEY, base_url=sim.anthropic_url, max_retries=0, http_client=http) as client,
    ):
        yield client


def last_body(sim: SimulatedProvider) -> dict[str, JsonValue]:
    return dict(sim.calls[-1].body)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"prompt": "Hi"}, {"messages": [USER]}),
        ({"system": "Be terse", "prompt": "Hi"}, {"messages": [USER], "system": "Be terse"}),
        ({"messages": [{"role": t["role"], "parts": [{"text": t["content"]}]} for t in TURNS]}, {"messages": TURNS}),
        (
            {"messages": [{"role": "user", "parts": [{"text": "one"}, {"text": "two"}]}]},
            {"messages": [{"role": "user", "content": BLOCKS}]},
        ),
        # The newest client has no parameter for the temperature; models that take one are still asked with it.
        ({"prompt": "Hi", "temperature": 0.0}, {"messages": [USER], "extra_body": {"temperature": 0.0}}),
        ({"prompt": "Hi", "reasoning_effort": "low"}, {"messages": [USER], "output_config": {"effort": "low"}}),
    ],
    ids=["plain", "system", "turns", "parts", "temperature 0", "effort"],
)
async def test_body_is_the_one_of_the_vendors_client(
    sim: SimulatedProvider, sdk: AsyncAnthropic, ours: dict[str, object], theirs: dict[str, Any]
) -> None:
    """A request is the JSON that the vendor's client sends for the same question."""
    await cast("Any", sdk).messages.create(**{"model": "claude-haiku-4-5", "max_tokens": 64} | theirs)
    expected = last_body(sim)

    async with adapter("anthropic", sim) as provider:
        await answer(provider, request("anthropic", **LIMIT, **ours))

    assert expected == last_body(sim)


@pytest.mark.parametrize("output_type", [City, Country, Bounded])
async def test_structured_body_is_the_one_of_the_vendors_client(
    sim: SimulatedProvider, sdk: AsyncAnthropic, output_type: type[BaseModel]
) -> None:
    """A schema differs in three things: every field is required, defaults are not told, and choices keep their type."""
    # What the simulation answers need not fit a pattern: only the question counts here.
    with suppress(ValidationError):
        await sdk.messages.parse(
            model="claude-haiku-4-5",
            max_tokens=64,
            messages=[{"role": "user", "content": "Hi"}],
            output_config={"effort": "low"},
            output_format=output_type,
        )
    theirs = last_body(sim)
    async with adapter("anthropic", sim) as provider:
        asked = request("anthropic", prompt="Hi", reasoning_effort="low", **LIMIT)
        await answer(provider, asked, output_type_of(output_type).schema)
    ours = last_body(sim)

    mended, untyped = without_defaults(schema_in(theirs)), without_types(schema_in(ours))
    assert mended == untyped
    assert {"type": "json_schema", "effort": "low"} == {
        "type": cast("Any", ours)["output_config"]["format"]["type"],
        "effort": cast("Any", ours)["output_config"]["effort"],
    }
    assert {**theirs, "output_config": None} == {**ours, "output_config": None}


def schema_in(body: dict[str, JsonValue]) -> JsonValue:
    """Return the schema that was sent."""
    return cast("JsonValue", cast("Any", body)["output_config"]["format"]["schema"])


def without_defaults(schema: JsonValue) -> JsonValue:
    """Return the schema of the vendor's client with every field required and no default told."""
    if isinstance(schema, list):
        return [without_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    mended = {name: without_defaults(part) for name, part in schema.items()}
    if isinstance(mended.get("properties"), dict):
        mended["required"] = list(cast("dict[str, JsonValue]", mended["properties"]))
    if mended.get("description") == "{default: None}":
        del mended["description"]
    return mended


def without_types(schema: JsonValue) -> JsonValue:
    """Return our schema without the types that stand beside a choice."""
    if isinstance(schema, list):
        return [without_types(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: without_types(part) for name, part in schema.items() if name != "type" or "enum" not in schema}


async def test_limit_that_the_vendor_requires(sim: SimulatedProvider) -> None:
    """A request without a limit is sent with one, since the vendor requires it."""
    async with adapter("anthropic", sim) as provider:
        assert wire.DEFAULT_MAX_TOKENS == body_of(provider, request("anthropic"))["max_tokens"]


async def test_several_system_messages_are_one(sim: SimulatedProvider) -> None:
    """System messages at the beginning are joined."""
    spoken = (Message.system("One."), Message.system("Two."), Message.user("Hi"))
    async with adapter("anthropic", sim) as provider:
        body = body_of(provider, request("anthropic", messages=spoken))

    assert ("One.\n\nTwo.", [USER]) == (body["system"], body["messages"])


@pytest.mark.parametrize(
    "spoken",
    [
        (Message.user("Hi"), Message.system("Be terse"), Message.user("Hi")),
        (Message.user("Hi"), Message.assistant("The answer is")),
    ],
    ids=["late system", "prefill"],
)
async def test_order_that_the_vendor_does_not_take(sim: SimulatedProvider, spoken: tuple[Message, ...]) -> None:
    """A late system message and an unfinished assistant turn are refused before the call."""
    async with adapter("anthropic", sim) as provider:
        with pytest.raises(InvalidRequest) as caught:
            provider.prepare(request("anthropic", messages=spoken), output_type_of(str).schema)

    assert Fault.BAD_REQUEST is caught.value.fault
    assert 0 == sim.call_count


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (AnthropicDialect(), {"x-api-key": "<masked>", "anthropic-version": "2023-06-01"}),
        (
            AnthropicDialect(version="2026-10-21", auth="bearer"),
            {"authorization": "<masked>", "anthropic-version": "2026-10-21"},
        ),
    ],
    ids=["documented", "bearer"],
)
async def test_dialects(sim: SimulatedProvider, dialect: AnthropicDialect, expected: dict[str, str]) -> None:
    """The documented version and header are sent, unless the dialect names others."""
    provider = AnthropicProvider(SecretStr(KEY), base_url=sim.anthropic_url, dialect=dialect)
    await answer(provider, request("anthropic"))
    await provider.aclose()

    names = {"x-api-key", "authorization", "anthropic-version"}
    assert expected == {name: value for name, value in sim.calls[0].headers.items() if name in names}


def message(**changes: JsonValue) -> dict[str, JsonValue]:
    """Make an answer as the vendor documents it, with *changes*."""
    body: dict[str, JsonValue] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": [{"type": "text", "text": "A"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 200,
            "cache_read_input_tokens": 3000,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 40},
            "service_tier": "standard",
        },
    }
    return body | changes


def test_reading_an_answer() -> None:
    """Every field of an ordinary answer is read, and the input includes what the prompt cache read and wrote."""
    reading = wire.read(message(), "req_1")

    usage = Usage(
        input_tokens=3210,
        output_tokens=50,
        prompt_cache_read_tokens=3000,
        prompt_cache_write_tokens=200,
        reasoning_tokens=40,
    )
    assert ("A", FinishReason.STOP, usage) == (reading.text, reading.finish_reason, reading.usage)
    assert ("claude-haiku-4-5-20251001", "msg_1") == (reading.served_model, reading.response_id)
    assert ("req_1", None) == (reading.provider_request_id, reading.created)


THINKING: Final[JsonValue] = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
REDACTED: Final[JsonValue] = {"type": "redacted_thinking", "data": "AAAA"}
TOOL: Final[JsonValue] = {"type": "tool_use", "id": "toolu_1", "name": "look"}


def said(text: str) -> JsonValue:
    return {"type": "text", "text": text, "citations": None}


@pytest.mark.parametrize(
    ("changes", "text", "finish"),
    [
        ({"content": [said("A"), said("B")]}, "AB", FinishReason.STOP),
        ({"content": [THINKING, REDACTED, said("A")]}, "A", FinishReason.STOP),
        ({"content": [said("A"), {"type": "tomorrow"}, 7]}, "A", FinishReason.STOP),
        ({"stop_reason": "stop_sequence"}, "A", FinishReason.STOP),
        ({"stop_reason": "max_tokens"}, "A", FinishReason.LENGTH),
        ({"content": [THINKING], "stop_reason": "max_tokens"}, "", FinishReason.LENGTH),
        ({"content": [], "stop_reason": "max_tokens"}, "", FinishReason.LENGTH),
        ({"stop_reason": "model_context_window_exceeded"}, "A", FinishReason.LENGTH),
        (
            {"content": [], "stop_reason": "refusal", "stop_details": {"category": "bio"}},
            "",
            FinishReason.REFUSAL,
        ),
        ({"content": [said("I"), TOOL], "stop_reason": "tool_use"}, "I", FinishReason.TOOL_CALLS),
        ({"content": [TOOL], "stop_reason": "tool_use"}, "", FinishReason.TOOL_CALLS),
        ({"stop_reason": "pause_turn"}, "A", FinishReason.OTHER),
        ({"stop_reason": "tired"}, "A", FinishReason.OTHER),
        ({"stop_reason": None}, "A", FinishReason.OTHER),
        ({"stop_reason": {}}, "A", FinishReason.OTHER),
        ({"tomorrow": {"new": True}}, "A", FinishReason.STOP),
    ],
)
def test_reading_how_it_ended(changes: dict[str, JsonValue], text: str, finish: FinishReason) -> None:
    """Blocks of text are joined, other blocks passed over, and a reason that is not known is never a stop."""
    reading = wire.read(message(**changes), None)

    assert (text, finish) == (reading.text, reading.finish_reason)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"ok": True},
        message(type="completion"),
        message(content=None),
        message(content="A"),
        message(content=[]),
        message(content=[THINKING]),
        message(content=[{"type": "text", "text": 7}]),
        message(model=["claude"]),
        message(id="x\x00y"),
        message(usage={"input_tokens": -1}),
        message(usage={"output_tokens": 1.5}),
        message(usage={"output_tokens_details": {"thinking_tokens": "many"}}),
    ],
)
def test_reading_what_is_no_answer(body: JsonValue) -> None:
    """What is not a message, or a finished one without text, is malformed."""
    with pytest.raises(MalformedResponse) as caught:
        wire.read(body, "req_1")

    assert (Fault.MALFORMED, "req_1") == (caught.value.fault, caught.value.info.provider_request_id)


@pytest.mark.parametrize("usage", [None, {}, []])
def test_reading_without_usage(usage: JsonValue) -> None:
    """An answer without counts has zeros that are marked as meaning nothing."""
    reading = wire.read(message(usage=usage), None)

    assert (Usage(), False) == (reading.usage, reading.usage_counted)
