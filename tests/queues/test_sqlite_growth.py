"""The queue file keeps nothing of the jobs that have gone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.queues.files import bench, sql

from llm_gateway._core.jobs import Fail
from llm_gateway.options import QueueOptions
from llm_gateway.queues.sqlite.schema import joined
from llm_gateway.testing.conformance.bench import BOOM, LANE, TENANT, Bench

MINUTE = timedelta(seconds=60)
SHORT = QueueOptions(result_retention=MINUTE, dead_letter_retention=MINUTE)
ENDED = 100.0
DAYS = 24 * 3600


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue lies."""
    return tmp_path / "queue.db"


async def rows(b: Bench, table: str) -> int:
    """Count the rows of a table."""
    ((count,),) = await sql(b, joined("SELECT count(*) FROM", table))
    assert isinstance(count, int)
    return count


async def forget(b: Bench) -> None:
    """Let everything that has ended be buried and forgotten."""
    b.clock.advance(ENDED + MINUTE.total_seconds() + 1)
    for _ in range(3):
        await b.queue.sweep()


@pytest.mark.parametrize("end", ["cancel", "expire"])
async def test_flows_go_with_the_last_job_of_a_lane(path: Path, end: str) -> None:
    """In a lane that nobody claims from the flows of its tenants go when its jobs have ended, not before."""
    async with bench(path, outbox=False) as b:
        views = [await b.put(b.job(ttl=ENDED, tenant=f"tenant-{number}")) for number in range(20)]
        await b.queue.sweep()
        assert 20 == await rows(b, "flows")
        if end == "cancel":
            for view in views:
                await b.queue.cancel(view.tenant, view.ticket_id)
        else:
            b.clock.advance(ENDED)
        await b.queue.sweep()
        assert 0 == await rows(b, "flows")


async def test_held_group_goes_with_its_last_job(path: Path) -> None:
    """A group is held while any job of it is kept, and forgotten when the last one is."""
    async with bench(path, SHORT, outbox=False) as b:
        lease = await b.take(replace(b.job(ttl=ENDED), group="g"))
        await b.queue.finish(lease, Fail(error=BOOM, park_group="model_changed"))
        late = await b.put(replace(b.job(ttl=3 * ENDED), group="g"))
        await forget(b)
        assert ([], 1) == (await b.claim(9), (await b.lane()).parked)
        assert (1, 1) == (await rows(b, "jobs"), await rows(b, "parked_groups"))
        await b.queue.cancel(TENANT, late.ticket_id)
        await forget(b)
        await forget(b)
        assert (0, 0) == (await rows(b, "jobs"), await rows(b, "parked_groups"))


async def test_pin_goes_90_days_after_its_use(path: Path) -> None:
    """A pin that is asked for stays, one that nobody asks for any more goes."""
    async with bench(path) as b:
        for group in ("used", "left"):
            await b.queue.pin(TENANT, group, LANE, "m-1")
        b.clock.advance(60 * DAYS)
        await b.queue.pin(TENANT, "used", LANE, "m-2")
        b.clock.advance(60 * DAYS)
        await b.queue.sweep()
        assert 1 == await rows(b, "pins")
        assert ["m-1", "m-2"] == [await b.queue.pin(TENANT, group, LANE, "m-2") for group in ("used", "left")]
