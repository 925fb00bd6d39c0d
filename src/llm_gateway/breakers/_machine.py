"""The one file that imports pybreaker: its transition table, stepped by hand.

pybreaker is given no call to make, no time to keep and no window to count, because under asyncio it admits every
trial call, counts cancellations, and takes late outcomes for current ones. It decides which state follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from pybreaker import (
    STATE_CLOSED,
    STATE_HALF_OPEN,
    STATE_OPEN,
    CircuitBreaker,
    CircuitBreakerListener,
    CircuitBreakerState,
)

from llm_gateway._core.circuit import CircuitState

__all__ = ["Machine"]

STATES: Final[Mapping[str, CircuitState]] = {
    STATE_CLOSED: CircuitState.CLOSED,
    STATE_HALF_OPEN: CircuitState.HALF_OPEN,
    STATE_OPEN: CircuitState.OPEN,
}
# The circuit keeps its own monotonic time: pybreaker's timeout, which is wall clock, must never elapse.
NEVER: Final = 1e9


class ProbeFailed(Exception):
    """What pybreaker is shown in place of the provider's own error."""


class Machine(CircuitBreakerListener):
    """Which state follows which. Each step returns the state it led to.

    The transition is noted while pybreaker makes it and told only once the step is whole, since pybreaker calls
    its listeners before it has stored the new state.
    """

    def __init__(self, success_threshold: int) -> None:
        self._state = CircuitState.CLOSED
        self._breaker = CircuitBreaker(
            success_threshold=success_threshold,
            reset_timeout=NEVER,
            listeners=[self],
            throw_new_error_on_trip=False,
        )

    def state_change(
        self, cb: CircuitBreaker, old_state: CircuitBreakerState | None, new_state: CircuitBreakerState
    ) -> None:
        """Note the transition: pybreaker calls this."""
        self._state = STATES[new_state.name]

    def open(self) -> CircuitState:
        """Trip, or hold open."""
        self._breaker.open()
        return self._state

    def half_open(self) -> CircuitState:
        """Begin to probe."""
        self._breaker.half_open()
        return self._state

    def close(self) -> CircuitState:
        """Close without a probe."""
        self._breaker.close()
        return self._state

    def probe_succeeded(self) -> CircuitState:
        """Count a probe that was answered; enough of them close."""
        self._breaker.call(answer)
        return self._state

    def probe_failed(self) -> CircuitState:
        """Count a probe that was not."""
        with suppress(ProbeFailed):
            self._breaker.call(fail)
        return self._state


def answer() -> None:
    """Stand for a call that succeeded."""


def fail() -> None:
    """Stand for a call that failed.

    Raises:
        ProbeFailed: always.
    """
    raise ProbeFailed
