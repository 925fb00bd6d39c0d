"""What several processes were told, and whether one queue can have told them all that."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE
from typing import Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

__all__ = ["Actor", "History", "actor"]

SCRIPT: Final = Path(__file__).with_name("actor.py")
LINE: Final = 100_000
TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})
Fact = Mapping[str, object]


@dataclass(slots=True)
class History:
    """Everything that was told, of all processes, those that were killed too."""

    facts: list[Fact] = field(default_factory=list[Fact])
    _told: anyio.Event = field(default_factory=anyio.Event)

    def add(self, fact: Fact) -> None:
        """Take note, and wake who waits for it."""
        self.facts.append(fact)
        told, self._told = self._told, anyio.Event()
        told.set()

    async def until(self, holds: Callable[[], object]) -> None:
        """Return once something holds of what was told."""
        while not holds():
            await self._told.wait()

    def of(self, what: str) -> list[Fact]:
        """Return the facts of one kind."""
        return [fact for fact in self.facts if fact["what"] == what]

    def accepted(self) -> dict[str, str]:
        """Return the tickets that were acknowledged, by key.

        Raises:
            AssertionError: one key had two tickets.
        """
        tickets = dict[str, str]()
        for fact in self.of("accepted"):
            key, ticket = str(fact["key"]), str(fact["ticket"])
            assert tickets.setdefault(key, ticket) == ticket, f"{key} has two tickets"
        return tickets

    def delivered(self) -> dict[str, dict[int, Fact]]:
        """Return the events by ticket and version; those that were told again must be the same.

        Raises:
            AssertionError: two events of one version differ.
        """
        events = defaultdict[str, dict[int, Fact]](dict)
        for fact in self.of("event"):
            version = fact["version"]
            assert isinstance(version, int)
            known = events[str(fact["ticket"])].setdefault(version, fact)
            assert known == fact, f"an event was told in two ways: {known} and {fact}"
        return events

    def check(self) -> None:
        """Check that each acknowledged ticket ended once, with one result, and that its events are complete.

        Raises:
            AssertionError: something was lost, stuck or told twice.
        """
        events, finished = self.delivered(), defaultdict[str, set[str]](set)
        for fact in self.of("finished"):
            finished[str(fact["ticket"])].add(str(fact["result"]))
        for key, ticket in self.accepted().items():
            told = events.get(ticket, {})
            assert sorted(told) == list(range(1, len(told) + 1)), f"the events of {key} have gaps: {sorted(told)}"
            ends = [fact for _, fact in sorted(told.items()) if fact["state"] in TERMINAL]
            assert [fact["state"] for fact in ends] == ["completed"], f"{key} ended as {ends}"
            result = str(ends[0]["result"])
            assert result.startswith(f"{key} by "), f"{key} has another's result: {result}"
            # A worker may be killed before it hears that its finish was accepted, but no two can have heard it.
            assert finished[ticket] <= {result}, f"{key} has two results: {finished[ticket]} and {result}"
        # What was stored for a submitter that was killed before it heard so may still be under way.
        for ticket in set(events) - set(self.accepted().values()):
            assert sum(fact["state"] in TERMINAL for fact in events[ticket].values()) <= 1, f"{ticket} ended twice"

    def settled(self) -> bool:
        """Whether each acknowledged ticket has been told to have ended."""
        ended = {fact["ticket"] for fact in self.of("event") if fact["state"] in TERMINAL}
        return set(self.accepted().values()) <= ended


@dataclass(slots=True)
class Actor:
    """One process, whose lines go into the history."""

    process: Process
    history: History
    lines: BufferedByteReceiveStream

    async def line(self) -> Fact:
        """Return its next line."""
        fact: Fact = json.loads(await self.lines.receive_until(b"\n", LINE))
        self.history.add(fact)
        return fact

    async def follow(self, *, until: str | None = None) -> None:
        """Read its lines until it ends, or says so."""
        try:
            while (await self.line())["what"] != until:
                pass
        except (anyio.EndOfStream, anyio.IncompleteRead, anyio.ClosedResourceError):
            return

    async def go(self) -> None:
        """Tell it to go on."""
        assert self.process.stdin is not None
        await self.process.stdin.send(b"\n")


@asynccontextmanager
async def actor(history: History, role: str, *where: str, number: int = 0) -> AsyncGenerator[Actor]:
    """Start a process; it is killed at the latest at the end. *where*: URL, namespace, durability."""
    command = [sys.executable, str(SCRIPT), role, *where, str(number)]
    async with await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None) as process:
        assert process.stdout is not None
        try:
            yield Actor(process, history, BufferedByteReceiveStream(process.stdout))
        finally:
            if process.returncode is None:
                process.kill()
