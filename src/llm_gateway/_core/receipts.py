"""From a vendor's answer to a receipt and a response."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from llm_gateway._core.fingerprint import text_sha256
from llm_gateway._core.payloads import StoredResult
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import (
    CacheSignal,
    FinishReason,
    LLMResponse,
    PreparedCall,
    ProviderAnswer,
    Receipt,
)
from llm_gateway._core.schema import OutputType
from llm_gateway._facts import Attempt

__all__ = ["receipt_of", "response_of"]

T = TypeVar("T")


def receipt_of(
    request: LLMRequest,
    call: PreparedCall,
    reply: ProviderAnswer,
    *,
    attempts: Sequence[Attempt],
    signals: tuple[CacheSignal, ...],
) -> Receipt:
    """Write the receipt of a live answer."""
    return Receipt(
        provider=call.provider,
        endpoint=call.endpoint,
        key_id=call.key_id,
        requested_model=request.model,
        served_model=reply.served_model,
        response_id=reply.response_id,
        provider_request_id=reply.provider_request_id,
        created=reply.created,
        system_fingerprint=reply.system_fingerprint,
        temperature=None if "temperature" in call.dropped else request.temperature,
        seed=None if "seed" in call.dropped else request.seed,
        sample=request.sample,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        prompt_sha256=call.prompt_sha256,
        text_sha256=text_sha256(reply.text),
        sent_at=reply.sent_at,
        first_byte_at=reply.first_byte_at,
        received_at=reply.received_at,
        attempts=tuple(attempts),
        cache_signals=signals,
        dropped=call.dropped,
    )


def response_of(result: StoredResult, output_type: OutputType[T]) -> LLMResponse[T]:
    """Read a result as the output type; a refusal, a truncation or an unknown ending gives no output.

    Raises:
        InvalidOutput: the text is not valid for the type.
    """
    whole = result.receipt.finish_reason is FinishReason.STOP
    output = output_type.read(result.text) if whole else None
    return LLMResponse(output=output, text=result.text, receipt=result.receipt)
