"""What a wire file reads out of a vendor's answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NoReturn

from llm_gateway._core.responses import FinishReason, Usage
from llm_gateway._facts import Fault, Sent
from llm_gateway.errors import ErrorInfo, MalformedResponse

__all__ = ["Reading", "refuse_reading"]

EARLIEST: Final = 946_684_800
LATEST: Final = 32_503_680_000


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

    @property
    def created_at(self) -> datetime | None:
        """``created`` as a time; ``None`` where the vendor gives none that can be meant."""
        if self.created is None or not EARLIEST <= self.created <= LATEST:
            return None
        return datetime.fromtimestamp(self.created, UTC)


def refuse_reading(reason: str, request_id: str | None = None) -> NoReturn:
    """Refuse an answer that is not what the vendor's protocol allows.

    Raises:
        MalformedResponse: always.
    """
    info = ErrorInfo(fault=Fault.MALFORMED, provider_request_id=request_id, sent=Sent.YES)
    message = f"The answer {reason}."
    raise MalformedResponse(message, info=info)
