"""OpenAI on the wire: what is sent is what the vendor's own client sends, and every shape of answer is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, cast

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from pydantic import BaseModel, Field, JsonValue
from tests.providers.vendors import KEY, City, Country, Node, adapter, answer, request

from llm_gateway import FinishReason, Usage
from llm_gateway._core.schema import output_type_of
from llm_gateway._facts import Fault
from llm_gateway.errors import MalformedResponse
from llm_gateway.providers import _openai_wire as wire
from llm_gateway.testing import SimulatedProvider

USER: Final = {"role": "user", "content": "Hi"}
TURNS: Final = [USER, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Which is better?"}]
BLOCKS: Final = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]


class Bounded(BaseModel):
    """What is sent otherwise than the vendor's client does it."""

    word: str = Field(min_length=2, max_length=9, description="A word.")
    score: int = Field(default=3, ge=1, le=6)


@pytest.fixture
async def sdk(sim: SimulatedProvider) -> AsyncIterator[AsyncOpenAI]:
    async with (
        DefaultAsyncHttpxClient(trust_env=False) as http,
        AsyncOpenAI(api_key=KEY, base_url=sim.openai_url, max_retries=0, http_client=http) as client,
    ):
        yield client


def last_body(sim: SimulatedProvider) -> dict[str, JsonValue]:
    return dict(sim.calls[-1].body)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"prompt": "Hi"}, {"messages": [USER]}),
        ({"system": "Be terse", "prompt": "Hi"}, {"messages": [{"role": "system", "content": "Be terse"}, USER]}),
        ({"messages": [{"role": t["role"], "parts": [{"text": t["content"]}]} for t in TURNS]}, {"messages": TURNS}),
        (
            {"messages": [{"role": "user", "parts": [{"text": "one"}, {"text": "two"}]}]},
            {"messages": [{"role": "user", "content": BLOCKS}]},
        ),
        ({"prompt": "Hi", "temperature": 0.0}, {"messages": [USER], "temperature": 0.0}),
        ({"prompt": "Hi", "temperature": 0.7}, {"messages": [USER], "temperature": 0.7}),
        ({"prompt": "Hi", "max_output_tokens": 64}, {"messages": [USER], "max_completion_tokens": 64}),
        ({"prompt": "Hi", "seed": 0}, {"messages": [USER], "seed": 0}),
        (
            {"prompt": "Hi", "model": "gpt-5", "reasoning_effort": "low", "verbosity": "high"},
            {"messages": [USER], "model": "gpt-5", "reasoning_effort": "low", "verbosity": "high"},
        ),
    ],
    ids=["plain", "system", "turns", "parts", "temperature 0", "temperature", "limit", "seed", "effort"],
)
async def test_body_is_the_one_of_the_vendors_client(
    sim: SimulatedProvider, sdk: AsyncOpenAI, ours: dict[str, object], theirs: dict[str, Any]
) -> None:
    """A request is the JSON that the vendor's client sends for the same question."""
    await cast("Any", sdk).chat.completions.create(**{"model": "gpt-4o"} | theirs)
    expected = last_body(sim)

    async with adapter("openai", sim) as provider:
        await answer(provider, request("openai", **ours))

    assert expected == last_body(sim)


@pytest.mark.parametrize("output_type", [City, Country, Node])
async def test_structured_body_is_the_one_of_the_vendors_client(
    sim: SimulatedProvider, sdk: AsyncOpenAI, output_type: type[BaseModel]
) -> None:
    """The schema of an ordinary type is sent as the vendor's client sends it, but for the switch of streaming."""
    await sdk.chat.completions.parse(
        model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], response_format=output_type
    )
    expected = last_body(sim)

    async with adapter("openai", sim) as provider:
        await answer(provider, request("openai", prompt="Hi"), output_type_of(output_type).schema)

    assert False is expected.pop("stream")
    assert expected == last_body(sim)


async def test_differences_from_the_vendors_client(sim: SimulatedProvider, sdk: AsyncOpenAI) -> None:
    """Two things differ: a default is left out, and the length of a text stands in its description."""
    await sdk.chat.completions.parse(
        model="gpt-4o", messages=[{"role": "user", "content": "Hi"}], response_format=Bounded
    )
    theirs = properties(last_body(sim))
    async with adapter("openai", sim) as provider:
        await answer(provider, request("openai", prompt="Hi"), output_type_of(Bounded).schema)

    word, score = dict(theirs["word"]), dict(theirs["score"])
    assert (2, 9, 3) == (word.pop("minLength"), word.pop("maxLength"), score.pop("default"))
    word["description"] = f"{word['description']}\n\n{{maxLength: 9, minLength: 2}}"
    assert {"word": word, "score": score} == properties(last_body(sim))


def properties(body: Mapping[str, JsonValue]) -> dict[str, dict[str, JsonValue]]:
    """Return the fields of the schema that was sent."""
    return cast(
        "dict[str, dict[str, JsonValue]]", cast("Any", body)["response_format"]["json_schema"]["schema"]["properties"]
    )


def completion(**changes: JsonValue) -> dict[str, JsonValue]:
    """Make an answer as the vendor documents it; *changes* go to its choice, message or top by their names."""
    message: dict[str, JsonValue] = {"role": "assistant", "content": "A", "refusal": None, "annotations": []}
    choice: dict[str, JsonValue] = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    body: dict[str, JsonValue] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o-2024-08-06",
        "choices": [choice],
        "usage": {
            "prompt_tokens": 2006,
            "completion_tokens": 300,
            "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 8, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 192, "accepted_prediction_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_1",
    }
    for name, value in changes.items():
        target = next((part for part in (message, choice, body) if name in part), body)
        target[name] = value
    return body


def test_reading_an_answer() -> None:
    """Every field of an ordinary answer is read, and prompt-cache tokens are counted within the input."""
    reading = wire.read(completion(), "req_1")

    usage = Usage(
        input_tokens=2006,
        output_tokens=300,
        prompt_cache_read_tokens=1920,
        prompt_cache_write_tokens=8,
        reasoning_tokens=192,
    )
    assert ("A", FinishReason.STOP, usage) == (reading.text, reading.finish_reason, reading.usage)
    assert ("gpt-4o-2024-08-06", "chatcmpl-1") == (reading.served_model, reading.response_id)
    assert ("req_1", "fp_1", 1_760_000_000) == (
        reading.provider_request_id,
        reading.system_fingerprint,
        reading.created,
    )


@pytest.mark.parametrize(
    ("changes", "text", "finish"),
    [
        ({"content": None, "refusal": "No."}, "No.", FinishReason.REFUSAL),
        ({"content": "", "refusal": "No.", "finish_reason": "content_filter"}, "No.", FinishReason.REFUSAL),
        ({"content": '{"winner": "A', "finish_reason": "length"}, '{"winner": "A', FinishReason.LENGTH),
        ({"content": None, "finish_reason": "length"}, "", FinishReason.LENGTH),
        ({"content": "", "finish_reason": "length"}, "", FinishReason.LENGTH),
        ({"content": None, "finish_reason": "content_filter"}, "", FinishReason.CONTENT_FILTER),
        ({"content": "A", "finish_reason": "content_filter"}, "A", FinishReason.CONTENT_FILTER),
        (
            {"content": None, "tool_calls": [7], "finish_reason": "tool_calls"},
            "",
            FinishReason.TOOL_CALLS,
        ),
        (
            {"content": None, "finish_reason": "function_call"},
            "",
            FinishReason.TOOL_CALLS,
        ),
        ({"finish_reason": "tired"}, "A", FinishReason.OTHER),
        ({"finish_reason": None}, "A", FinishReason.OTHER),
        ({"finish_reason": 7}, "A", FinishReason.OTHER),
        ({"tomorrow": {"new": True}, "audio": None}, "A", FinishReason.STOP),
        ({"content": " "}, " ", FinishReason.STOP),
    ],
)
def test_reading_how_it_ended(changes: dict[str, JsonValue], text: str, finish: FinishReason) -> None:
    """Text and reason are read from every way to end, and a reason that is not known is never a stop."""
    reading = wire.read(completion(**changes), None)

    assert (text, finish) == (reading.text, reading.finish_reason)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"ok": True},
        {"choices": []},
        {"choices": None},
        {"choices": [None]},
        {"choices": [{"finish_reason": "stop"}]},
        completion(content=None),
        completion(content=""),
        completion(content=["A"]),
        completion(model=7),
        completion(id="x\ny"),
        completion(usage={"prompt_tokens": -1}),
        completion(usage={"prompt_tokens": "many"}),
        completion(usage={"completion_tokens": True}),
    ],
)
def test_reading_what_is_no_answer(body: JsonValue) -> None:
    """What is not an answer, or a finished one without content, is malformed."""
    with pytest.raises(MalformedResponse) as caught:
        wire.read(body, "req_1")

    assert (Fault.MALFORMED, "req_1") == (caught.value.fault, caught.value.info.provider_request_id)


@pytest.mark.parametrize("usage", [None, {}, "much"])
def test_reading_without_usage(usage: JsonValue) -> None:
    """An answer without counts has zeros that are marked as meaning nothing."""
    reading = wire.read(completion(usage=usage), None)

    assert (Usage(), False) == (reading.usage, reading.usage_counted)


@pytest.mark.parametrize("created", [None, 0, -1, 10**30, 1e300, "yesterday", True])
def test_reading_a_creation_time_that_cannot_be_meant(created: JsonValue) -> None:
    """A creation time out of all bounds is none."""
    assert None is wire.read(completion(created=created), None).created_at
