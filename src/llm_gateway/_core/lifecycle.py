"""The life of a ticket, as a table.

Two rules: nothing leaves a terminal state, and every accepted transition raises ``version`` by one.
The diagram in the documentation is drawn from `TRANSITIONS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

__all__ = ["TERMINAL", "TRANSITIONS", "TicketState", "Trigger"]


class TicketState(StrEnum):
    """Where a ticket stands."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self in TERMINAL


class Trigger(StrEnum):
    """What moves a ticket."""

    CLAIMED = "claimed"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRIED = "retried"
    RELEASED = "released"
    PARKED = "parked"
    RESUMED = "resumed"
    LEASE_LAPSED = "lease_lapsed"
    CRASHED_TOO_OFTEN = "crashed_too_often"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset(
    {TicketState.COMPLETED, TicketState.FAILED, TicketState.EXPIRED, TicketState.CANCELLED},
)

TRANSITIONS: Final[Mapping[tuple[TicketState, Trigger], TicketState]] = {
    (TicketState.QUEUED, Trigger.CLAIMED): TicketState.PROCESSING,
    (TicketState.QUEUED, Trigger.PARKED): TicketState.QUEUED,
    (TicketState.QUEUED, Trigger.RESUMED): TicketState.QUEUED,
    (TicketState.QUEUED, Trigger.EXPIRED): TicketState.EXPIRED,
    (TicketState.QUEUED, Trigger.CANCELLED): TicketState.CANCELLED,
    (TicketState.PROCESSING, Trigger.COMPLETED): TicketState.COMPLETED,
    (TicketState.PROCESSING, Trigger.FAILED): TicketState.FAILED,
    (TicketState.PROCESSING, Trigger.RETRIED): TicketState.QUEUED,
    (TicketState.PROCESSING, Trigger.RELEASED): TicketState.QUEUED,
    (TicketState.PROCESSING, Trigger.PARKED): TicketState.QUEUED,
    (TicketState.PROCESSING, Trigger.LEASE_LAPSED): TicketState.QUEUED,
    (TicketState.PROCESSING, Trigger.CRASHED_TOO_OFTEN): TicketState.FAILED,
    (TicketState.PROCESSING, Trigger.EXPIRED): TicketState.EXPIRED,
    (TicketState.PROCESSING, Trigger.CANCELLED): TicketState.CANCELLED,
}
