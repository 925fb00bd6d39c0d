"""A provider without I/O, and what all doubles share."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import deque
from datetime import UTC, datetime
from typing import Final

from llm_gateway._core.environments import EVERYWHERE, WORKSHOP, Environment
from llm_gateway._core.freshness import FreshnessProfile
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import FinishReason, PreparedCall, ProviderAnswer, Usage
from llm_gateway._core.schema import OutputSchema
from llm_gateway.protocols import Part, Provider

__all__ = ["Fake", "FakeProvider"]

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


class Fake(Part):
    """A part with its environments given."""

    def __init__(self, allowed_in: frozenset[Environment] = EVERYWHERE) -> None:
        self._allowed_in = allowed_in

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """As given."""
        return self._allowed_in


class FakeProvider(Fake, Provider):
    """Answers as scripted, else with a text that never comes twice.

    Args:
        name: Name that requests use.
        endpoint: Host it pretends to ask.
        key_id: Digest of the key it pretends to use.
        freshness: Which suspicions are proof here.
        allowed_in: Environments; development and testing by default.

    Attributes:
        calls: Every call that was sent, oldest first.
        timeouts: The timeout of each.
        closed: How often it was closed.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        endpoint: str = "fake.test",
        key_id: str = "k-fake",
        freshness: FreshnessProfile | None = None,
        allowed_in: frozenset[Environment] = WORKSHOP,
    ) -> None:
        super().__init__(allowed_in)
        self._name = name
        self._endpoint = endpoint
        self._key_id = key_id
        self._freshness = freshness or FreshnessProfile()
        self._script: deque[str | ProviderAnswer | BaseException] = deque()
        self._open = asyncio.Event()
        self._open.set()
        self._arrived = asyncio.Event()
        self.calls: list[PreparedCall] = []
        self.timeouts: list[float] = []
        self.closed = 0

    @property
    def name(self) -> str:
        """As given."""
        return self._name

    @property
    def endpoint(self) -> str:
        """As given."""
        return self._endpoint

    @property
    def key_id(self) -> str:
        """As given."""
        return self._key_id

    @property
    def freshness(self) -> FreshnessProfile:
        """As given."""
        return self._freshness

    def script(self, *outcomes: str | ProviderAnswer | BaseException) -> None:
        """Let the next calls end so, in order: a text, a whole answer, or an error to raise."""
        self._script.extend(outcomes)

    def hold(self) -> None:
        """Hold every call in flight until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Let the held calls end."""
        self._open.set()

    async def wait_for_calls(self, count: int) -> None:
        """Return once *count* calls have been sent in all."""
        while len(self.calls) < count:
            await self._arrived.wait()

    def answer(self, call: PreparedCall, text: str) -> ProviderAnswer:
        """Make a whole answer that says *text*."""
        number = len(self.calls)
        return ProviderAnswer(
            text=text,
            finish_reason=FinishReason.STOP,
            usage=Usage(input_tokens=len(call.body) // 4, output_tokens=max(1, len(text) // 4)),
            served_model=call.model,
            response_id=f"fake-{number}",
            provider_request_id=f"req-{number}",
            created=EPOCH,
            sent_at=EPOCH,
            first_byte_at=EPOCH,
            received_at=EPOCH,
        )

    def prepare(self, request: LLMRequest, schema: OutputSchema) -> PreparedCall:
        """Write the conversation, the model and the schema as JSON."""
        said = [{"role": message.role, "content": message.text} for message in request.conversation]
        written = {"model": request.model, "messages": said, "schema": schema.json_schema}
        body = json.dumps(written, default=dict).encode()
        return PreparedCall(
            provider=self._name,
            endpoint=self._endpoint,
            key_id=self._key_id,
            model=request.model,
            path="/fake",
            body=body,
            prompt_sha256=hashlib.sha256(body).hexdigest(),
            adapter="fake-1",
        )

    async def send(self, call: PreparedCall, *, timeout: float) -> ProviderAnswer:
        """End as scripted.

        Raises:
            BaseException: whatever was scripted.
        """
        self.calls.append(call)
        self.timeouts.append(timeout)
        outcome = self._script.popleft() if self._script else f"answer {len(self.calls)}"
        # Made before the wait: what a call gets is decided when it arrives.
        answer = self.answer(call, outcome) if isinstance(outcome, str) else outcome
        self._arrived.set()
        self._arrived = asyncio.Event()
        await self._open.wait()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def serves(self, call: PreparedCall, served_model: str) -> bool:
        """Whether it is the model itself, or a snapshot named ``model-…``."""
        return served_model == call.model or served_model.startswith(f"{call.model}-")

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1
