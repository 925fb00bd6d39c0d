"""What is the queue file's own, beside the contract: opening, closing, sharing commits, being cancelled."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from tests.queues.files import SECOND, OpenQueue, bench, content, fill, modes_beside, sql

from llm_gateway._core.environments import EVERYWHERE
from llm_gateway._core.jobs import Complete
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import (
    ConfigurationError,
    DurabilityUnknown,
    QueueError,
    QueueUnavailable,
)
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.queues.sqlite.ledger import Ledger
from llm_gateway.queues.sqlite.mounts import network_filesystem
from llm_gateway.queues.sqlite.tally import Tally
from llm_gateway.queues.sqlite.wakes import Changes
from llm_gateway.queues.sqlite.writer import Writer
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import LANE, LEASE, TENANT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the queue lies."""
    return tmp_path / "queue.db"


def test_is_durable_and_may_run_everywhere(path: Path) -> None:
    """It says that it is durable and where it may run, and touches nothing before it is started."""
    queue = SqliteQueue(path)
    assert (queue.durable, queue.allowed_in) == (True, EVERYWHERE)
    assert repr(queue) == "<SqliteQueue queue.db closed>"
    assert b"SQLite" not in content(path)


@pytest.mark.parametrize("name", ["", ":memory:", "file:queue.db?mode=memory"])
def test_needs_the_path_of_a_file(name: str) -> None:
    """A queue that would not be a file is refused."""
    with pytest.raises(ConfigurationError):
        SqliteQueue(name)


async def test_everything_is_there_after_a_restart(path: Path) -> None:
    """Jobs, leases, results, gates, pins, counts and the outbox outlive the queue that wrote them."""
    clock = FakeClock()
    async with bench(path, clock=clock) as b:
        done = await b.take(replace(b.job("done"), group="g", subjects=("s",), echo=b'{"a": 1}'))
        await b.queue.finish(done, Complete(result=b"answer", attempt=b.attempt()))
        held = await b.take(b.job("held"))
        await b.queue.pin(TENANT, "g", LANE, "m-1")
        await b.queue.pause(LANE)
        before = (await b.queue.stats(), await b.queue.list_jobs(), await b.unrelayed())
    async with bench(path, clock=clock) as b:
        assert (await b.queue.stats(), await b.queue.list_jobs(), await b.unrelayed()) == before
        assert await b.queue.result(TENANT, done.job.ticket_id) == b"answer"
        assert await b.queue.pin(TENANT, "g", LANE, "m-2") == "m-1"
        assert (await b.queue.finish(held, Complete(result=b"x"))).accepted


async def test_leases_of_before_a_reboot_are_void(path: Path) -> None:
    """A lease given by a monotonic clock that is ahead of this one was given before the machine last started."""
    clock = FakeClock()
    clock.advance(1000)
    async with bench(path, clock=clock) as b:
        await b.take()
        assert await b.queue.lead(0, "before", LEASE)
    async with bench(path, clock=FakeClock()) as b:
        assert (await b.queue.sweep()).recovered == 1
        assert await b.queue.lead(0, "after", LEASE)


async def test_wall_clock_jump_costs_no_lease(path: Path) -> None:
    """A jump of the wall clock does not make a lease lapse."""
    async with bench(path) as b:
        lease = await b.take()
        b.clock.jump_wall(LEASE * 2)
        assert (await b.queue.sweep()).recovered == 0
        await b.complete(lease)


async def test_only_the_owner_may_read_the_file(path: Path) -> None:
    """The file and those beside it are readable by their owner alone, and commits wait for the disk."""
    async with bench(path) as b:
        await b.put()
        assert modes_beside(path) == {0o600}
        assert await sql(b, "PRAGMA synchronous") == [(2,)]
        assert await sql(b, "PRAGMA journal_mode") == [("wal",)]


MOUNTS = """\
/dev/vda / ext4 rw 0 0
server:/export /srv/shared nfs4 rw 0 0
//server/share /srv/office\\040files cifs rw 0 0
me@host: /srv/remote fuse.sshfs rw 0 0
/dev/vdb /srv/shared/local xfs rw 0 0
gvfs /srv/local-fuse fuse.bindfs rw 0 0
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/var/queue.db", None),
        ("/srv/shared/queue.db", "nfs4"),
        ("/srv/shared-not/queue.db", None),
        ("/srv/office files/queue.db", "cifs"),
        ("/srv/remote/deep/queue.db", "fuse.sshfs"),
        ("/srv/shared/local/queue.db", None),
        ("/srv/local-fuse/queue.db", None),
        ("//server/share/queue.db", "UNC path"),
    ],
)
def test_network_filesystems_are_recognised(place: str, kind: str | None) -> None:
    """The nearest mount point tells what a path lies on."""
    assert network_filesystem(Path(place), MOUNTS) == kind


async def test_network_filesystem_is_refused(path: Path, tmp_path: Path) -> None:
    """A file on a network filesystem is refused, saying why, and is not made."""
    table = tmp_path / "mounts"
    table.write_text(f"server:/export {tmp_path} nfs rw 0 0\n")
    with pytest.raises(ConfigurationError, match=r"network filesystem \(nfs\)"):
        await SqliteQueue(path, mount_table=table).start(outbox=False)
    assert b"SQLite" not in content(path)


async def test_missing_folder_is_refused(tmp_path: Path) -> None:
    """A path in no folder is refused, and says so again when tried again."""
    queue = SqliteQueue(tmp_path / "no" / "queue.db", mount_table=tmp_path / "none")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            await queue.start(outbox=False)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["PRAGMA application_id = 1280068945", "PRAGMA user_version = 99"], "schema version 99"),
        (["CREATE TABLE theirs (a)"], "not one of this queue"),
    ],
)
async def test_foreign_file_is_refused(path: Path, statements: list[str], words: str) -> None:
    """A file of another version or of somebody else is refused and left as it was."""
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
    before = content(path)
    with pytest.raises(ConfigurationError, match=words):
        await SqliteQueue(path).start(outbox=False)
    assert content(path) == before


async def test_file_that_is_no_database_is_refused(path: Path) -> None:
    """A file with other content is refused and left as it was."""
    fill(path, b"Dear diary, " * 1000)
    with pytest.raises(ConfigurationError, match="no database"):
        await SqliteQueue(path).start(outbox=False)
    assert content(path) == b"Dear diary, " * 1000


async def test_failing_caller_takes_nobody_with_it(path: Path) -> None:
    """Of callers that share a commit, one that fails undoes its own writes alone."""
    async with bench(path) as b:
        assert isinstance(b.queue, OpenQueue)
        queue, replies = b.queue, dict[str, object]()

        def half_done(ledger: Ledger) -> None:
            ledger.insert(b.job("half-done"))
            ledger.db.execute("SELECT no_such_column FROM jobs")

        async def fail() -> None:
            with pytest.raises(QueueUnavailable, match="SQLITE_ERROR"):
                await queue.do(half_done)

        async def put(key: str) -> None:
            replies[key] = (await b.put(b.job(key))).state

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put, "before")
            tasks.start_soon(fail)
            tasks.start_soon(put, "after")
        assert replies == {"before": TicketState.QUEUED, "after": TicketState.QUEUED}
        assert await queue.find(TENANT, "half-done") is None
        assert (await queue.stats()).depth == 2


async def test_full_disk_stores_nothing(path: Path) -> None:
    """When the disk is full a submit is refused as not stored, and goes through once there is room."""
    async with bench(path) as b:
        await b.put(b.job("first"))
        ((pages,),) = await sql(b, "PRAGMA page_count")
        await sql(b, f"PRAGMA max_page_count = {pages}")
        big = replace(b.job("big"), payload=b"x" * 1_000_000)
        with pytest.raises(QueueUnavailable, match="SQLITE_FULL"):
            await b.queue.enqueue(big)
        assert await b.queue.find(TENANT, "big") is None
        await sql(b, "PRAGMA max_page_count = 1000000")
        await b.put(big)
        assert (await b.queue.stats()).depth == 2


@pytest.mark.parametrize("job", [None, "adopted"])
async def test_cancelled_submit_is_found_by_its_key(path: Path, job: str | None) -> None:
    """A submit whose caller was cancelled is stored or not; the same key finds or makes its one ticket."""
    async with bench(path) as b:
        wanted = b.job(job or "k")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.queue.enqueue, wanted)
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        again = await b.queue.enqueue(wanted)
        assert again.job.ticket_id == wanted.ticket_id
        assert (await b.queue.stats()).depth == 1
        assert [event.version for event in await b.told(wanted.ticket_id)] == [1]


async def test_cancelled_claim_goes_back(path: Path) -> None:
    """What a cancelled claim was given goes back without a crash or an attempt, and its claim id can be used again."""
    async with bench(path) as b:
        await b.put()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: b.claim(claim_id="c"))
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        (lease,) = await b.claim(claim_id="c")
        assert (lease.job.attempts, lease.job.crashes, lease.job.history) == (0, 0, ())
        await b.complete(lease)


async def test_cancelled_finish_is_replayed(path: Path) -> None:
    """A finish whose caller was cancelled can be asked again with its token."""
    async with bench(path) as b:
        lease = await b.take()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.queue.finish, lease, Complete(result=b"answer"))
            await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert (await b.queue.finish(lease, Complete(result=b"answer"))).replayed
        assert [event.version for event in await b.told(lease.job.ticket_id)] == [1, 2, 3]


async def test_waits_that_are_cancelled_leave_nothing_behind(path: Path) -> None:
    """Waits that are cancelled disturb nobody, leave no sleeper and end the watch on the file."""
    async with bench(path) as b:
        view = await b.put(replace(b.job(), not_before=b.clock.now() + 10 * SECOND))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(b.queue.wait_ready)
            tasks.start_soon(lambda: b.queue.wait(TENANT, view.ticket_id, beyond=1))
            await anyio.lowlevel.checkpoint()
            await b.queue.stats()
            tasks.cancel_scope.cancel()
        assert b.clock.sleepers == 0
        assert isinstance(b.queue, OpenQueue)
        assert b.queue.waiting == 0


async def test_worker_woken_by_time_waits_again(path: Path) -> None:
    """A worker that was woken by time is not woken again until something changes."""
    async with bench(path) as b:
        await b.put(replace(b.job(), not_before=b.clock.now() + SECOND))
        b.clock.advance(1)
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(b.queue.wait_ready)
                await b.queue.stats()
                await b.put()
        with anyio.move_on_after(0) as scope:
            await b.queue.wait_ready()
        assert scope.cancelled_caught


def test_second_event_loop_is_refused(path: Path) -> None:
    """A queue that was started in one event loop refuses another with an error that says so."""
    queue = SqliteQueue(path)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(queue.start(outbox=False))
        with pytest.raises(QueueError, match="another event loop"):
            second.run(queue.stats())
        first.run(queue.aclose())
        second.run(queue.start(outbox=False))
        assert second.run(queue.stats()).depth == 0
        second.run(queue.aclose())


def test_loop_that_ended_without_closing_does_not_hang_the_next(path: Path) -> None:
    """A queue whose loop is gone can be closed and started again in another."""
    queue = SqliteQueue(path)
    asyncio.run(queue.start(outbox=False))
    asyncio.run(queue.aclose())
    asyncio.run(restarted(queue))


async def restarted(queue: SqliteQueue) -> None:
    """Start, look, close."""
    await queue.start(outbox=False)
    assert (await queue.stats()).depth == 0
    await queue.aclose()


async def test_closed_queue_takes_nothing_and_closes_again(path: Path) -> None:
    """A queue that was not started, or was closed, refuses work; closing twice is no error."""
    queue = SqliteQueue(path)
    with pytest.raises(QueueUnavailable):
        await queue.stats()
    await queue.start(outbox=False)
    await queue.start(outbox=False)
    await queue.aclose()
    await queue.aclose()
    with pytest.raises(QueueUnavailable):
        await queue.stats()


async def test_closing_finishes_what_was_handed_over(path: Path) -> None:
    """A submit that was under way when the queue closed is stored."""
    async with bench(path) as b:
        jobs = [b.job() for _ in range(50)]
        async with anyio.create_task_group() as tasks:
            for job in jobs:
                tasks.start_soon(b.queue.enqueue, job)
            await anyio.lowlevel.checkpoint()
            await b.queue.aclose()
    async with bench(path) as b:
        assert (await b.queue.stats()).depth == 50


class Ledgerless:
    """A file without a queue, to see what becomes of a commit that fails."""

    def __init__(self) -> None:
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.tally = Tally(self.db)
        self.db.execute("PRAGMA foreign_keys = ON")
        self.db.execute(
            "CREATE TABLE a (id INTEGER PRIMARY KEY, up INTEGER REFERENCES a DEFERRABLE INITIALLY DEFERRED)"
        )

    def tidy(self) -> None:
        """Nothing to drop."""

    def changes(self) -> Changes:
        """Nothing to tell."""
        return Changes()


async def test_commit_that_fails_leaves_the_outcome_open() -> None:
    """When the commit itself fails, whoever shared it is told that the outcome is unknown, and work goes on after."""
    files = list[Ledgerless]()

    def opened() -> Ledgerless:
        files.append(Ledgerless())
        return files[0]

    writer = Writer(opened)
    await writer.start()
    # The reference leads nowhere, which is noticed at the commit.
    with pytest.raises(DurabilityUnknown):
        await writer.run(lambda: files[0].db.execute("INSERT INTO a VALUES (1, 7)"))
    await writer.run(lambda: files[0].db.execute("INSERT INTO a VALUES (2, 2)"))
    rows = await writer.run(lambda: files[0].db.execute("SELECT id FROM a").fetchall(), writes=False)
    assert rows == [(2,)]
    writer.close()
    await writer.ended()


async def test_fork_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was forked from the one that started the queue is refused."""
    async with bench(path) as b:
        with monkeypatch.context() as forked:
            forked.setattr(os, "getpid", lambda: -1)
            with pytest.raises(QueueError, match="fork"):
                await b.queue.stats()
        assert (await b.queue.stats()).depth == 0


async def test_outbox_is_written_by_all_who_share_the_file(path: Path) -> None:
    """A process that publishes nothing writes the outbox of one that does, whichever opened the file first."""
    async with bench(path, outbox=False) as worker:
        before = await worker.take()
        async with bench(path, clock=worker.clock) as service:
            await worker.complete(before)
            (event,) = await service.told(before.job.ticket_id)
            assert event.state is TicketState.COMPLETED
    async with bench(path, outbox=False) as later:
        assert (await later.queue.stats()).outbox == 1
        after = await later.put(later.job("another"))
        assert len(await later.told(after.ticket_id)) == 1
