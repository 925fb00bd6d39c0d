"""Rows of the file as values, and values as rows. Reading checks every field: a file may be damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, cast

from llm_gateway._core.jobs import JobError, JobView, Lane
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Fault, Sent

__all__ = [
    "Damaged",
    "Hold",
    "Record",
    "blob",
    "facts_of",
    "integer",
    "number",
    "optional",
    "read_record",
    "read_time",
    "text",
    "time_of",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


class Damaged(ValueError):
    """A row that cannot be read."""

    def __init__(self) -> None:
        super().__init__("A row of the queue file cannot be read.")


class Hold(NamedTuple):
    """Who works on a job: the inside of a lease. ``ends`` is monotonic time."""

    token: str
    worker: str
    claim_id: str
    since: datetime
    deadline: datetime
    ends: float
    renewed: float


class Record(NamedTuple):
    """A job as it lies in the file, without payload and result."""

    id: int
    lane_id: int
    view: JobView
    size: int
    place: str | None
    sort: float | None
    tagged: bool
    hold: Hold | None
    settled: str | None
    buried: bool


def time_of(at: datetime) -> int:
    """Write a time as whole microseconds."""
    return (at - EPOCH) // MICROSECOND


def read_time(value: object) -> datetime:
    """Read a time."""
    return EPOCH + timedelta(microseconds=integer(value))


def facts_of(view: JobView) -> str:
    """Write what changes of a job beside its state."""
    facts: dict[str, object] = {
        "reason": view.reason,
        "not_before": None if view.not_before is None else time_of(view.not_before),
        "attempts": view.attempts,
        "crashes": view.crashes,
        "history": [write_attempt(attempt) for attempt in view.history],
        "error": None if view.error is None else write_error(view.error),
    }
    return ENCODER.encode({name: value for name, value in facts.items() if value})


def read_record(row: tuple[object, ...]) -> Record:
    """Read the columns that `JOB_COLUMNS` names, in their order.

    Raises:
        Damaged: one of them is not what was written.
    """
    try:
        return Record(
            id=integer(row[0]),
            lane_id=integer(row[1]),
            view=read_view(row),
            size=integer(row[19]),
            place=optional(row[20]),
            sort=None if row[21] is None else number(row[21]),
            tagged=bool(row[22]),
            hold=None if row[23] is None else read_hold(row),
            settled=optional(row[29]),
            buried=bool(row[30]),
        )
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise Damaged from None


def read_view(row: tuple[object, ...]) -> JobView:
    """Read what the queue shows of a job."""
    facts = mapping(json.loads(text(row[16])))
    not_before, error = facts.get("not_before"), facts.get("error")
    return JobView(
        lane=Lane(text(row[2]), text(row[3])),
        ticket_id=text(row[4]),
        tenant=text(row[5]),
        state=TicketState(text(row[6])),
        version=integer(row[7]),
        priority=Priority(text(row[8])),
        idempotency_key=text(row[9]),
        fingerprint=text(row[10]),
        created_at=read_time(row[11]),
        expires_at=read_time(row[12]),
        updated_at=read_time(row[13]),
        group=optional(row[14]),
        requeued_from=optional(row[15]),
        echo=blob(row[17]),
        subjects=tuple(text(subject) for subject in sequence(json.loads(text(row[18])))),
        reason=optional(facts.get("reason")),
        not_before=None if not_before is None else read_time(not_before),
        attempts=integer(facts.get("attempts", 0)),
        crashes=integer(facts.get("crashes", 0)),
        history=tuple(read_attempt(attempt) for attempt in sequence(facts.get("history", []))),
        error=None if error is None else read_error(error),
    )


def read_hold(row: tuple[object, ...]) -> Hold:
    """Read who works on a job."""
    return Hold(
        token=text(row[23]),
        worker=text(row[24]),
        claim_id=text(row[25]),
        since=read_time(row[26]),
        deadline=read_time(row[27]),
        renewed=number(row[28]),
        ends=number(row[21]),
    )


def write_attempt(attempt: Attempt) -> list[object]:
    """Write an attempt, field by field."""
    return [
        attempt.id,
        time_of(attempt.started_at),
        time_of(attempt.ended_at),
        attempt.fault,
        attempt.provider_request_id,
        attempt.sent,
        attempt.possibly_billed,
    ]


def read_attempt(value: object) -> Attempt:
    """Read an attempt."""
    name, started, ended, fault, request_id, sent, billed = sequence(value)
    return Attempt(
        id=text(name),
        started_at=read_time(started),
        ended_at=read_time(ended),
        fault=None if fault is None else Fault(text(fault)),
        provider_request_id=optional(request_id),
        sent=Sent(text(sent)),
        possibly_billed=bool(billed),
    )


def write_error(error: JobError) -> list[object]:
    """Write why a job failed."""
    return [error.type, error.message, error.fault, error.code, error.status]


def read_error(value: object) -> JobError:
    """Read why a job failed."""
    name, message, fault, code, status = sequence(value)
    return JobError(
        type=text(name),
        message=text(message),
        fault=None if fault is None else Fault(text(fault)),
        code=optional(code),
        status=None if status is None else integer(status),
    )


def text(value: object) -> str:
    """Take text, and nothing else.

    Raises:
        Damaged: it is none. The same holds for what follows.
    """
    if isinstance(value, str):
        return value
    raise Damaged


def optional(value: object) -> str | None:
    """Take text or nothing."""
    return None if value is None else text(value)


def integer(value: object) -> int:
    """Take a whole number."""
    if isinstance(value, int):
        return value
    raise Damaged


def number(value: object) -> float:
    """Take a number."""
    if isinstance(value, int | float):
        return float(value)
    raise Damaged


def blob(value: object) -> bytes:
    """Take bytes."""
    if isinstance(value, bytes):
        return value
    raise Damaged


def sequence(value: object) -> list[object]:
    """Take a list."""
    if isinstance(value, list):
        return cast("list[object]", value)
    raise Damaged


def mapping(value: object) -> Mapping[str, object]:
    """Take an object with names."""
    if isinstance(value, dict):
        return cast("dict[str, object]", value)
    raise Damaged
