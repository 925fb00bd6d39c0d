"""What an observer is told. No prompt, no answer, no id that would make a metric label explode."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from llm_gateway._facts import Fault

__all__ = ["Observation", "ObservationKind"]


class ObservationKind(StrEnum):
    """What happened."""

    ATTEMPT = "attempt"
    CALL = "call"
    CIRCUIT = "circuit"
    LATCH = "latch"
    REPLAY_REFUSED = "replay_refused"
    FENCED = "fenced"


class Observation(NamedTuple):
    """One thing that happened.

    Attributes:
        kind: What.
        provider: Where.
        model: For which model.
        outcome: ``ok``, ``queued``, ``error``, or a state.
        fault: Why it failed.
        seconds: How long it took.
    """

    kind: ObservationKind
    provider: str
    model: str
    outcome: str = "ok"
    fault: Fault | None = None
    seconds: float | None = None
