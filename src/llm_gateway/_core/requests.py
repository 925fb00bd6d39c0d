"""What a caller asks: a frozen, serialisable request without secrets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator
from pydantic_core import from_json, to_json

from llm_gateway._core.checked import CheckedModel
from llm_gateway._core.messages import Message, spoken
from llm_gateway.errors import InvalidRequest

__all__ = ["DEFAULT_TTL", "MAX_TTL", "LLMRequest", "Priority", "ReasoningEffort", "Verbosity"]

DEFAULT_TTL: Final = timedelta(hours=3.5)
MAX_TTL: Final = timedelta(days=30)
INT64: Final = 2**63

ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity = Literal["low", "medium", "high"]
Label = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Carried = Annotated[str, Field(max_length=8192, pattern=r"^[\x20-\x7e]*$")]


class Priority(StrEnum):
    """How urgent a queued request is. Each class gets a share of the queue by its weight."""

    LIVE = "live"
    INTERACTIVE = "interactive"
    BATCH = "batch"

    @property
    def weight(self) -> int:
        """The share of the class: 100, 10 and 1."""
        return WEIGHTS[self]


WEIGHTS: Final[Mapping[Priority, int]] = {Priority.LIVE: 100, Priority.INTERACTIVE: 10, Priority.BATCH: 1}


class LLMRequest(CheckedModel):
    """One question to one model.

    Give either ``prompt`` (with or without ``system``) or ``messages``. A value that cannot be used raises
    `InvalidRequest` at construction, without echoing it.

    Attributes:
        provider: Name under which the provider is configured.
        model: Model to ask. No other is ever substituted.
        system: Instruction above the conversation.
        prompt: A single user message.
        messages: A whole conversation instead of ``prompt``.
        max_output_tokens: Most tokens the model may write; ``None``: the provider's default.
        temperature: 0.0 to 2.0; ``None``: not sent.
        reasoning_effort: How much the model may think, where it can.
        verbosity: How much the model should write, where it can.
        seed: Sampling seed, where the provider takes one.
        drop_unsupported: Send without a parameter that the model does not take, instead of refusing.
        served_model: The exact snapshot that must answer.
        priority: ``None``: tickets of ``complete`` are interactive, of ``submit`` batch.
        ttl: How long a queued request may wait: 3.5 hours unless given, up to 30 days. Then it expires, unanswered.
        idempotency_key: Same key, same ticket. Minted for each call when ``None``.
        group: A batch this belongs to: cancel it, filter by it.
        subjects: Pseudonyms of the people whose data this holds, to erase by.
        correlation_id: The caller's own id, echoed on every outcome and event.
        callback_topic: Where the caller wants its event, echoed on every event.
        trace_context: The caller's trace as headers (``traceparent``, ``tracestate``, ``baggage``): kept with the
            request through the queue and given with every event; up to 16, of 8192 characters each.
        sample: Which draw this is; two samples of one prompt are two observations.
        metadata: JSON echoed untouched on every outcome and event.
    """

    provider: Label
    model: Label
    system: Annotated[str | None, Field(min_length=1, repr=False)] = None
    prompt: Annotated[str | None, Field(min_length=1, repr=False)] = None
    messages: Annotated[tuple[Message, ...], Field(repr=False)] = ()
    max_output_tokens: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    temperature: Annotated[float | None, Field(ge=0.0, le=2.0)] = None
    reasoning_effort: ReasoningEffort | None = None
    verbosity: Verbosity | None = None
    seed: Annotated[int | None, Field(ge=-INT64, lt=INT64)] = None
    drop_unsupported: bool = False
    served_model: Label | None = None
    priority: Priority | None = None
    ttl: Annotated[timedelta, Field(gt=timedelta(0), le=MAX_TTL)] = DEFAULT_TTL
    idempotency_key: Label | None = None
    group: Label | None = None
    subjects: tuple[Label, ...] = ()
    correlation_id: Label | None = None
    callback_topic: Label | None = None
    trace_context: Annotated[dict[Label, Carried], Field(max_length=16, repr=False)] = Field(default_factory=dict)
    sample: Annotated[int, Field(ge=0, lt=INT64)] = 0
    metadata: Annotated[dict[str, JsonValue], Field(repr=False)] = Field(default_factory=dict)

    @field_validator("prompt", "system")
    @classmethod
    def _not_blank(cls, text: str | None) -> str | None:
        if text is not None and not text.strip():
            reason = "must not be blank"
            raise ValueError(reason)
        return text

    @field_validator("metadata")
    @classmethod
    def _storable(cls, metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
        # What cannot be read back would be lost in the queue: lone surrogates, endless digits, too deep a nesting.
        try:
            from_json(to_json({"request": {"metadata": metadata}}))
        except ValueError:
            reason = "cannot be written as JSON and read back"
        else:
            return metadata
        raise ValueError(reason)

    @model_validator(mode="after")
    def _one_conversation(self) -> Self:
        # Runs outside the wrapping validator of the base class, so it raises the typed error itself.
        if (self.prompt is None) == (not self.messages):
            reason = "give either prompt or messages, and not both"
        elif self.messages and self.system is not None:
            reason = "give the system text as a message when messages are given"
        elif self.messages and not any(message.role == "user" and message.text.strip() for message in self.messages):
            reason = "messages need at least one user message that is not blank"
        else:
            return self
        message = f"LLMRequest is not valid: {reason}."
        raise InvalidRequest(message)

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Everything that is said, system text first, however it was given."""
        if self.messages:
            return self.messages
        asked = spoken("user", self.prompt or "")
        return (spoken("system", self.system), asked) if self.system is not None else (asked,)
