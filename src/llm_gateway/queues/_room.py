"""The bounds of a queue."""

from __future__ import annotations

import secrets
from typing import Final

from llm_gateway._core.jobs import NewJob
from llm_gateway.errors import ErrorInfo, PayloadTooLarge, QueueError, QueueFull
from llm_gateway.options import QueueOptions

__all__ = ["check_room", "new_token", "taken"]

FULL_RETRY_AFTER: Final = 5.0
TOKEN_BYTES: Final = 12


def check_room(job: NewJob, options: QueueOptions, *, held: int, bytes_held: int) -> None:
    """Refuse a job that does not fit beside the *held* requests and events and their *bytes_held*.

    Raises:
        PayloadTooLarge: it never fits.
        QueueFull: it does not fit now.
    """
    size = len(job.payload)
    if size > options.max_payload_bytes:
        message = f"The request takes {size} bytes; the queue takes at most {options.max_payload_bytes}."
        raise PayloadTooLarge(message)
    if held >= options.max_depth:
        message = f"The queue holds its limit of {options.max_depth} requests and events."
        raise QueueFull(message, retry_after=FULL_RETRY_AFTER)
    if bytes_held + size > options.max_bytes:
        message = f"The queue holds its limit of {options.max_bytes} bytes."
        raise QueueFull(message, retry_after=FULL_RETRY_AFTER)


def taken(ticket_id: str) -> QueueError:
    """Say that a ticket exists already."""
    message = "The ticket id is taken by another request."
    return QueueError(message, next_step="Mint a new ticket id.", info=ErrorInfo(ticket_id=ticket_id))


def new_token() -> str:
    """Make a fencing token of 96 random bits: a counter could come twice, this cannot be guessed."""
    return secrets.token_hex(TOKEN_BYTES)
