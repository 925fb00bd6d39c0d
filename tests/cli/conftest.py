"""Fixtures of the command's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.cli.stage import Stage

from llm_gateway.testing import SimulatedProvider


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A queue file that is not made yet, and a provider that answers."""
    async with SimulatedProvider() as sim:
        yield Stage(sim, tmp_path / "queue.db")
