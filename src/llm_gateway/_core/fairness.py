"""Start-time fair queueing: who goes next, so that each gets a share by weight and nobody starves.

A flow is one tenant's jobs of one priority. A job is given the tag ``max(V, last tag of its flow) + cost / weight``
and the smallest tag goes first; the virtual time ``V`` is the largest tag served. Tags never change once given, so
no job has to be scored again, and a job waits for at most its flow's fair share of the others.
"""

from __future__ import annotations

from heapq import heappop, heappush

__all__ = ["FairShare", "Flow", "entry_tag"]

Flow = tuple[str, str]


def entry_tag(virtual: float, last: float | None, weight: int, cost: float = 1.0) -> float:
    """Return the tag of a job that enters, after the *last* of its flow; of one that comes back, after none."""
    return max(virtual, last or 0.0) + cost / weight


class FairShare:
    """Gives tags. Flows that ``V`` has passed are forgotten: they would be tagged from ``V`` anyhow."""

    __slots__ = ("_last", "_passing", "_virtual")

    def __init__(self) -> None:
        self._virtual = 0.0
        self._last: dict[Flow, float] = {}
        # One entry for each known flow: its tag when the entry was made, never above its latest.
        self._passing: list[tuple[float, Flow]] = []

    @property
    def virtual(self) -> float:
        """The virtual time: the largest tag served."""
        return self._virtual

    @property
    def flows(self) -> int:
        """How many flows are remembered."""
        return len(self._last)

    def tag(self, flow: Flow, weight: int, cost: float = 1.0) -> float:
        """Return the tag of a job that enters for the first time."""
        known = self._last.get(flow)
        tag = entry_tag(self._virtual, known, weight, cost)
        self._last[flow] = tag
        if known is None:
            heappush(self._passing, (tag, flow))
        return tag

    def reentry(self, weight: int, cost: float = 1.0) -> float:
        """Return the tag of a job that comes back: soon, yet not before what is being served now."""
        return entry_tag(self._virtual, None, weight, cost)

    def served(self, tag: float) -> None:
        """Move the virtual time up to the tag of a job that was handed out."""
        self._virtual = max(self._virtual, tag)
        while self._passing and self._passing[0][0] <= self._virtual:
            _, flow = heappop(self._passing)
            if (latest := self._last[flow]) > self._virtual:
                heappush(self._passing, (latest, flow))
            else:
                del self._last[flow]
