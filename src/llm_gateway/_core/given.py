"""Refusing what a caller hands in by mistake, with the word that helps."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Final, TypeGuard, cast

from llm_gateway._core.checked import was_validated
from llm_gateway._core.requests import LLMRequest
from llm_gateway.errors import InvalidRequest

__all__ = [
    "LONGEST_TIMEOUT",
    "require_choice",
    "require_cursor",
    "require_name",
    "require_request",
    "require_requests",
    "require_ticket_id",
    "require_whole",
    "seconds_of",
]

LONGEST_TIMEOUT: Final = 7 * 86_400.0
SHORTEST_TIMEOUT: Final = 0.001
LONGEST_NAME: Final = 255


def require_request(given: object) -> LLMRequest:
    """Return *given* if it is a request, validated if it is a copy that was not.

    Raises:
        InvalidRequest: it is something else, or a copy with a value that cannot be used.
    """
    if isinstance(given, LLMRequest):
        return given if was_validated(given) else type(given).model_validate(given)
    message = f"A request is an LLMRequest, not {type(given).__name__}."
    raise InvalidRequest(message, next_step="Pass LLMRequest(provider=..., model=..., prompt=...).")


def require_requests(given: object) -> Iterable[object]:
    """Return *given* if it can hold requests; what it holds is looked at one by one.

    Raises:
        InvalidRequest: it is nothing to go through, or a single request.
    """
    kind = type(given).__name__
    # A request and a text can be gone through too, field by field and letter by letter.
    if isinstance(given, Iterable) and not isinstance(given, (LLMRequest, str, bytes, Mapping)):
        return cast("Iterable[object]", given)
    message = f"Requests come as a list of LLMRequest, not as {kind}."
    raise InvalidRequest(message, next_step="Pass a list, also of a single request.")


def require_ticket_id(given: object) -> str:
    """Return *given* if it can be a ticket's id.

    Raises:
        InvalidRequest: it is something else, such as the ticket itself.
    """
    if _is_text(given):
        return given
    what = "text with a lone surrogate" if isinstance(given, str) else type(given).__name__
    message = f"A ticket is named by its id, not by {what}."
    raise InvalidRequest(message, next_step="Pass ticket.id; the ticket is the one of the Pending outcome.")


def require_name(given: object, what: str) -> str:
    """Return *given* if it can name a tenant, a group or a subject.

    Raises:
        InvalidRequest: it is no text, or empty, or too long, or no store could keep it.
    """
    if _is_text(given) and 0 < len(given) <= LONGEST_NAME:
        return given
    message = f"A {what} is named by 1 to {LONGEST_NAME} characters, none of them a lone surrogate."
    raise InvalidRequest(message, next_step=f"Pass the name of the {what} as text.")


def require_cursor(given: object) -> str:
    """Return *given* if it can be an event's cursor; whose it is, the queue knows.

    Raises:
        InvalidRequest: it is something else, such as the event itself.
    """
    if _is_text(given):
        return given
    message = f"A place in the stream of events is a cursor, and {type(given).__name__} is none."
    raise InvalidRequest(message, next_step="Pass event.cursor of the last event that was received, or none.")


def require_whole(given: object, what: str, *, at_least: int) -> int:
    """Return *given* if it is a whole number of *what*.

    Raises:
        InvalidRequest: it is something else, or too low.
    """
    # True would pass for 1, and is more likely a slip.
    if isinstance(given, int) and not isinstance(given, bool) and given >= at_least:
        return given
    message = f"{what} is a whole number of at least {at_least}."
    raise InvalidRequest(message, next_step=f"Give {what} as an int, or leave it out.")


def require_choice(given: object, what: str, choices: Collection[str]) -> str:
    """Return *given* if it is one of the *choices*.

    Raises:
        InvalidRequest: it is none of them.
    """
    if isinstance(given, str) and given in choices:
        return given
    message = f"{what} is one of {', '.join(map(repr, choices))}."
    raise InvalidRequest(message, next_step=f"Give {what} as one of these, or leave it out.")


def seconds_of(given: object, *, at_least: float = SHORTEST_TIMEOUT) -> float:
    """Return a duration in seconds.

    Raises:
        InvalidRequest: it is no duration, or out of range.
    """
    number = given.total_seconds() if isinstance(given, timedelta) else given
    # True would pass for a second.
    seconds = _float(number) if isinstance(number, (int, float)) and not isinstance(number, bool) else None
    if seconds is None or not at_least <= seconds <= LONGEST_TIMEOUT:
        shown = f"{seconds:g} s" if seconds is not None else type(given).__name__
        message = f"A timeout of {shown} cannot be used."
        raise InvalidRequest(message, next_step=f"Give {at_least:g} to {LONGEST_TIMEOUT:g} seconds, or a timedelta.")
    return seconds


def _float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:  # an int of more digits than a float has room for
        return math.inf


def _is_text(given: object) -> TypeGuard[str]:
    """Whether *given* is text that can be written: a lone surrogate, half a character, cannot."""
    if not isinstance(given, str):
        return False
    try:
        given.encode()
    except UnicodeEncodeError:
        return False
    return True
