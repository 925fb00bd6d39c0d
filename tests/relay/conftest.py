"""Fixtures of the relay's tests."""

from __future__ import annotations

import pytest
from tests.client.desk import Desk

from llm_gateway import LLMRequest


@pytest.fixture
def desk() -> Desk:
    """Fresh parts."""
    return Desk()


@pytest.fixture
def question() -> LLMRequest:
    """A plain question."""
    return LLMRequest(provider="fake", model="m-1", prompt="Which essay is better?")
