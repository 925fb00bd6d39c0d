"""What an examination found, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Level"]

Level = Literal["ok", "warning", "failure", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What was looked at.
        level: How it stands; ``unknown`` when that could not be found out.
        detail: What was found.
        next_step: What to change; empty when nothing.
    """

    name: str
    level: Level
    detail: str
    next_step: str = ""
