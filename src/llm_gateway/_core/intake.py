"""What may enter a queue: the checks before a job is stored. No clock, no storage."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from llm_gateway._core.jobs import JobView, NewJob
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._core.settlement import HISTORY_LIMIT
from llm_gateway.errors import ErrorInfo, IdempotencyConflict, InvalidRequest, QueueError

__all__ = ["check_content", "check_erasure", "check_times", "dead_letter", "first_view", "requeue_key", "successor"]

NOT_LATER: Final = timedelta()


def first_view(job: NewJob, now: datetime, *, taken_at: datetime | None = None, position: int | None = None) -> JobView:
    """Return a new job as it first stands; its times count from *taken_at* where that is given."""
    later = NOT_LATER if taken_at is None else taken_at - job.created_at
    return JobView(
        ticket_id=job.ticket_id,
        tenant=job.tenant,
        lane=job.lane,
        state=TicketState.QUEUED,
        version=1,
        priority=job.priority,
        idempotency_key=job.idempotency_key,
        fingerprint=job.fingerprint,
        created_at=job.created_at + later,
        expires_at=job.expires_at + later,
        updated_at=now,
        not_before=None if job.not_before is None else job.not_before + later,
        reason=job.reason or WaitReason.SUBMITTED,
        group=job.group,
        subjects=job.subjects,
        echo=job.echo,
        history=job.history[-HISTORY_LIMIT:],
        position=position,
        requeued_from=job.requeued_from,
    )


def check_times(job: NewJob, now: datetime) -> None:
    """Refuse a job that could never be claimed.

    Raises:
        InvalidRequest: it would expire first.
    """
    if job.expires_at <= now or (job.not_before is not None and job.not_before >= job.expires_at):
        message = "The request would expire before it may be tried."
        raise InvalidRequest(message, next_step="Give it a longer ttl.")


def check_content(view: JobView, job: NewJob) -> None:
    """Refuse a job whose idempotency key stands for other content.

    Raises:
        IdempotencyConflict: it does.
    """
    if view.fingerprint != job.fingerprint:
        message = "The idempotency key stands for a request with other content."
        raise IdempotencyConflict(message, info=ErrorInfo(ticket_id=view.ticket_id))


def check_erasure(ticket_id: str | None, subject: str | None, *, everything: bool) -> None:
    """Refuse an erasure that does not say what it is of.

    Raises:
        InvalidRequest: unless exactly one of the three is given.
    """
    if [ticket_id is not None, subject is not None, everything].count(True) != 1:
        message = "Erasing takes either a ticket, or a subject, or everything."
        raise InvalidRequest(message)


def dead_letter(view: JobView, payload: bytes | None) -> bytes:
    """Return the payload of a job that failed.

    Raises:
        QueueError: it is no dead letter.
    """
    if view.state is not TicketState.FAILED or payload is None:
        message = f"The ticket is {view.state}; only a failed one whose request is still kept can be requeued."
        raise QueueError(message, next_step="Submit the request again.", info=ErrorInfo(ticket_id=view.ticket_id))
    return payload


def requeue_key(ticket_id: str) -> str:
    """Return the idempotency key of the job that a dead letter becomes: made of its ticket, so it is made once."""
    return f"requeue:{ticket_id}"


def successor(dead: JobView, payload: bytes, ticket_id: str, now: datetime) -> NewJob:
    """Return the new job that a dead letter becomes. Its time to live starts anew.

    Args:
        dead: The dead letter.
        payload: Its request, sealed anew for *ticket_id*.
        ticket_id: Minted for the tenant and the `requeue_key`.
        now: UTC time.
    """
    return NewJob(
        ticket_id=ticket_id,
        tenant=dead.tenant,
        lane=dead.lane,
        idempotency_key=requeue_key(dead.ticket_id),
        fingerprint=dead.fingerprint,
        priority=dead.priority,
        created_at=now,
        expires_at=now + (dead.expires_at - dead.created_at),
        group=dead.group,
        subjects=dead.subjects,
        echo=dead.echo,
        payload=payload,
        requeued_from=dead.ticket_id,
    )
