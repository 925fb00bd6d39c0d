"""Signs that an answer was served from an intermediary's cache: what proves it, what only suggests it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FreshnessProfile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessProfile:
    """Which suspicions are as good as proof at a provider, because it is known to keep that field unique.

    Attributes:
        unique_response_ids: A repeated response id is proof.
        truthful_created: A creation time well before sending is proof.
        counts_usage: Text with zero usage is proof.
    """

    unique_response_ids: bool = False
    truthful_created: bool = False
    counts_usage: bool = False
