"""What a wire file reads out of a vendor's answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NoReturn

from pydantic import JsonValue

from llm_gateway._core.responses import FinishReason, Usage
from llm_gateway._facts import Fault, Sent
from llm_gateway.errors import ErrorInfo, MalformedResponse

__all__ = ["Reading", "count", "label", "refuse_reading", "words"]

EARLIEST: Final = 946_684_800
LATEST: Final = 32_503_680_000
LONGEST_LABEL: Final = 255
LARGEST_COUNT: Final = 10**15


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The fields of an answer that every vendor has in some form; ``created`` is a Unix time."""

    text: str = field(repr=False)
    finish_reason: FinishReason
    usage: Usage
    served_model: str | None
    response_id: str | None
    provider_request_id: str | None
    created: int | None = None
    system_fingerprint: str | None = None
    usage_counted: bool = True

    @property
    def created_at(self) -> datetime | None:
        """``created`` as a time; ``None`` where the vendor gives none that can be meant."""
        if self.created is None or not EARLIEST <= self.created <= LATEST:
            return None
        return datetime.fromtimestamp(self.created, UTC)


def words(value: JsonValue, name: str, request_id: str | None) -> str | None:
    """Return the text under *name*, or ``None`` where there is none.

    Raises:
        MalformedResponse: something else stands there.
    """
    found = value.get(name) if isinstance(value, dict) else None
    if found is not None and not isinstance(found, str):
        refuse_reading(f"has a {name} that is not text", request_id)
    return found


def label(value: JsonValue, name: str, request_id: str | None) -> str | None:
    """Return a name or an id, which stands in receipts and messages.

    Raises:
        MalformedResponse: something else stands there, or what cannot be printed as one word: it could quote a prompt.
    """
    found = words(value, name, request_id)
    if found and not (found.isprintable() and " " not in found and len(found) <= LONGEST_LABEL):
        refuse_reading(f"has a {name} that cannot be one", request_id)
    return found or None


def count(value: JsonValue, name: str, request_id: str | None) -> int:
    """Return a number of tokens, 0 where there is none.

    Raises:
        MalformedResponse: something else stands there.
    """
    found = value.get(name) if isinstance(value, dict) else None
    if found is None:
        return 0
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= LARGEST_COUNT:
        refuse_reading(f"counts {name} in a way that is no count", request_id)
    return found


def refuse_reading(reason: str, request_id: str | None = None) -> NoReturn:
    """Refuse an answer that is not what the vendor's protocol allows.

    Raises:
        MalformedResponse: always.
    """
    info = ErrorInfo(fault=Fault.MALFORMED, provider_request_id=request_id, sent=Sent.YES)
    message = f"The answer {reason}."
    raise MalformedResponse(message, info=info)
