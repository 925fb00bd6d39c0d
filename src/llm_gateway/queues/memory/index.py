"""Keys in the order of a number."""

from __future__ import annotations

from bisect import bisect_left, insort
from itertools import count

__all__ = ["SortedIndex"]


class SortedIndex:
    """Ticket ids by deadline or by tag, first put first among equals.

    Finding and ranking take O(log n). Adding or removing in the middle also moves a block of pointers, which stays
    in the microseconds for the depth a process holds; at both ends, where nearly all changes are, it moves nothing.
    """

    __slots__ = ("_entries", "_head", "_known", "_ties")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, str]] = []
        self._known: dict[str, tuple[float, int, str]] = {}
        self._head = 0
        self._ties = count()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def put(self, key: str, order: float) -> None:
        """Add a key, or move it."""
        self.discard(key)
        entry = (order, next(self._ties), key)
        self._known[key] = entry
        insort(self._entries, entry, lo=self._head)

    def discard(self, key: str) -> None:
        """Remove a key if it is there."""
        entry = self._known.pop(key, None)
        if entry is None:
            return
        place = bisect_left(self._entries, entry, lo=self._head)
        if place > self._head:
            del self._entries[place]
            return
        self._head += 1
        if self._head * 2 > len(self._entries):
            del self._entries[: self._head]
            self._head = 0

    def first(self) -> tuple[float, str] | None:
        """Return the least number and its key."""
        if not self._known:
            return None
        order, _, key = self._entries[self._head]
        return order, key

    def due(self, until: float, limit: int | None = None) -> list[str]:
        """Return up to *limit* keys whose number is not above *until*, least first."""
        end = bisect_left(self._entries, (until, next(self._ties), ""), lo=self._head)
        if limit is not None:
            end = min(end, self._head + limit)
        return [key for _, _, key in self._entries[self._head : end]]

    def rank(self, key: str) -> int | None:
        """Return how many keys stand before this one; ``None`` when it is not here."""
        entry = self._known.get(key)
        return None if entry is None else bisect_left(self._entries, entry, lo=self._head) - self._head
