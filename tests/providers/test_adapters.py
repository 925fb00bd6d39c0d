"""Both adapters over real sockets, against a simulated vendor."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import httpx
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from llm_gateway import LLMRequest
from llm_gateway._core.environments import EVERYWHERE
from llm_gateway._core.freshness import inspect, proven
from llm_gateway._core.responses import FinishReason, PreparedCall, ProviderAnswer
from llm_gateway._core.schema import TEXT, output_type_of
from llm_gateway._facts import Fault, Sent
from llm_gateway.errors import ConfigurationError, InvalidRequest, LLMGatewayError, UnsupportedSchema
from llm_gateway.providers.anthropic import AnthropicProvider
from llm_gateway.providers.openai import OpenAIAccount, OpenAIProvider
from llm_gateway.testing.simulated import Faults, SimulatedFault, SimulatedProvider

Provider = OpenAIProvider | AnthropicProvider
KEY: Final = "sk-canary-5f0c8a"
VENDORS: Final = ("openai", "anthropic")
MODELS: Final = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider(answer=lambda question: f"You said {question.prompt}") as simulated:
        yield simulated


@pytest.fixture(params=VENDORS)
async def provider(request: pytest.FixtureRequest, sim: SimulatedProvider) -> AsyncIterator[Provider]:
    made = make(str(request.param), sim)
    yield made
    await made.aclose()


def make(vendor: str, sim: SimulatedProvider) -> Provider:
    """Make an adapter for the simulated vendor."""
    if vendor == "openai":
        return OpenAIProvider(SecretStr(KEY), base_url=sim.openai_url)
    return AnthropicProvider(SecretStr(KEY), base_url=sim.anthropic_url)


def prepared(provider: Provider, prompt: str = "a canary prompt") -> PreparedCall:
    """Prepare a plain question."""
    return provider.prepare(LLMRequest(provider=provider.name, model=MODELS[provider.name], prompt=prompt), TEXT)


async def test_an_answer_arrives_in_full(provider: Provider, sim: SimulatedProvider) -> None:
    """Text, ids, counts and times of an ordinary answer are those of the vendor."""
    call = prepared(provider, "Hej då")
    answer = await provider.send(call, timeout=10)

    assert ("You said Hej då", FinishReason.STOP, True) == (answer.text, answer.finish_reason, answer.usage_counted)
    assert sim.response_ids == (answer.response_id,)
    assert answer.provider_request_id is not None
    assert provider.serves(call, answer.served_model or "")
    assert answer.usage.input_tokens > 0
    assert answer.sent_at <= answer.first_byte_at <= answer.received_at
    assert json.loads(call.body) == sim.calls[0].body


async def test_a_prepared_call_says_what_will_be_sent(provider: Provider) -> None:
    """Provider, host, key id, digest and adapter stand on it, and its repr shows neither prompt nor key."""
    call = prepared(provider)
    assert (provider.name, provider.endpoint, provider.key_id) == (call.provider, call.endpoint, call.key_id)
    assert hashlib.sha256(call.body).hexdigest() == call.prompt_sha256
    assert call.adapter.startswith(provider.name)
    assert "canary" not in repr(call)


FAILURES: Final[list[tuple[SimulatedFault, Fault]]] = [
    (Faults.SERVER_ERROR, Fault.SERVER_ERROR),
    (Faults.OVERLOADED, Fault.OVERLOADED),
    (Faults.rate_limited("3"), Fault.RATE_LIMITED),
    (Faults.ACCELERATION, Fault.ACCELERATION),
    (Faults.QUOTA, Fault.QUOTA),
    (Faults.SPEND_LIMIT, Fault.QUOTA),
    (Faults.CREDIT_TOO_LOW, Fault.QUOTA),
    (Faults.BAD_KEY, Fault.KEY),
    (Faults.FORBIDDEN, Fault.KEY),
    (Faults.status(403, b"<html>Blocked</html>"), Fault.FORBIDDEN),
    (Faults.MODEL_NOT_FOUND, Fault.MODEL_NOT_FOUND),
    (Faults.CONTEXT_TOO_LONG, Fault.CONTEXT_TOO_LONG),
    (Faults.redirect("https://elsewhere.example/"), Fault.MALFORMED),
    (Faults.INVALID_JSON, Fault.MALFORMED),
    (Faults.NAN, Fault.MALFORMED),
    (Faults.HTML, Fault.MALFORMED),
    (Faults.EMPTY, Fault.MALFORMED),
    (Faults.WRONG_SHAPE, Fault.MALFORMED),
    (Faults.SHORT_BODY, Fault.MALFORMED),
    (Faults.status(200, b'{"id": "\\ud800"}'), Fault.MALFORMED),
    (Faults.status(200, b"\xff\xfe"), Fault.MALFORMED),
    (Faults.status(200, b"[" + b"9" * 5000 + b"]"), Fault.MALFORMED),
    (Faults.status(502, b"<html>bad gateway</html>"), Fault.OVERLOADED),
    (Faults.status(418), Fault.UNKNOWN),
]


@pytest.mark.parametrize(("failure", "fault"), FAILURES, ids=lambda value: getattr(value, "name", ""))
async def test_each_failure_is_a_typed_error(
    provider: Provider, sim: SimulatedProvider, failure: SimulatedFault, fault: Fault
) -> None:
    """One attempt is made, and its error says whose it is and shows neither prompt nor key."""
    sim.script(failure)
    with pytest.raises(LLMGatewayError) as raised:
        await provider.send(prepared(provider), timeout=10)

    error = raised.value
    assert (fault, Sent.YES, 1) == (error.fault, error.info.sent, sim.call_count)
    assert (provider.name, MODELS[provider.name]) == (error.provider, error.model)
    assert (provider.endpoint, provider.key_id) == (error.info.endpoint, error.info.key_id)
    assert error.__cause__ is None
    assert "canary" not in f"{error} {error!r} {error.info!r}"


async def test_a_refusal_names_the_request_and_the_wait(provider: Provider, sim: SimulatedProvider) -> None:
    """The vendor's id of the request and its Retry-After are on the error."""
    sim.script(Faults.rate_limited("3"))
    with pytest.raises(LLMGatewayError) as raised:
        await provider.send(prepared(provider), timeout=10)
    assert (3.0, 429) == (raised.value.retry_after, raised.value.info.status)
    assert raised.value.info.provider_request_id is not None


@pytest.mark.parametrize(
    ("ending", "finish"),
    [
        (Faults.UNKNOWN_FINISH, FinishReason.OTHER),
        (Faults.REFUSAL, FinishReason.REFUSAL),
        (Faults.LENGTH, FinishReason.LENGTH),
        (Faults.NO_TEXT, FinishReason.LENGTH),
        (Faults.UNKNOWN_FIELDS, FinishReason.STOP),
        (Faults.WRONG_CONTENT_TYPE, FinishReason.STOP),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_each_ending_is_an_answer(
    provider: Provider, sim: SimulatedProvider, ending: SimulatedFault, finish: FinishReason
) -> None:
    """Refusals, truncations and odd but whole answers are results."""
    sim.script(ending)
    assert finish is (await provider.send(prepared(provider), timeout=10)).finish_reason


async def test_a_fresh_token_makes_the_address_unique(provider: Provider, sim: SimulatedProvider) -> None:
    """The one re-ask past a cache goes to an address that no cache has seen, with the same body."""
    call = prepared(provider)
    await provider.send(replace(call, fresh_token="t0k3n"), timeout=10)
    assert "t0k3n" in sim.calls[0].path
    assert json.loads(call.body) == sim.calls[0].body


@pytest.mark.parametrize("fault", [Faults.replay(), Faults.ZERO_USAGE], ids=lambda fault: fault.name)
async def test_what_the_vendor_never_does_proves_a_replay(
    provider: Provider, sim: SimulatedProvider, fault: SimulatedFault
) -> None:
    """A repeated id and a text without tokens are proof at both vendors, and a first answer is clean."""
    first = await provider.send(prepared(provider), timeout=10)
    sim.script(fault)
    second = await provider.send(prepared(provider), timeout=10)
    seen = {first.response_id or ""}
    found = [inspect(answer, profile=provider.freshness, seen_ids=ids) for answer, ids in ((first, ()), (second, seen))]
    assert [False, True] == [proven(signals) for signals in found]


async def test_openai_gets_the_headers_of_its_own_client(sim: SimulatedProvider) -> None:
    """Authorization, organization and project go where the vendor's client sends them."""
    account = OpenAIAccount(organization="org-1", project="proj-1")
    provider = OpenAIProvider(SecretStr(KEY), base_url=sim.openai_url, account=account)
    await provider.send(prepared(provider), timeout=10)
    await provider.aclose()
    async with (
        openai.DefaultAsyncHttpxClient(trust_env=False) as http,
        openai.AsyncOpenAI(
            api_key=KEY, base_url=sim.openai_url, organization="org-1", project="proj-1", http_client=http
        ) as client,
    ):
        await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
    names = ("authorization", "openai-organization", "openai-project", "content-type", "accept")
    ours, theirs = ({name: call.headers.get(name) for name in names} for call in sim.calls)
    assert theirs == ours
    assert ("org-1", "proj-1") == (ours["openai-organization"], ours["openai-project"])


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_provider_keeps_its_key(sim: SimulatedProvider, vendor: str) -> None:
    """The key is in no repr, the object can be neither pickled nor copied, and it may run everywhere."""
    provider = make(vendor, sim)
    assert f"<{type(provider).__name__} '{vendor}' at {provider.endpoint}>" == repr(provider)
    assert KEY not in provider.key_id
    assert EVERYWHERE == provider.allowed_in
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            copied(provider)


@pytest.mark.parametrize("key", ["", " ", "sk canary", "sk-canary\r\nX: y", "sk-canary-\u00e9"])
@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider])
def test_a_key_that_cannot_be_sent_is_refused(kind: type[Provider], key: str) -> None:
    """A key that is empty or has a character no key has is refused at construction, unseen."""
    with pytest.raises(ConfigurationError) as refused:
        kind(SecretStr(key))
    assert "canary" not in f"{refused.value} {refused.value!r}"


async def test_what_cannot_be_asked_is_refused_before_the_call(provider: Provider, sim: SimulatedProvider) -> None:
    """A dict with free keys cannot be expressed, which is said with everything known and nothing sent."""
    request = LLMRequest(provider=provider.name, model=MODELS[provider.name], prompt="Hi")
    with pytest.raises(UnsupportedSchema) as refused:
        provider.prepare(request, output_type_of(dict[str, int]).schema)
    info = refused.value.info
    assert (Fault.BAD_REQUEST, provider.name, provider.key_id) == (info.fault, info.provider, info.key_id)
    assert 0 == sim.call_count


def test_anthropic_refuses_an_order_it_does_not_take() -> None:
    """System text behind the first turn is refused rather than moved."""
    said = [("user", "Hi"), ("system", "Be terse"), ("user", "Go on")]
    messages = [{"role": role, "parts": [{"text": text}]} for role, text in said]
    request = LLMRequest.model_validate({"provider": "anthropic", "model": "claude-haiku-4-5", "messages": messages})
    with pytest.raises(InvalidRequest, match="only before the first turn"):
        AnthropicProvider(SecretStr(KEY)).prepare(request, TEXT)


async def test_what_a_model_does_not_take_is_dropped_when_asked() -> None:
    """The parameter is left out of the body and listed on the call."""
    request = LLMRequest(provider="openai", model="gpt-5.2", prompt="Hi", temperature=0.0, drop_unsupported=True)
    call = OpenAIProvider(SecretStr(KEY)).prepare(request, TEXT)
    assert ("temperature",) == call.dropped
    assert "temperature" not in json.loads(call.body)


class Canned(httpx.AsyncBaseTransport):
    """Gives one reply to everything."""

    def __init__(self, status: int, body: bytes) -> None:
        self._status = status
        self._body = body

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self._status, stream=httpx.ByteStream(self._body))


GOOD: Final = (
    b'{"id":"chatcmpl-1","created":1795521600,"model":"gpt-4o","choices":[{"message":{"role":"assistant",'
    b'"content":"caf\\u00e9 \xc3\xa9"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
EDITS: Final = st.lists(st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=4), st.integers(0, 9)), max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, status=st.sampled_from([200, 200, 200, 400, 429, 503]))
async def test_no_bytes_end_in_an_untyped_error(edits: list[tuple[int, bytes, int]], status: int) -> None:
    """Any damage to a reply gives an answer that can be digested or an error with its fault."""
    body = GOOD
    for place, piece, gone in edits:
        body = body[:place] + piece + body[place + gone :]
    provider = OpenAIProvider(SecretStr(KEY), transport=Canned(status, body))
    outcome: ProviderAnswer | LLMGatewayError
    try:
        outcome = await provider.send(prepared(provider), timeout=10)
    except LLMGatewayError as error:
        outcome = error
    digested = outcome.text.encode() if isinstance(outcome, ProviderAnswer) else outcome.fault
    assert digested is not None
