"""What a circuit breaker tells: permits, rejections, snapshots."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from llm_gateway._core.jobs import Lane

__all__ = ["CircuitChange", "CircuitKey", "CircuitSnapshot", "CircuitState", "Level", "Permit", "Rejection"]


class CircuitState(StrEnum):
    """State of one circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Level(StrEnum):
    """Which circuit an outcome counts for: the host, or one model on it."""

    ENDPOINT = "endpoint"
    MODEL = "model"


class CircuitKey(NamedTuple):
    """A call's place: one endpoint and one lane on it."""

    endpoint: str
    lane: Lane


class Permit(NamedTuple):
    """The right to make one call. Give it back exactly once: ``success``, ``failure`` or ``ignore``.

    Attributes:
        key: Where the call goes.
        model_epoch: Epoch of the model's circuit at admission; an outcome of another epoch counts nothing.
        endpoint_epoch: The same for the endpoint's circuit.
        probe: Token of the half-open probe slots it holds; empty for an ordinary call.
    """

    key: CircuitKey
    model_epoch: int
    endpoint_epoch: int
    probe: str = ""


class Rejection(NamedTuple):
    """No call may be made now.

    Attributes:
        state: State of the circuit that refused.
        retry_in: Seconds after which asking again makes sense.
        probes_busy: True when the circuit is half-open and all probe slots are taken.
    """

    state: CircuitState
    retry_in: float
    probes_busy: bool = False


class CircuitSnapshot(NamedTuple):
    """A circuit as it stands now.

    Attributes:
        state: The stricter of the endpoint's and the model's circuit.
        retry_in: Seconds until a probe is allowed; 0 when one is, or when closed.
        probes: Probe slots taken.
        forced: Held open by an operator.
    """

    state: CircuitState
    retry_in: float = 0.0
    probes: int = 0
    forced: bool = False


class CircuitChange(NamedTuple):
    """A transition of one circuit. ``lane`` is ``None`` for an endpoint's own circuit."""

    endpoint: str
    lane: Lane | None
    old: CircuitState
    new: CircuitState
    retry_in: float
