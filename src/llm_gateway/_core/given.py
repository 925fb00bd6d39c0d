"""Refusing what a caller hands in by mistake, with the word that helps."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from llm_gateway._core.requests import LLMRequest
from llm_gateway.errors import InvalidRequest

__all__ = ["LONGEST_TIMEOUT", "require_request", "require_ticket_id", "seconds_of"]

LONGEST_TIMEOUT: Final = 7 * 86_400.0
SHORTEST_TIMEOUT: Final = 0.001


def require_request(given: object) -> LLMRequest:
    """Return *given* if it is a request.

    Raises:
        InvalidRequest: it is something else.
    """
    if isinstance(given, LLMRequest):
        return given
    message = f"A request is an LLMRequest, not {type(given).__name__}."
    raise InvalidRequest(message, next_step="Pass LLMRequest(provider=..., model=..., prompt=...).")


def require_ticket_id(given: object) -> str:
    """Return *given* if it can be a ticket's id.

    Raises:
        InvalidRequest: it is something else, such as the ticket itself.
    """
    if isinstance(given, str):
        return given
    message = f"A ticket is named by its id, not by {type(given).__name__}."
    raise InvalidRequest(message, next_step="Pass ticket.id; the ticket is the one of the Pending outcome.")


def seconds_of(given: object, *, at_least: float = SHORTEST_TIMEOUT) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidRequest: it is no duration, or out of range.
    """
    number = given.total_seconds() if isinstance(given, timedelta) else given
    seconds = float(number) if isinstance(number, (int, float)) else math.nan
    if not at_least <= seconds <= LONGEST_TIMEOUT:
        shown = f"{seconds:g} s" if isinstance(number, (int, float)) else type(given).__name__
        message = f"A timeout of {shown} cannot be used."
        raise InvalidRequest(message, next_step=f"Give {at_least:g} to {LONGEST_TIMEOUT:g} seconds, or a timedelta.")
    return seconds
