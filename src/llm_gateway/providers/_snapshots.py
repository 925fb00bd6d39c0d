"""Which served model counts as the one that was asked for."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_snapshot"]

# gpt-4o -> gpt-4o-2024-08-06; claude-haiku-4-5 -> claude-haiku-4-5-20251001; gpt-4 -> gpt-4-0613
# Endings of an alias that its snapshots do not have: claude-sonnet-4-0 -> claude-sonnet-4-20250514
ENDINGS: Final = ("-latest", "-0")
DATE: Final = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|\d{4})", re.ASCII)


def is_snapshot(served: str, *, of: str) -> bool:
    """Whether *served* is the model *of*, or a dated snapshot of that alias. Nothing else is: not a mini, not a pro."""
    return served == of or any(
        served.startswith(alias) and DATE.fullmatch(served.removeprefix(alias)) is not None
        for alias in (of, *(of.removesuffix(ending) for ending in ENDINGS if of.endswith(ending)))
    )
