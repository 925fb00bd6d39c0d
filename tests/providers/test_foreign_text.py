"""What somebody else's text in a reply cannot do: pass for an id, latch an account, break what stores it."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest
from pydantic import JsonValue, SecretStr

from llm_gateway import LLMRequest
from llm_gateway._core.responses import ProviderAnswer
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault
from llm_gateway.errors import LLMGatewayError
from llm_gateway.providers._status import Refusal, fault_of
from llm_gateway.providers.openai import OpenAIProvider

ANSWER = (
    b'{"id":"chatcmpl-1","created":1795521600,"model":"gpt-4o","choices":[{"message":{"role":"assistant",'
    b'"content":"%b"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)


class Canned(httpx.AsyncBaseTransport):
    """Gives one reply to everything."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self._status = status
        self._body = body
        self._headers = headers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(self._status, headers=self._headers, stream=httpx.ByteStream(self._body))


async def asked(
    status: int, body: bytes = ANSWER, headers: dict[str, str] | None = None
) -> ProviderAnswer | LLMGatewayError:
    """Ask a vendor that always replies so."""
    provider = OpenAIProvider(SecretStr("sk-1"), transport=Canned(status, body, headers or {}))
    call = provider.prepare(LLMRequest(provider="openai", model="gpt-4o", prompt="Hi"), TEXT)
    try:
        return await provider.send(call, timeout=10)
    except LLMGatewayError as error:
        return error
    finally:
        await provider.aclose()


@pytest.mark.parametrize(
    ("header", "expected"),
    [("req_1", "req_1"), ("req_1 and a sentence", None), ("x" * 200, "x" * 200), ("x" * 201, None), ("", None)],
    ids=["id", "sentence", "long", "too long", "empty"],
)
async def test_request_id_is_an_id_or_nothing(header: str, expected: str | None) -> None:
    """A request id stands in messages and logs, so a header that is more than one word is not taken, nor cut."""
    headers = {"x-request-id": header}
    answer, refusal = await asked(200, headers=headers), await asked(503, b"", headers)
    assert isinstance(answer, ProviderAnswer)
    assert isinstance(refusal, LLMGatewayError)
    assert (expected, expected) == (answer.provider_request_id, refusal.info.provider_request_id)


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uD83D", b"\\uDC9A"], ids=["lower", "upper", "second"])
async def test_half_a_character_is_no_answer(half: bytes) -> None:
    """Half of a surrogate pair, in either case of its letters, cannot be stored, so the answer is malformed."""
    outcome = await asked(200, ANSWER % half)
    assert isinstance(outcome, LLMGatewayError)
    assert Fault.MALFORMED is outcome.fault


@pytest.mark.parametrize(
    "phrase",
    [
        "Your credit balance is too low to access the API.",
        "You have reached your specified API usage limits.",
        "You have exceeded your monthly spend limit.",
    ],
)
@pytest.mark.parametrize("status", [400, 403, 429])
def test_a_quoted_phrase_latches_no_account(status: int, phrase: str) -> None:
    """Words about money count where a message begins with them; further on they may be a prompt's."""

    def said(message: str) -> Fault:
        body: JsonValue = {"error": {"type": "invalid_request_error", "message": message}}
        at = datetime(2026, 11, 24, tzinfo=UTC)
        return fault_of(Refusal(status=status, headers={}, body=body, text="", request_id=None, at=at))

    assert (Fault.QUOTA, False) == (said(phrase), said(f"Bad value: '{phrase}'") is Fault.QUOTA)
