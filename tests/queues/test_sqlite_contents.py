"""What lies in the queue file: damage, retention, erasure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.queues.files import SECOND, bench, content, sql

from llm_gateway._core.jobs import Fail, Release
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import (
    InvalidRequest,
    QueueError,
)
from llm_gateway.options import QueueOptions
from llm_gateway.testing.conformance.bench import BOOM, TENANT, TTL


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue lies."""
    return tmp_path / "queue.db"


DAMAGES = [
    "UPDATE jobs SET facts = '{\"history\": 5}'",
    "UPDATE jobs SET facts = '['",
    "UPDATE jobs SET priority = 'royal'",
    "UPDATE jobs SET state = 'dreaming'",
    "UPDATE jobs SET created = 'yesterday'",
    "UPDATE contents SET echo = 5",
    "UPDATE contents SET subjects = x'00'",
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_job_becomes_a_dead_letter(path: Path, damage: str) -> None:
    """A job whose row cannot be read is refused, then ends as a dead letter that says so, and holds up no other."""
    async with bench(path) as b:
        ticket = (await b.put()).ticket_id
        await sql(b, damage)
        other = await b.put()
        with pytest.raises(QueueError, match="damaged"):
            await b.view(ticket)
        assert [lease.job.ticket_id for lease in await b.claim(5)] == [other.ticket_id]
        view = await b.view(ticket)
        assert (view.state, view.error and view.error.code) == (TicketState.FAILED, "damaged")
        assert [event.state for event in await b.told(ticket)][-1] is TicketState.FAILED
        assert ((await b.queue.stats()).depth, (await b.lane()).dead) == (1, 1)


@pytest.mark.parametrize("damage", ["UPDATE jobs SET facts = '['", "UPDATE jobs SET deadline = 'never'"])
async def test_damaged_running_job_is_swept_up(path: Path, damage: str) -> None:
    """A damaged row under a lease ends when the lease lapses, once."""
    async with bench(path) as b:
        lease = await b.take()
        await sql(b, damage)
        assert [(await b.die()).dead, (await b.die()).dead] == [1, 0]
        assert await b.state(lease.job.ticket_id) is TicketState.FAILED
        assert ((await b.queue.stats()).depth, (await b.lane()).processing) == (0, 0)


@pytest.mark.parametrize(
    "damage",
    ["UPDATE jobs SET version = 'x'", "UPDATE jobs SET tenant = x'00'", "UPDATE jobs SET fingerprint = x'00'"],
)
async def test_row_beyond_mending_takes_its_counts_along(path: Path, damage: str) -> None:
    """A row of which not even a dead letter can be made goes, and takes along what was counted of it."""
    async with bench(path) as b:
        await b.put()
        await sql(b, damage)
        b.clock.advance(TTL)
        await b.queue.sweep()
        counts = await sql(b, "SELECT depth, bytes, outbox FROM totals")
        lanes = await sql(b, "SELECT ready, delayed, held, parked FROM lanes")
        rows = await sql(b, "SELECT count(*) FROM jobs")
        assert ([(0, 0, 0)], [(0, 0, 0, 0)], [(0,)]) == (counts, lanes, rows)


async def test_damaged_row_can_be_erased(path: Path) -> None:
    """Damage does not keep a subject's data in the file."""
    async with bench(path) as b:
        await b.put(replace(b.job(), subjects=("s",), payload=b"secret"))
        await sql(b, "UPDATE jobs SET facts = '['")
        assert len((await b.queue.erase(TENANT, subject="s")).tickets) == 1
        assert await sql(b, "SELECT count(*) FROM contents WHERE payload IS NOT NULL") == [(0,)]


COUNTS = [
    "SELECT count(*) FROM jobs",
    "SELECT count(*) FROM contents",
    "SELECT count(*) FROM subjects",
    "SELECT count(*) FROM events",
]


async def test_nothing_is_left_after_retention(path: Path) -> None:
    """Jobs that ended are forgotten altogether: rows, contents, subjects."""
    options = QueueOptions(result_retention=SECOND, dead_letter_retention=SECOND)
    async with bench(path, options, outbox=False) as b:
        await b.complete(await b.take(replace(b.job(), group="g", subjects=("s",), echo=b"secret")))
        await b.queue.finish(await b.take(), Fail(error=BOOM))
        await b.queue.erase(TENANT, ticket_id=(await b.put()).ticket_id)
        b.clock.advance(TTL + 2)
        await b.queue.sweep()
        for count_rows in COUNTS:
            assert await sql(b, count_rows) == [(0,)]
        assert await sql(b, "SELECT depth, bytes, outbox FROM totals") == [(0, 0, 0)]


async def test_erased_content_is_gone_from_the_file(path: Path) -> None:
    """After an erasure and a checkpoint no byte of payload, result or echo is left in the file."""
    async with bench(path, outbox=False) as b:
        lease = await b.take(replace(b.job(), payload=b"secret-payload" * 500, echo=b"secret-echo"))
        await b.complete(lease, b"secret-result" * 500)
        await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
    assert b"secret" not in content(path)


async def test_relay_learns_whom_to_tell_of_an_erased_ticket(path: Path) -> None:
    """After an erasure watchers see neither result nor echo; the relay still sees the echo until it has left."""
    async with bench(path) as b:
        lease = await b.take(replace(b.job(), echo=b"secret"))
        await b.complete(lease, b"secret")
        await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
        watched = await b.queue.events(TENANT, group=None, after="0")
        assert {(event.result, event.view.echo) for event in watched} == {(None, b"{}")}
        left = await b.unrelayed()
        assert {(event.result, event.view.echo) for event in left} == {(None, b"secret")}
        await b.relay_all()
        assert await sql(b, "SELECT count(*) FROM events WHERE echo IS NOT NULL") == [(0,)]
        b.clock.advance(TTL + QueueOptions().result_retention.total_seconds())
        await b.queue.sweep()
        assert await sql(b, "SELECT count(*) FROM jobs") == [(0,)]


async def test_log_is_bounded(path: Path) -> None:
    """The file keeps the latest 10 000 events or a few more, and all that have not left."""
    async with bench(path, outbox=False) as b:
        lease = await b.take()
        for number in range(10_500 // 2):
            await b.queue.finish(lease, Release(reason="circuit_open"))
            (lease,) = await b.claim(claim_id=f"again-{number}")
        ((kept,),) = await sql(b, "SELECT count(*) FROM events")
        assert isinstance(kept, int)
        assert 10_000 <= kept <= 10_200


@pytest.mark.parametrize("cursor", ["", "x", "-1"])
async def test_foreign_cursor_is_refused(path: Path, cursor: str) -> None:
    """A cursor that is none of this queue's is a typed error."""
    async with bench(path) as b:
        with pytest.raises(InvalidRequest):
            await b.queue.events(TENANT, group=None, after=cursor)


async def test_ticket_id_is_not_used_twice(path: Path) -> None:
    """A ticket id that is taken is refused, and the job that has it stays."""
    async with bench(path) as b:
        job = b.job("k")
        await b.put(job)
        with pytest.raises(QueueError):
            await b.queue.enqueue(replace(job, idempotency_key="other"))
        assert (await b.view(job.ticket_id)).idempotency_key == "k"
