"""What is asked, as bytes and digests: the content of an idempotency key, and the key of a development cache."""

from __future__ import annotations

import hashlib
import json

from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import PreparedCall

__all__ = ["cache_key", "content_of", "text_sha256"]

CONTENT = (
    "provider",
    "model",
    "max_output_tokens",
    "temperature",
    "reasoning_effort",
    "verbosity",
    "seed",
    "drop_unsupported",
    "served_model",
    "sample",
)


def content_of(request: LLMRequest) -> bytes:
    """Write the content that an idempotency key stands for: not the ttl, priority, metadata or schema."""
    content: list[object] = [getattr(request, name) for name in CONTENT]
    spoken = [[message.role, [part.text for part in message.parts]] for message in request.conversation]
    return json.dumps([content, spoken]).encode()


def cache_key(call: PreparedCall, sample: int) -> str:
    """Digest everything that makes a development replay the same draw of the same question."""
    facts = [call.adapter, call.provider, call.endpoint, call.path, call.model, str(sample)]
    return hashlib.sha256("\0".join(facts).encode() + b"\0" + call.body).hexdigest()


def text_sha256(text: str) -> str:
    """Digest an answer."""
    return hashlib.sha256(text.encode()).hexdigest()
