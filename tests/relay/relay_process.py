"""A process that relays the events of a queue file: ``python relay_process.py relay|lead PATH LEASE STUCK_AFTER``.

It reports by lines. A line of input lets it go on where it is stuck; the end of the input closes it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from llm_gateway import Environment, LLMClient, Parts, TicketEvent
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import EventPublisher
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import FakeProvider


def say(*words: object) -> None:
    """Report."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


class Lines(EventPublisher):
    """Reports each event with the time of the machine, and is stuck once, after so many."""

    def __init__(self, stuck_after: int) -> None:
        self._left = stuck_after
        self.gate = asyncio.Event()

    @property
    def allowed_in(self) -> frozenset[Environment]:
        return frozenset(Environment)

    async def publish(self, event: TicketEvent) -> None:
        if self._left == 0 and not self.gate.is_set():
            say("stuck")
            await self.gate.wait()
        self._left -= 1
        say("event", time.monotonic_ns(), event.ticket_id, event.version, int(event.state.terminal), event.event_id)


async def relay(path: Path, lease: float, stuck_after: int) -> None:
    """Relay as a client does until the input ends."""
    lines = Lines(stuck_after)
    options = QueueOptions(relay_lease_seconds=lease)
    parts = Parts(environment=Environment.TESTING, publisher=lines, queue=options)
    async with LLMClient([FakeProvider()], SqliteQueue(path), parts):
        say("ready")
        while await asyncio.to_thread(sys.stdin.readline):
            lines.gate.set()
    say("closed")


async def lead(path: Path, lease: float, count: int) -> None:
    """Lead, take note of some events, and acknowledge them when told to."""
    queue = SqliteQueue(path)
    await queue.start(outbox=True)
    say("leads", await queue.lead(0, "by hand", lease))
    events = await queue.unrelayed(0, count)
    await asyncio.to_thread(sys.stdin.readline)
    say("acknowledged" if await queue.relayed(0, events[-1].cursor, "by hand") else "refused")
    await queue.aclose()


async def main() -> None:
    """Do what the command line says."""
    what = {"relay": relay, "lead": lead}[sys.argv[1]]
    await what(Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))


if __name__ == "__main__":
    asyncio.run(main())
