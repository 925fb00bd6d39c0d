"""Ticket ids: 26 characters that sort by time and cannot be guessed."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Final

__all__ = ["ulid"]

CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters at a time take half as long.
PAIRS: Final = tuple(one + other for one in CROCKFORD for other in CROCKFORD)
LENGTH: Final = 26
RANDOM_BITS: Final = 80


def ulid(at: datetime) -> str:
    """Make an id of 48 bits of milliseconds and 80 random bits, in Crockford's base 32."""
    number = (int(at.timestamp() * 1000) << RANDOM_BITS) | secrets.randbits(RANDOM_BITS)
    return "".join([PAIRS[(number >> shift) & 1023] for shift in range((LENGTH - 2) * 5, -1, -10)])
