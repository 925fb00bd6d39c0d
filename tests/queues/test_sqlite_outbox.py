"""The outbox of the queue file, beside the contract: it is shared, and it may be damaged."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from tests.queues.files import bench, sql

from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import LEASE, PATIENCE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue lies."""
    return tmp_path / "queue.db"


async def test_lead_outlives_the_queue_that_took_it(path: Path) -> None:
    """The right to relay is shared by all processes: it holds while its time lasts, whoever opens the file."""
    clock = FakeClock()
    async with bench(path, clock=clock) as b:
        assert await b.queue.lead(0, "one", LEASE)
    async with bench(path, clock=clock) as b:
        assert not await b.queue.lead(0, "two", LEASE)
        clock.advance(LEASE)
        assert await b.queue.lead(0, "two", LEASE)


async def test_damaged_event_holds_up_nobody(path: Path) -> None:
    """A relay is woken by an event although those before it are damaged, and is given all that can be read."""
    async with bench(path) as b:
        broken, sound = await b.put(), await b.put()
        await sql(b, "UPDATE events SET at = 'x' WHERE job = (SELECT id FROM jobs WHERE ticket = ?)", broken.ticket_id)
        with anyio.fail_after(PATIENCE):
            await b.queue.wait_unrelayed(0)
        assert [event.ticket_id for event in await b.queue.unrelayed(0, limit=1)] == [sound.ticket_id]
        assert (await b.queue.stats()).outbox_oldest_at == sound.updated_at
