"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMRequest


@pytest.fixture
def desk() -> Desk:
    """Fresh parts."""
    return Desk()


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[LLMClient]:
    """An open client with a memory queue."""
    async with desk.client() as opened:
        yield opened


@pytest.fixture
def question() -> LLMRequest:
    """A plain question."""
    return LLMRequest(provider="fake", model="m-1", prompt="Which essay is better?", metadata={"pair": 7})
