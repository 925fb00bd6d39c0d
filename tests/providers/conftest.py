"""A simulated provider for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_gateway.testing import SimulatedProvider


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as simulated:
        yield simulated
