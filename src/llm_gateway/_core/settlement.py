"""What becomes of a job: the decisions every queue backend shares, without storage and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from llm_gateway._core.jobs import (
    Complete,
    Disposition,
    Fail,
    JobError,
    JobView,
    LaneGate,
    Park,
    ParkScope,
    Release,
    Retry,
)
from llm_gateway._core.lifecycle import Trigger
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._facts import Attempt, Fault, Sent

__all__ = ["HISTORY_LIMIT", "Settlement", "allowance", "group_parking", "lapse", "lost_attempt", "remember", "settle"]

HISTORY_LIMIT: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A transition that has been decided.

    Attributes:
        trigger: The row of the life cycle table.
        view: The job with its new counters, history, reason and error; state and version are not yet moved.
        result: The result to store.
    """

    trigger: Trigger
    view: JobView
    result: bytes | None = field(default=None, repr=False)


def settle(view: JobView, disposition: Disposition, now: datetime) -> Settlement:
    """Decide how an attempt ends. Completing, failing and retrying spend an attempt; releasing and parking do not."""
    attempts = view.attempts + isinstance(disposition, Complete | Fail | Retry)
    trigger, reason, delay, error = _ending(disposition, attempts)
    ended = view._replace(
        attempts=attempts,
        history=_with(view.history, disposition.attempt),
        reason=reason,
        not_before=now + timedelta(seconds=delay) if delay > 0 else None,
        error=error,
    )
    return Settlement(
        trigger=trigger, view=ended, result=disposition.result if isinstance(disposition, Complete) else None
    )


def group_parking(view: JobView, disposition: Disposition) -> tuple[str, str] | None:
    """Tell which group a disposition parks and why; ``None`` when it parks none. The lane is the job's own."""
    match disposition:
        case Fail(park_group=str(reason)) | Park(reason=reason, scope=ParkScope.GROUP):
            return (view.group, reason) if view.group is not None else None
        case _:
            return None


def lapse(view: JobView, lost: Attempt | None, max_crashes: int) -> Settlement:
    """Decide what follows when a lease was not renewed: wait again, or fail at the cap. No attempt is spent."""
    crashed = remember(view, lost)._replace(crashes=view.crashes + 1, not_before=None)
    if crashed.crashes < max_crashes:
        return Settlement(trigger=Trigger.LEASE_LAPSED, view=crashed._replace(reason=WaitReason.WORKER_LOST))
    error = JobError(
        type="TicketFailed",
        message=f"The workers that held it were lost {crashed.crashes} times.",
        fault=Fault.WORKER_LOST,
        code="worker_lost",
    )
    return Settlement(trigger=Trigger.CRASHED_TOO_OFTEN, view=crashed._replace(error=error, reason=None))


def lost_attempt(view: JobView, since: datetime | None, fault: Fault, now: datetime) -> Attempt | None:
    """Return the attempt that a lease held *since* stood for and that nobody will report; ``None`` without a lease."""
    if since is None:
        return None
    return Attempt(
        id=f"{view.ticket_id}-{view.version}",
        started_at=since,
        ended_at=now,
        fault=fault,
        sent=Sent.YES,
        possibly_billed=True,
    )


def remember(view: JobView, attempt: Attempt | None) -> JobView:
    """Add an attempt to the history, of which the latest 32 are kept."""
    return view if attempt is None else view._replace(history=_with(view.history, attempt))


def allowance(gate: LaneGate, count: int, in_flight: int, now: datetime) -> int:
    """Tell how many of *count* jobs a lane's gate lets through. Half-open blocks nothing: the breaker has permits."""
    # A circuit that opened for a time does not shut the gate for ever: who opened it may be gone.
    shut = gate.paused or gate.parked is not None or (gate.circuit == "open" and gate.not_before is None)
    if shut or (gate.not_before is not None and gate.not_before > now):
        return 0
    if gate.max_in_flight is None:
        return max(count, 0)
    return max(min(count, gate.max_in_flight - in_flight), 0)


def _ending(disposition: Disposition, attempts: int) -> tuple[Trigger, str | None, float, JobError | None]:
    """Tell what moves the job, why it then waits, for how long, and why it failed."""
    match disposition:
        case Complete():
            return Trigger.COMPLETED, None, 0.0, None
        case Retry(delay=delay, max_attempts=most) if attempts < most:
            return Trigger.RETRIED, WaitReason.RETRYING, delay, None
        case Fail(error=error) | Retry(error=error):
            return Trigger.FAILED, None, 0.0, error
        case Release(reason=reason, delay=delay):
            return Trigger.RELEASED, reason, delay, None
        case _:
            return Trigger.PARKED, disposition.reason, 0.0, None


def _with(history: tuple[Attempt, ...], attempt: Attempt | None) -> tuple[Attempt, ...]:
    return history if attempt is None else (*history, attempt)[-HISTORY_LIMIT:]
