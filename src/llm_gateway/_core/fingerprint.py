"""Digests of what is asked: the content an idempotency key stands for, and the key of a development cache."""

from __future__ import annotations

import hashlib
import json

from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import PreparedCall

__all__ = ["cache_key", "fingerprint", "text_sha256"]

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


def fingerprint(request: LLMRequest) -> str:
    """Digest the content of a request: not its ttl, priority, metadata or schema."""
    content: list[object] = [getattr(request, name) for name in CONTENT]
    spoken = [[message.role, [part.text for part in message.parts]] for message in request.conversation]
    return hashlib.sha256(json.dumps([content, spoken]).encode()).hexdigest()


def cache_key(call: PreparedCall, sample: int) -> str:
    """Digest everything that makes a development replay the same draw of the same question."""
    facts = [call.adapter, call.provider, call.endpoint, call.path, call.model, str(sample)]
    return hashlib.sha256("\0".join(facts).encode() + b"\0" + call.body).hexdigest()


def text_sha256(text: str) -> str:
    """Digest an answer."""
    return hashlib.sha256(text.encode()).hexdigest()
