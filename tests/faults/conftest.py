"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llm_gateway.testing import SimulatedProvider


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    """A provider on loopback."""
    async with SimulatedProvider() as simulated:
        yield simulated
