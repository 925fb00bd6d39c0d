"""Events and their cursors, as every queue writes them."""

from __future__ import annotations

from typing import Final

from llm_gateway._core.jobs import JobEvent, JobView
from llm_gateway.errors import InvalidRequest

__all__ = ["LOG_LENGTH", "concerns", "cursor_of", "event_of", "number_of", "scrubbed"]

LOG_LENGTH: Final = 10_000
MOST_DIGITS: Final = 18  # what a store can hold as a number


def event_of(view: JobView, result: bytes | None, number: int) -> JobEvent:
    """Return the event that tells where a job stands."""
    return JobEvent(
        cursor=cursor_of(number),
        ticket_id=view.ticket_id,
        tenant=view.tenant,
        version=view.version,
        state=view.state,
        reason=view.reason,
        group=view.group,
        at=view.updated_at,
        view=view,
        result=result,
    )


def cursor_of(number: int) -> str:
    """Write the number of an event so that text sorts as numbers do."""
    return f"{number:016d}"


def number_of(cursor: str) -> int:
    """Read a cursor.

    Raises:
        InvalidRequest: when it is none of ours.
    """
    if len(cursor) <= MOST_DIGITS and cursor.isascii() and cursor.isdigit():
        return int(cursor)
    message = "The cursor of an event is not one that this queue gave out."
    raise InvalidRequest(message, next_step="Pass the cursor of the last event that was received, or none.")


def scrubbed(view: JobView) -> JobView:
    """Return what may remain of a job once its content is gone."""
    return view._replace(echo=b"{}", history=(), subjects=(), error=None, reason=None, position=None)


def concerns(what: JobEvent | JobView, tenant: str, group: str | None) -> bool:
    """Whether a watcher of this tenant and group is to see it."""
    return what.tenant == tenant and group in (None, what.group)
