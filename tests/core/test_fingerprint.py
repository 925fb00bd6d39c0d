"""Digests: what makes two requests the same content, and two calls the same development draw."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from llm_gateway import LLMRequest, Message, Priority
from llm_gateway._core.fingerprint import cache_key, content_of, text_sha256
from llm_gateway._core.responses import PreparedCall

REQUEST = LLMRequest(provider="p", model="m", system="Be fair.", prompt="Which?")
CALL = PreparedCall(
    provider="p",
    endpoint="p.test",
    key_id="k",
    model="m",
    path="/v1",
    body=b"{}",
    prompt_sha256="0",
    adapter="a-1",
)


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "q"},
        {"model": "n"},
        {"system": "Be harsh."},
        {"prompt": "Who?"},
        {"max_output_tokens": 5},
        {"temperature": 0.5},
        {"reasoning_effort": "low"},
        {"verbosity": "low"},
        {"seed": 1},
        {"drop_unsupported": True},
        {"served_model": "m-1"},
        {"sample": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_content(changes: dict[str, object]) -> None:
    """Whatever changes the question changes its digest."""
    assert content_of(REQUEST.model_copy(update=changes)) != content_of(REQUEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl": timedelta(seconds=5)},
        {"priority": Priority.LIVE},
        {"idempotency_key": "k"},
        {"group": "g"},
        {"subjects": ("s",)},
        {"correlation_id": "c"},
        {"callback_topic": "t"},
        {"metadata": {"a": 1}},
        {"trace_context": {"traceparent": "00-1-2-01"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_envelope(changes: dict[str, object]) -> None:
    """How a question is handled does not change its digest."""
    assert content_of(REQUEST.model_copy(update=changes)) == content_of(REQUEST)


def test_same_conversation() -> None:
    """A conversation is the same content however it was given."""
    turns = (Message.system("Be fair."), Message.user("Which?"))
    assert content_of(LLMRequest(provider="p", model="m", messages=turns)) == content_of(REQUEST)


def test_no_ambiguity() -> None:
    """Text that moves from one message to the next is other content."""
    first = LLMRequest(provider="p", model="m", messages=(Message.user("ab"), Message.user("c")))
    second = LLMRequest(provider="p", model="m", messages=(Message.user("a"), Message.user("bc")))
    assert content_of(first) != content_of(second)


@pytest.mark.parametrize(
    "changes",
    [
        {"provider": "q"},
        {"endpoint": "q.test"},
        {"model": "n"},
        {"path": "/v2"},
        {"body": b"[]"},
        {"adapter": "a-2"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_cache_key(changes: dict[str, Any]) -> None:
    """A development replay is of the very same wire request by the same adapter."""
    assert cache_key(replace(CALL, **changes), 0) != cache_key(CALL, 0)


def test_cache_key_of_samples() -> None:
    """Each sample is a draw of its own; the API key is not part of the key."""
    assert cache_key(CALL, 1) != cache_key(CALL, 0)
    assert cache_key(replace(CALL, key_id="k-2"), 0) == cache_key(CALL, 0)


def test_text_digest() -> None:
    """An answer's digest is the SHA-256 of its UTF-8 bytes."""
    assert text_sha256("bättre") == hashlib.sha256("bättre".encode()).hexdigest()
