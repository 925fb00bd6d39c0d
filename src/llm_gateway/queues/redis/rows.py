"""Hashes of jobs as values, and values as arguments. Reading checks every field: the data may be foreign."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from llm_gateway._core.jobs import JobError, JobEvent, JobView
from llm_gateway._core.journal import event_of
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Attempt, Fault, Sent
from llm_gateway.errors import ErrorInfo, QueueError
from llm_gateway.queues.redis.keys import key_in, lane_of

__all__ = [
    "STATES",
    "Fields",
    "content_of",
    "event_from",
    "fields_of",
    "integer",
    "items",
    "micros",
    "raw",
    "read_time",
    "text",
    "view_of",
    "write_attempt",
    "write_error",
]

Fields = Mapping[bytes, bytes]
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
STATES: Final[Mapping[bytes, TicketState]] = {
    b"Q": TicketState.QUEUED,
    b"P": TicketState.PROCESSING,
    b"C": TicketState.COMPLETED,
    b"F": TicketState.FAILED,
    b"X": TicketState.EXPIRED,
    b"K": TicketState.CANCELLED,
}
PRIORITIES: Final[Mapping[int, Priority]] = {priority.weight: priority for priority in Priority}


def micros(length: timedelta | float) -> int:
    """Write a duration as whole microseconds."""
    return length // MICROSECOND if isinstance(length, timedelta) else round(length * 1_000_000)


def time_of(at: datetime) -> int:
    """Write a time as whole microseconds since 1970."""
    return (at - EPOCH) // MICROSECOND


def read_time(value: object) -> datetime:
    """Read a time."""
    return EPOCH + timedelta(microseconds=integer(value))


def raw(value: object) -> bytes:
    """Take bytes, and nothing else.

    Raises:
        ValueError: it is something else. The same holds for what follows.
    """
    if isinstance(value, bytes):
        return value
    raise ValueError


def text(value: object) -> str:
    """Take text."""
    return raw(value).decode()


def integer(value: object) -> int:
    """Take a whole number, however the server wrote it."""
    if isinstance(value, int):
        return value
    written = raw(value)
    return int(written) if written.lstrip(b"-").isdigit() else int(float(written))


def items(value: object) -> list[object]:
    """Take a list."""
    if isinstance(value, list):
        return cast("list[object]", value)
    raise ValueError


def fields_of(value: object) -> Fields:
    """Take the fields of a hash, but for those that are empty."""
    flat = items(value)
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {raw(name): raw(content) for name, content in pairs if content != b""}


def view_of(ticket_id: str, fields: Fields, echo: bytes, position: int | None = None) -> JobView:
    """Read what the queue shows of a job.

    Raises:
        QueueError: it cannot be read.
    """
    try:
        return _view_of(ticket_id, fields, echo, position)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        pass
    message = "The stored ticket is damaged; it ends as a dead letter when its turn comes."
    step = "Submit the request again under a new key."
    raise QueueError(message, next_step=step, info=ErrorInfo(ticket_id=ticket_id))


def _view_of(ticket_id: str, fields: Fields, echo: bytes, position: int | None) -> JobView:
    tenant, group, origin = (maybe(fields, name) for name in (b"t", b"g", b"rf"))
    waits, reason, error = fields.get(b"nb"), maybe(fields, b"r"), fields.get(b"er")
    subjects = items(json.loads(fields.get(b"sb", b"[]")))
    return JobView(
        ticket_id=ticket_id,
        tenant=tenant or "",
        lane=lane_of(fields[b"l"].decode()),
        state=STATES[fields[b"s"]],
        version=integer(fields[b"v"]),
        priority=PRIORITIES[integer(fields[b"w"])],
        idempotency_key=key_in(fields[b"key"], tenant or ""),
        fingerprint=maybe(fields, b"fp") or "",
        created_at=read_time(fields[b"cd"]) if b"cd" in fields else read_time(fields[b"u"]),
        expires_at=read_time(fields[b"e"]),
        updated_at=read_time(fields[b"u"]),
        not_before=None if waits is None else read_time(waits),
        reason=reason,
        group=group,
        subjects=tuple(subject for subject in subjects if isinstance(subject, str)),
        echo=echo or b"{}",
        attempts=integer(fields.get(b"a", b"0")),
        crashes=integer(fields.get(b"cr", b"0")),
        history=tuple(read_attempt(line) for line in fields.get(b"hi", b"").split(b"\n") if line),
        error=None if error is None else read_error(error),
        position=position,
        requeued_from=origin,
    )


def maybe(fields: Fields, name: bytes) -> str | None:
    """Return a field's text, if it has one."""
    found = fields.get(name)
    return None if found is None else found.decode()


def content_of(fields: Fields, content: bytes) -> tuple[bytes, bytes]:
    """Part the content of a job: what is echoed on events, and the payload or the result."""
    length = integer(fields.get(b"ec", b"0"))
    return content[:length], content[length:]


def event_from(number: int, fact: Sequence[object], fields: Fields, content: bytes) -> JobEvent:
    """Read one event of the log: the job as it stands, with what the event itself tells.

    Raises:
        QueueError: the job cannot be read.
    """
    told = dict(zip(map(raw, fact[::2]), map(raw, fact[1::2]), strict=True))
    then = {
        **fields,
        b"v": told[b"v"],
        b"s": told[b"s"],
        b"u": told[b"u"],
        b"a": told[b"a"],
        b"cr": told[b"c"],
        b"r": told[b"r"],
    }
    ended = told[b"s"] == b"F"
    kept = {name: value for name, value in then.items() if value != b"" and (ended or name != b"er")}
    echo, body = content_of(fields, content)
    whole = told[b"s"] == b"C" and fields.get(b"s") == b"C" and b"b" not in fields
    return event_of(view_of(text(told[b"t"]), kept, echo), body if whole else None, number)


def write_attempt(attempt: Attempt | None) -> str:
    """Write an attempt on one line; nothing for none."""
    if attempt is None:
        return ""
    facts = [
        attempt.id,
        time_of(attempt.started_at),
        time_of(attempt.ended_at),
        attempt.fault,
        attempt.provider_request_id,
        attempt.sent,
        attempt.possibly_billed,
    ]
    return json.dumps(facts, separators=(",", ":"))


def read_attempt(line: bytes) -> Attempt:
    """Read an attempt."""
    name, started, ended, fault, request_id, sent, billed = items(json.loads(line))
    return Attempt(
        id=str(name),
        started_at=read_time(started),
        ended_at=read_time(ended),
        fault=None if fault is None else Fault(str(fault)),
        provider_request_id=None if request_id is None else str(request_id),
        sent=Sent(str(sent)),
        possibly_billed=bool(billed),
    )


def write_error(error: JobError) -> str:
    """Write why a job failed."""
    return json.dumps([error.type, error.message, error.fault, error.code, error.status], separators=(",", ":"))


def read_error(written: bytes) -> JobError:
    """Read why a job failed."""
    name, message, fault, code, status = items(json.loads(written))
    return JobError(
        type=str(name),
        message=str(message),
        fault=None if fault is None else Fault(str(fault)),
        code=None if code is None else str(code),
        status=None if status is None else integer(status),
    )
