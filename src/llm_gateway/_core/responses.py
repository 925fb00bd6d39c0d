"""What comes back: the response, its receipt, and what a provider adapter hands to the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Generic, Literal, TypeVar

from llm_gateway._core.pricing import cost_of
from llm_gateway._facts import Attempt

__all__ = [
    "CacheSignal",
    "FinishReason",
    "LLMResponse",
    "PreparedCall",
    "ProviderAnswer",
    "Receipt",
    "SignalWeight",
    "Usage",
]

T = TypeVar("T")


class FinishReason(StrEnum):
    """Why the model stopped. A reason this library does not know is ``OTHER``, never ``STOP``."""

    STOP = "stop"
    LENGTH = "length"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    TOOL_CALLS = "tool_calls"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the provider counted them.

    Attributes:
        input_tokens: All input, prompt-cache reads and writes included.
        output_tokens: All output, reasoning included.
        prompt_cache_read_tokens: Input whose prefix the provider had processed before. The answer is fresh.
        prompt_cache_write_tokens: Input whose prefix the provider kept for later.
        reasoning_tokens: Output spent on thinking.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    prompt_cache_read_tokens: int = 0
    prompt_cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class SignalWeight(StrEnum):
    """What a cache signal is worth: proof refuses in production, suspicion is recorded."""

    PROOF = "proof"
    SUSPICION = "suspicion"
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class CacheSignal:
    """A sign that an intermediary may have answered from its cache."""

    name: str
    value: str
    weight: SignalWeight


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where an answer came from. Holds no prompt and no answer.

    Attributes:
        source: ``live``, or ``dev_cache`` for a development replay, which keeps its original ids.
        provider: The provider's name.
        endpoint: Host that answered.
        key_id: Digest that tells the API keys apart.
        requested_model: The model asked for.
        served_model: The model that says it answered.
        response_id: The vendor's id of the answer.
        provider_request_id: The vendor's id of the HTTP request.
        created: When the vendor says it made the answer.
        system_fingerprint: The vendor's fingerprint of its serving set-up.
        temperature: As sent.
        seed: As sent.
        sample: Which draw this is.
        finish_reason: Why the model stopped.
        usage: Tokens as counted by the provider.
        prompt_sha256: Digest of the exact wire prompt.
        text_sha256: Digest of the text that came back.
        sent_at: UTC time at which the request was sent.
        first_byte_at: UTC time of the response's head.
        received_at: UTC time at which the answer was complete.
        attempts: Every try, the successful one last.
        cache_signals: What was seen of intermediary caches.
        dropped: Parameters left out because the model does not take them.
        queue_wait: Seconds spent in the queue; ``None`` for a live call.
        ticket_id: The ticket, when there was one.
    """

    provider: str
    endpoint: str
    key_id: str
    requested_model: str
    served_model: str | None
    finish_reason: FinishReason
    usage: Usage
    prompt_sha256: str
    text_sha256: str
    sent_at: datetime
    first_byte_at: datetime
    received_at: datetime
    source: Literal["live", "dev_cache"] = "live"
    response_id: str | None = None
    provider_request_id: str | None = None
    created: datetime | None = None
    system_fingerprint: str | None = None
    temperature: float | None = None
    seed: int | None = None
    sample: int = 0
    attempts: tuple[Attempt, ...] = ()
    cache_signals: tuple[CacheSignal, ...] = ()
    dropped: tuple[str, ...] = ()
    queue_wait: float | None = None
    ticket_id: str | None = None

    @property
    def cost(self) -> Decimal | None:
        """Price in US dollars by the public price list, ``None`` for a model that it does not know."""
        return cost_of(self.provider, self.served_model or self.requested_model, self.usage, self.received_at)


@dataclass(frozen=True, slots=True)
class LLMResponse(Generic[T]):
    """A fresh answer.

    Attributes:
        output: The answer as the output type; ``None`` after a refusal or a truncation.
        text: The answer as written. Left out of ``repr``.
        receipt: Where it came from.
    """

    output: T | None = field(repr=False)
    text: str = field(repr=False)
    receipt: Receipt

    @property
    def finish_reason(self) -> FinishReason:
        """Why the model stopped."""
        return self.receipt.finish_reason

    @property
    def usage(self) -> Usage:
        """Tokens as the provider counted them."""
        return self.receipt.usage

    @property
    def cost(self) -> Decimal | None:
        """Price in US dollars; ``None`` for a model without a public price."""
        return self.receipt.cost


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedCall:
    """A request turned into bytes for one vendor: everything that is decided before the network.

    Attributes:
        provider: The provider's name.
        endpoint: Host (and port) that will be asked.
        key_id: Digest of the key that will be used.
        model: Model asked for.
        path: Path below the provider's base URL.
        body: The JSON that will be sent.
        prompt_sha256: Digest of ``body``.
        adapter: Name and version of the adapter, part of a development cache key.
        dropped: Parameters left out because the model does not take them.
        fresh_token: Set on the one re-ask past a cache that was caught; makes the URL unique.
    """

    provider: str
    endpoint: str
    key_id: str
    model: str
    path: str
    body: bytes = field(repr=False)
    prompt_sha256: str
    adapter: str
    dropped: tuple[str, ...] = ()
    fresh_token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswer:
    """A vendor's answer, read but not yet judged.

    Attributes:
        text: What the model wrote.
        finish_reason: Why it stopped.
        usage: Tokens as counted by the provider.
        served_model: The model that says it answered.
        response_id: The vendor's id of the answer.
        provider_request_id: The vendor's id of the HTTP request.
        created: When the vendor says it made the answer.
        system_fingerprint: The vendor's fingerprint of its set-up.
        headers: Response headers, names in lower case.
        sent_at: UTC time at which the request was sent.
        first_byte_at: UTC time of the response's head.
        received_at: UTC time at which the body was complete.
        usage_counted: Whether the answer had counts at all; without them ``usage`` is zeros that mean nothing.
    """

    text: str = field(repr=False)
    finish_reason: FinishReason
    usage: Usage
    served_model: str | None
    response_id: str | None
    provider_request_id: str | None
    created: datetime | None = None
    system_fingerprint: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    usage_counted: bool = True
    sent_at: datetime
    first_byte_at: datetime
    received_at: datetime
