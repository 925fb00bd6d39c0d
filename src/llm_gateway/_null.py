"""The part that does nothing, one for each optional protocol, so that nobody has to ask whether there is one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from llm_gateway._core.circuit import (
    CircuitChange,
    CircuitKey,
    CircuitSnapshot,
    CircuitState,
    Level,
    Permit,
    Rejection,
)
from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway._core.jobs import Lane
from llm_gateway._core.observations import Observation
from llm_gateway._core.responses import Receipt
from llm_gateway.protocols import CircuitBreaker, Clock, Observer, Part, RateLimiter, ReceiptSink

__all__ = ["NullBreaker", "NullLimiter", "NullObserver", "NullSink", "SystemClock"]

CLOSED: Final = CircuitSnapshot(state=CircuitState.CLOSED)


class SystemClock(Clock):
    """The machine's own time."""

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()

    def now(self) -> datetime:
        """UTC wall-clock time."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class Everywhere(Part):
    """A part that may run in every environment."""

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE


class NullBreaker(Everywhere, CircuitBreaker):
    """Never opens."""

    def acquire(self, key: CircuitKey) -> Permit | Rejection:
        """Let every call through."""
        return Permit(key=key, model_epoch=0, endpoint_epoch=0)

    def success(self, permit: Permit) -> None:
        """Count nothing."""

    def failure(self, permit: Permit, level: Level, *, retry_after: float | None = None) -> None:
        """Count nothing."""

    def ignore(self, permit: Permit) -> None:
        """Count nothing."""

    def snapshot(self, key: CircuitKey) -> CircuitSnapshot:
        """Tell that it is closed."""
        return CLOSED

    def force_open(self, lane: Lane) -> None:
        """Do nothing."""

    def reset(self, lane: Lane | None = None) -> None:
        """Do nothing."""

    def subscribe(self, listener: Callable[[CircuitChange], None]) -> None:
        """Never call it."""


class NullLimiter(Everywhere, RateLimiter):
    """Never delays."""

    def delay(self, key: CircuitKey) -> float:
        """Send now."""
        return 0.0

    def penalise(self, key: CircuitKey, seconds: float) -> None:
        """Forget it."""


class NullSink(Everywhere, ReceiptSink):
    """Keeps nothing."""

    async def write(self, receipt: Receipt) -> None:
        """Drop it."""


class NullObserver(Everywhere, Observer):
    """Notes nothing."""

    def observe(self, observation: Observation) -> None:
        """Drop it."""
