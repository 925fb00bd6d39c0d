"""A provider without a network, for development and tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from secrets import token_hex
from typing import Final

from pydantic import JsonValue

from llm_gateway._core import strictjson
from llm_gateway._core.environments import WORKSHOP, Environment
from llm_gateway._core.freshness import FreshnessProfile
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import FinishReason, PreparedCall, ProviderAnswer, Usage
from llm_gateway._core.schema import OutputSchema
from llm_gateway._null import SystemClock
from llm_gateway.protocols import Clock, Provider
from llm_gateway.providers._example import example_text
from llm_gateway.providers._json import text_at

__all__ = ["MockProvider"]

CHARACTERS_A_TOKEN: Final = 4
PARAMETERS: Final = ("max_output_tokens", "temperature", "reasoning_effort", "verbosity", "seed")


class MockProvider(Provider):
    """Answers at once with a text that never comes twice, the smallest value of an output type, or as a function says.

    It knows nothing of essays: its answers must not be used for statistics.

    Args:
        name: Name that requests use.
        reply: Makes the answer from the body, which is JSON: ``model``, ``messages``, ``parameters``, ``example``.
        clock: Gives the times of receipts.
    """

    def __init__(
        self, name: str = "mock", *, reply: Callable[[bytes], str] | None = None, clock: Clock | None = None
    ) -> None:
        self._name = name
        self._reply = reply or _unique
        self._clock = clock or SystemClock()

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Development and testing."""
        return WORKSHOP

    @property
    def name(self) -> str:
        """Name that requests use."""
        return self._name

    @property
    def endpoint(self) -> str:
        """No host at all."""
        return "mock.invalid"

    @property
    def key_id(self) -> str:
        """No key at all."""
        return "none"

    @property
    def freshness(self) -> FreshnessProfile:
        """Every id is new."""
        return FreshnessProfile(unique_response_ids=True)

    def prepare(self, request: LLMRequest, schema: OutputSchema) -> PreparedCall:
        """Write the conversation down.

        Raises:
            UnsupportedSchema: no value of the output type was found, and there is no function to make one.
        """
        written: dict[str, JsonValue] = {
            "model": request.model,
            "messages": [{"role": message.role, "content": message.text} for message in request.conversation],
            "parameters": {name: getattr(request, name) for name in PARAMETERS},
            "output": schema.name,
        }
        if schema.json_schema is not None and self._reply is _unique:
            written["example"] = example_text(schema)
        body = json.dumps(written, ensure_ascii=False).encode()
        return PreparedCall(
            provider=self._name,
            endpoint=self.endpoint,
            key_id=self.key_id,
            model=request.model,
            path="/",
            body=body,
            prompt_sha256=hashlib.sha256(body).hexdigest(),
            adapter="mock-1",
        )

    async def send(self, call: PreparedCall, *, timeout: float) -> ProviderAnswer:
        """Answer at once."""
        now, text = self._clock.now(), self._reply(call.body)
        return ProviderAnswer(
            text=text,
            finish_reason=FinishReason.STOP,
            usage=Usage(
                input_tokens=len(call.body) // CHARACTERS_A_TOKEN, output_tokens=len(text) // CHARACTERS_A_TOKEN + 1
            ),
            served_model=call.model,
            response_id=f"mock-{token_hex(12)}",
            provider_request_id=None,
            created=now,
            sent_at=now,
            first_byte_at=now,
            received_at=now,
        )

    def serves(self, call: PreparedCall, served_model: str) -> bool:
        """Whether it is the model that was asked for."""
        return served_model == call.model

    async def aclose(self) -> None:
        """Nothing is open."""


def _unique(body: bytes) -> str:
    example = text_at(strictjson.loads(body), "example")
    return example if example is not None else f"A mock answer ({token_hex(4)}) to {len(body)} bytes."
