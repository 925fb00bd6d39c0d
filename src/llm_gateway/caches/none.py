"""No response cache: what production runs with."""

from __future__ import annotations

from llm_gateway._core.environments import EVERYWHERE, Environment
from llm_gateway.protocols import ResponseCache

__all__ = ["NoCache"]


class NoCache(ResponseCache):
    """Holds nothing, so there is nothing to replay."""

    __slots__ = ()

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Everywhere."""
        return EVERYWHERE

    async def get(self, key: str) -> bytes | None:
        """Find nothing."""
        return None

    async def put(self, key: str, entry: bytes) -> None:
        """Keep nothing."""

    async def clear(self) -> int:
        """Remove nothing."""
        return 0
