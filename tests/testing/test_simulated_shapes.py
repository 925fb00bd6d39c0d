"""The simulated provider as the vendors' own SDKs and a plain client see it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Literal

import anthropic
import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from llm_gateway.testing.simulated import (
    BradleyTerryJudge,
    Faults,
    Question,
    SimulatedFault,
    SimulatedProvider,
)

QUESTION = "Which essay is better?"
Asker = Callable[[SimulatedProvider], Awaitable[object]]


class Verdict(BaseModel):
    """What a judge is asked for."""

    winner: Literal["Essay A", "Essay B"]
    confidence: float
    justification: str


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as simulated:
        yield simulated


def openai_client(sim: SimulatedProvider) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=sim.openai_url, api_key="sk-secret", max_retries=0)


def anthropic_client(sim: SimulatedProvider) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=sim.anthropic_url, api_key="ak-secret", max_retries=0)


async def ask_openai(sim: SimulatedProvider, prompt: str = QUESTION) -> ChatCompletion:
    async with openai_client(sim) as client:
        return await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "system", "content": "Judge."}, {"role": "user", "content": prompt}]
        )


async def ask_anthropic(sim: SimulatedProvider, prompt: str = QUESTION) -> anthropic.types.Message:
    async with anthropic_client(sim) as client:
        return await client.messages.create(
            model="claude-haiku-4-5", max_tokens=100, system="Judge.", messages=[{"role": "user", "content": prompt}]
        )


async def test_openai_reply(sim: SimulatedProvider) -> None:
    """The OpenAI SDK reads a reply that is valid for its own types: ids, snapshot, usage, creation time."""
    async with openai_client(sim) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "x" * 400}]
        )
    reply = ChatCompletion.model_validate(raw.http_response.json(), strict=True)

    assert ("gpt-4o-mini-2024-07-18", "stop") == (reply.model, reply.choices[0].finish_reason)
    assert reply.usage is not None
    assert 100 == reply.usage.prompt_tokens
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert abs(datetime.now(UTC).timestamp() - reply.created) < 60
    assert raw.headers["x-request-id"].startswith("req_")
    assert (reply.id,) == sim.response_ids


async def test_anthropic_reply(sim: SimulatedProvider) -> None:
    """The Anthropic SDK reads a reply that is valid for its own types, with its request id in the header."""
    async with anthropic_client(sim) as client:
        raw = await client.messages.with_raw_response.create(
            model="claude-haiku-4-5", max_tokens=9, messages=[{"role": "user", "content": "x" * 400}]
        )
    reply = anthropic.types.Message.model_validate(raw.http_response.json())

    assert ("claude-haiku-4-5-20251001", "end_turn", "message") == (reply.model, reply.stop_reason, reply.type)
    assert 100 == reply.usage.input_tokens
    assert raw.headers["request-id"].startswith("req_")
    assert (reply.id,) == sim.response_ids


async def test_structured_output(sim: SimulatedProvider) -> None:
    """Both SDKs parse the answer to a json_schema request into the type they were given."""
    async with openai_client(sim) as client:
        chat = await client.chat.completions.parse(
            model="gpt-4o", messages=[{"role": "user", "content": QUESTION}], response_format=Verdict
        )
    async with anthropic_client(sim) as client_a:
        message = await client_a.messages.parse(
            model="claude-haiku-4-5",
            max_tokens=100,
            messages=[{"role": "user", "content": QUESTION}],
            output_format=Verdict,
        )

    assert isinstance(chat.choices[0].message.parsed, Verdict)
    assert isinstance(message.parsed_output, Verdict)


async def test_answers_never_repeat(sim: SimulatedProvider) -> None:
    """The same question gets another answer and another id each time."""
    replies = [await ask_openai(sim) for _ in range(3)]

    assert 3 == len({reply.choices[0].message.content for reply in replies}) == len(set(sim.response_ids))


async def test_log_of_calls(sim: SimulatedProvider) -> None:
    """The log holds path, model, body and headers of each call, and no key."""
    await ask_openai(sim)
    await ask_anthropic(sim)

    first, second = sim.calls
    assert ("/v1/chat/completions", "gpt-4o-mini", 1) == (first.path, first.model, first.number)
    assert ("/v1/messages", "claude-haiku-4-5", 2) == (second.path, second.model, second.number)
    assert 100 == second.body["max_tokens"]
    assert ("<masked>", "application/json") == (first.headers["authorization"], first.headers["content-type"])
    assert "secret" not in repr([dict(call.headers) for call in sim.calls])


@pytest.mark.parametrize(
    ("fault", "ask", "refusal"),
    [
        (Faults.OVERLOADED, ask_openai, (openai.InternalServerError, 503)),
        (Faults.OVERLOADED, ask_anthropic, (anthropic.OverloadedError, 529)),
        (Faults.SERVER_ERROR, ask_openai, (openai.InternalServerError, 500)),
        (Faults.SERVER_ERROR, ask_anthropic, (anthropic.InternalServerError, 500)),
        (Faults.QUOTA, ask_openai, (openai.RateLimitError, 429)),
        (Faults.QUOTA, ask_anthropic, (anthropic.APIStatusError, 402)),
        (Faults.SPEND_LIMIT, ask_anthropic, (anthropic.RateLimitError, 429)),
        (Faults.CREDIT_TOO_LOW, ask_anthropic, (anthropic.BadRequestError, 400)),
        (Faults.ACCELERATION, ask_openai, (openai.RateLimitError, 429)),
        (Faults.BAD_KEY, ask_openai, (openai.AuthenticationError, 401)),
        (Faults.BAD_KEY, ask_anthropic, (anthropic.AuthenticationError, 401)),
        (Faults.FORBIDDEN, ask_openai, (openai.PermissionDeniedError, 403)),
        (Faults.MODEL_NOT_FOUND, ask_openai, (openai.NotFoundError, 404)),
        (Faults.MODEL_NOT_FOUND, ask_anthropic, (anthropic.NotFoundError, 404)),
        (Faults.CONTEXT_TOO_LONG, ask_openai, (openai.BadRequestError, 400)),
        (Faults.CONTEXT_TOO_LONG, ask_anthropic, (anthropic.BadRequestError, 400)),
        (Faults.status(413), ask_anthropic, (anthropic.RequestTooLargeError, 413)),
        (Faults.status(502, b"<html>", {"Content-Type": "text/html"}), ask_openai, (openai.InternalServerError, 502)),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", "")),
)
async def test_vendor_errors(
    sim: SimulatedProvider, fault: SimulatedFault, ask: Asker, refusal: tuple[type[Exception], int]
) -> None:
    """Each vendor error is what that vendor's SDK takes it for."""
    error, code = refusal
    sim.script(fault)

    with pytest.raises(error) as caught:
        await ask(sim)

    assert code == getattr(caught.value, "status_code", None)
    assert () == sim.response_ids


async def test_openai_quota_code(sim: SimulatedProvider) -> None:
    """Exhausted money at OpenAI is a 429 told apart by its code."""
    sim.script(Faults.QUOTA)

    with pytest.raises(openai.RateLimitError) as caught:
        await ask_openai(sim)

    assert "insufficient_quota" == caught.value.code


@pytest.mark.parametrize("retry_after", ["7", None, "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_rate_limit(sim: SimulatedProvider, retry_after: str | None) -> None:
    """A rate limit carries Retry-After in the form given, or none."""
    sim.script(Faults.rate_limited(retry_after))

    with pytest.raises(anthropic.RateLimitError) as caught:
        await ask_anthropic(sim)

    assert retry_after == caught.value.response.headers.get("retry-after")


async def test_error_under_200(sim: SimulatedProvider) -> None:
    """An error object can come under status 200, in either vendor's shape."""
    sim.outage(Faults.ERROR_UNDER_200)

    chat, message = await ask_openai(sim), await ask_anthropic(sim)

    assert "server_is_overloaded" == (chat.model_extra or {})["error"]["code"]
    assert "error" == str(message.type)


@pytest.mark.parametrize(
    ("fault", "finish", "stop"),
    [
        (Faults.UNKNOWN_FINISH, "tired", "tired"),
        (Faults.LENGTH, "length", "max_tokens"),
        (Faults.NO_TEXT, "length", "max_tokens"),
        (Faults.CONTENT_FILTER, "content_filter", "refusal"),
        (Faults.REFUSAL, "stop", "refusal"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_finish_reasons(sim: SimulatedProvider, fault: SimulatedFault, finish: str, stop: str) -> None:
    """Each way to stop is spelt as its vendor spells it, and counts as an answer."""
    sim.outage(fault)

    chat, message = await ask_openai(sim), await ask_anthropic(sim)

    assert (finish, stop) == (chat.choices[0].finish_reason, message.stop_reason)
    assert (chat.id, message.id) == sim.response_ids


async def test_refusal(sim: SimulatedProvider) -> None:
    """An OpenAI refusal stands in its own field, without content."""
    sim.script(Faults.REFUSAL)

    said = (await ask_openai(sim)).choices[0].message

    assert (None, "I cannot help with that.") == (said.content, said.refusal)


async def test_odd_answers(sim: SimulatedProvider) -> None:
    """Another model, no usage, an old date, unknown fields: each fault changes that and nothing else."""
    sim.script(Faults.served_model("gpt-9"), Faults.ZERO_USAGE, Faults.OLD_CREATED, Faults.UNKNOWN_FIELDS)
    other, free, old, new = [await ask_openai(sim) for _ in range(4)]

    assert "gpt-9" == other.model
    assert free.usage is not None
    assert 0 == free.usage.total_tokens
    assert 3000 < new.created - old.created < 4000
    assert {"new": True} == (new.model_extra or {})["tomorrow"]


async def test_replay(sim: SimulatedProvider) -> None:
    """A replay is the latest ordinary answer byte for byte, marked or not, each vendor's own."""
    url = f"{sim.openai_url}/chat/completions"
    ask = {"model": "gpt-4o", "messages": [{"role": "user", "content": QUESTION}]}
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "Bearer k"}) as client:
        first = await client.post(url, json=ask)
        sim.script(Faults.replay(), Faults.replay({"X-Cache": "HIT", "Age": "42"}))
        silent, marked = await client.post(url, json=ask), await client.post(url, json=ask)
    await ask_anthropic(sim)

    assert first.content == silent.content == marked.content
    assert first.headers["x-request-id"] == silent.headers["x-request-id"]
    assert ("HIT", "42", None) == (marked.headers["x-cache"], marked.headers["age"], silent.headers.get("x-cache"))
    assert (3, 2) == (sim.response_ids.count(first.json()["id"]), len(set(sim.response_ids)))


async def test_replay_with_nothing_before(sim: SimulatedProvider) -> None:
    """A cache that starts empty stores the first answer and repeats it from then on."""
    sim.outage(Faults.replay())

    first, second = await ask_openai(sim), await ask_openai(sim)

    assert first == second


async def test_marked_answers_are_fresh(sim: SimulatedProvider) -> None:
    """Headers can be added to an answer that is new."""
    sim.outage(Faults.marked({"cf-cache-status": "DYNAMIC"}))
    async with openai_client(sim) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": QUESTION}]
        )
    await ask_openai(sim)

    assert "DYNAMIC" == raw.headers["cf-cache-status"]
    assert 2 == len(set(sim.response_ids))


async def test_what_a_question_holds() -> None:
    """System text, message parts and the schema reach whoever answers, in either vendor's spelling."""
    asked: list[Question] = []

    def answer(question: Question) -> str:
        asked.append(question)
        return f"Answer {question.number}"

    async with SimulatedProvider(answer=answer) as sim, anthropic_client(sim) as client:
        await ask_openai(sim)
        await client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=100,
            system=[{"type": "text", "text": "Judge."}],
            messages=[{"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]}],
        )

    first, second = asked
    assert ("gpt-4o-mini", "Judge.", QUESTION, None) == (first.model, first.system, first.prompt, first.json_schema)
    assert ("Judge.", "One\n\nTwo", 2) == (second.system, second.prompt, second.number)


async def test_judged_over_http() -> None:
    """A judge's verdicts come over HTTP, and a prompt that it cannot judge is answered 400."""
    judge = BradleyTerryJudge({"first essay": 2.0, "second essay": -2.0}, noise=0)
    async with SimulatedProvider(answer=judge) as sim:
        text = (await ask_openai(sim, "A: second essay\nB: first essay")).choices[0].message.content or ""
        verdict = Verdict.model_validate_json(text)
        with pytest.raises(openai.BadRequestError, match="knows 1 of the texts"):
            await ask_openai(sim, "A: second essay\nB: an unknown one")

    assert ("Essay B", 5.0) == (verdict.winner, verdict.confidence)
    assert math.isclose(0.0, judge.probability("second essay", "first essay"))


async def test_repr(sim: SimulatedProvider) -> None:
    """It tells its state."""
    sim.outage(Faults.HANG)

    assert f"SimulatedProvider(port={httpx.URL(sim.openai_url).port}, calls=0, state='hang')" == repr(sim)
