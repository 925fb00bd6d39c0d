"""Every error this library raises, in one tree.

::

    LLMGatewayError
    ├── ConfigurationError
    ├── MissingDependencyError
    ├── InvalidRequest
    │   ├── UnsupportedParameter
    │   ├── UnsupportedSchema
    │   ├── ContextTooLong
    │   └── PayloadTooLarge
    ├── ProviderError
    │   ├── AuthenticationFailed
    │   ├── QuotaExhausted
    │   ├── RateLimited
    │   ├── ProviderUnavailable
    │   ├── ModelNotFound
    │   ├── ModelMismatch
    │   ├── MalformedResponse
    │   ├── ResponseTooLarge
    │   └── StreamInterrupted
    ├── InvalidOutput
    ├── StaleResponse
    ├── DeadlineExceeded
    ├── QueueError
    │   ├── QueueFull
    │   ├── QueueUnavailable
    │   ├── DurabilityUnknown
    │   ├── IdempotencyConflict
    │   └── UnknownKey
    ├── TicketError
    │   ├── TicketNotFound
    │   ├── TicketExpired
    │   ├── TicketFailed
    │   └── TicketCancelled
    └── ClientClosed

Each carries data (`ErrorInfo`), says whether asking again later can help (`retryable`, `retry_after`)
and ends its message with the next step. None shows a prompt, an answer or a key: text of a provider
that may quote one is held as `Masked` in ``error.info.detail``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Final, Self

from llm_gateway._facts import Attempt, ErrorInfo, Fault

__all__ = [
    "AuthenticationFailed",
    "ClientClosed",
    "ConfigurationError",
    "ContextTooLong",
    "DeadlineExceeded",
    "DurabilityUnknown",
    "ErrorInfo",
    "IdempotencyConflict",
    "InvalidOutput",
    "InvalidRequest",
    "LLMGatewayError",
    "MalformedResponse",
    "MissingDependencyError",
    "ModelMismatch",
    "ModelNotFound",
    "PayloadTooLarge",
    "ProviderError",
    "ProviderUnavailable",
    "QueueError",
    "QueueFull",
    "QueueUnavailable",
    "QuotaExhausted",
    "RateLimited",
    "ResponseTooLarge",
    "StaleResponse",
    "StreamInterrupted",
    "TicketCancelled",
    "TicketError",
    "TicketExpired",
    "TicketFailed",
    "TicketNotFound",
    "UnknownKey",
    "UnsupportedParameter",
    "UnsupportedSchema",
]


NO_INFO: Final = ErrorInfo()
SHOWN: Final = ("provider", "endpoint", "model", "key_id", "status", "code", "provider_request_id", "ticket_id")


class LLMGatewayError(Exception):
    """Root of the tree.

    Args:
        message: What happened, in one sentence without caller's content.
        retry_after: Seconds after which asking again can help; ``None`` when unknown.
        next_step: What to do now; the class has a default.
        info: The data of the error.
    """

    retryable: ClassVar[bool] = False
    next_step: str = "See the documentation of this error."

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        next_step: str | None = None,
        info: ErrorInfo = NO_INFO,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.info = info
        if next_step is not None:
            self.next_step = next_step

    def __str__(self) -> str:
        facts = [f"{name}={value}" for name in SHOWN if (value := getattr(self.info, name)) is not None]
        if self.retry_after is not None:
            facts.append(f"retry_after={self.retry_after:g}s")
        if self.info.attempts:
            facts.append(f"attempts={len(self.info.attempts)}")
        shown = f" [{', '.join(facts)}]" if facts else ""
        return f"{self.message}{shown} {self.next_step}"

    @property
    def fault(self) -> Fault | None:
        """The row of the admission table this error takes."""
        return self.info.fault

    @property
    def provider(self) -> str | None:
        """The provider's name."""
        return self.info.provider

    @property
    def model(self) -> str | None:
        """The model asked for."""
        return self.info.model

    @property
    def ticket_id(self) -> str | None:
        """The ticket concerned."""
        return self.info.ticket_id

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What was tried before this error, oldest first."""
        return self.info.attempts

    def having(self, info: ErrorInfo) -> Self:
        """Put *info* in place of what the error knew, and return the error."""
        self.info = info
        return self

    def tried(self, attempts: Sequence[Attempt]) -> Self:
        """Record what was tried, and return the error."""
        return self.having(replace(self.info, attempts=tuple(attempts)))


class ConfigurationError(LLMGatewayError):
    """The settings or parts cannot work together. Raised at construction, before anything runs."""

    next_step = "Correct what is named and start again."


class MissingDependencyError(LLMGatewayError):
    """An optional package is not installed; the message has the exact pip line."""

    next_step = "Install the extra that is named."


class InvalidRequest(LLMGatewayError):
    """The request cannot be sent as it is. Raised before any money is spent, or by the vendor's 400."""

    next_step = "Correct the request; sending it again unchanged fails again."


class UnsupportedParameter(InvalidRequest):
    """The model does not take a parameter that was given."""

    next_step = "Leave the parameter out, or pass drop_unsupported=True to send without it."


class UnsupportedSchema(InvalidRequest):
    """The output type has no JSON schema, or one that the vendor cannot express."""

    next_step = "Change the named field of the output type."


class ContextTooLong(InvalidRequest):
    """The prompt and the reserved output exceed the model's context window."""

    next_step = "Shorten the prompt, lower max_output_tokens, or use a model with a larger window."


class PayloadTooLarge(InvalidRequest):
    """The request exceeds the byte limit of this library or of the vendor."""

    next_step = "Shorten the prompt or the metadata."


class ProviderError(LLMGatewayError):
    """The provider did not give a usable answer."""

    next_step = "See the fault and status of this error."


class AuthenticationFailed(ProviderError):
    """The provider refuses the key: 401, or 403 with a code that says so."""

    next_step = "Check the API key and its permissions in the settings; waiting does not help."


class QuotaExhausted(ProviderError):
    """The account has no money or has reached a spend limit."""

    next_step = "Top up the account or raise its limit; waiting does not help."


class RateLimited(ProviderError):
    """The provider asks to slow down."""

    retryable = True
    next_step = "Ask again after retry_after, or submit to the queue."


class ProviderUnavailable(ProviderError):
    """The provider cannot be reached, is overloaded, or its circuit is open."""

    retryable = True
    next_step = "Ask again later, or configure a queue to get a ticket instead."


class ModelNotFound(ProviderError):
    """The provider does not know the model, or the key may not use it. No other is substituted."""

    next_step = "Check the model's name and the account's access to it."


class ModelMismatch(ProviderError):
    """Another model answered than the one required. The answer is not used."""

    next_step = "Require the served snapshot with served_model, or ask for a model that is still served."


class MalformedResponse(ProviderError):
    """The answer is not what the vendor's protocol allows: cut, empty, not JSON, wrong shape."""

    retryable = True
    next_step = "Ask again; if it persists, something between here and the provider rewrites answers."


class ResponseTooLarge(ProviderError):
    """The decoded answer exceeds the byte limit."""

    next_step = "Lower max_output_tokens or raise the limit of the HTTP options."


class StreamInterrupted(ProviderError):
    """A stream ended before its terminal event, after text had been handed out."""

    retryable = True
    next_step = "Discard the partial text, or submit the request again."


class InvalidOutput(LLMGatewayError):
    """The answer is not valid for the output type. It is never repaired or guessed."""

    next_step = (
        "Adjust the prompt or the type; a live call can allow output_retries. info.detail has the answer's beginning."
    )


class StaleResponse(LLMGatewayError):
    """An intermediary served a stored answer, also when asked past its cache. The answer is not used."""

    next_step = "Switch off response caching on the way to the provider."


class DeadlineExceeded(LLMGatewayError):
    """The timeout passed and no queue could take the request."""

    retryable = True
    next_step = "Allow more time, or configure a queue to get a ticket instead."


class QueueError(LLMGatewayError):
    """The queue could not take or give what was asked."""

    next_step = "See the class of this error."


class QueueFull(QueueError):
    """The queue is at its depth or byte limit. Nothing was stored."""

    retryable = True
    next_step = "Submit again after retry_after, or raise the limits of the queue options."


class QueueUnavailable(QueueError):
    """The queue cannot be reached. Nothing was stored."""

    retryable = True
    next_step = "Restore the queue; the request was not stored."


class DurabilityUnknown(QueueError):
    """It is not known whether the request was stored.

    Attributes:
        request: The request with its idempotency key: submit it again to find or make its one ticket.
    """

    retryable = True
    next_step = "Submit error.request again: its idempotency key makes that safe."
    request: object = None


class IdempotencyConflict(QueueError):
    """The idempotency key is taken by a request with other content."""

    next_step = "Use a new key for new content."


class UnknownKey(QueueError):
    """What is stored was sealed under a key that this process was not given. It stays as it is."""

    next_step = "Give this process every key in use (LLM_GATEWAY_QUEUE_KEYS), the new ones as well as the old."


class TicketError(LLMGatewayError):
    """The ticket has no result to give."""

    next_step = "See the class of this error."


class TicketNotFound(TicketError):
    """No such ticket for this tenant: never issued, erased, or kept longer than its retention."""

    next_step = "Check the ticket id and the tenant; results are kept for a limited time."


class TicketExpired(TicketError):
    """The request waited longer than its ttl and was not sent again."""

    next_step = "Submit the request again."


class TicketFailed(TicketError):
    """The request ended without an answer; ``info.fault`` and ``info.code`` tell why."""

    next_step = "Mend the cause, then submit the request again."


class TicketCancelled(TicketError):
    """The request was cancelled or erased."""

    next_step = "Submit the request again if it is still wanted."


class ClientClosed(LLMGatewayError):
    """The client is closed or was never opened."""

    next_step = "Use the client inside 'async with'."
