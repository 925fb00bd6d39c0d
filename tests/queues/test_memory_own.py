"""What is the memory queue's own, beside the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count

import anyio
import pytest

from llm_gateway._core.environments import Environment
from llm_gateway._core.jobs import Fail, NewJob, Swept
from llm_gateway._core.journal import LOG_LENGTH
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import InvalidRequest, QueueError
from llm_gateway.options import QueueOptions
from llm_gateway.queues._ulid import ulid
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.queues.memory.ledger import Ledger
from llm_gateway.testing.clock import START, FakeClock, settle
from llm_gateway.testing.conformance.bench import BOOM, LEASE, TENANT, TTL, Bench

SECOND = timedelta(seconds=1)


class OpenQueue(MemoryQueue):
    """A queue that shows its inside."""

    @property
    def ledger(self) -> Ledger:
        """All that it holds."""
        return self._ledger


async def bench(options: QueueOptions | None = None, *, outbox: bool = False) -> Bench:
    """Return a started queue."""
    clock = FakeClock()
    queue = OpenQueue(options or QueueOptions(), clock=clock)
    await queue.start(outbox=outbox)
    return Bench(queue, clock, count(1))


def test_is_for_development_and_tests() -> None:
    """It says that it is not durable and where it may run."""
    queue = MemoryQueue()
    assert queue.durable is False
    assert queue.allowed_in == {Environment.DEVELOPMENT, Environment.TESTING}
    assert repr(queue) == "<MemoryQueue depth=0 lanes=0>"


def test_ticket_id_is_a_ulid() -> None:
    """A ticket id has 26 characters of Crockford's alphabet, of which ten tell the millisecond."""
    first, second = ulid(START), ulid(START)
    assert (len(first), set(first) <= set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")) == (26, True)
    assert (first[:10], first != second) == (second[:10], True)


async def test_wall_clock_jump_costs_no_lease() -> None:
    """A jump of the wall clock does not make a lease lapse."""
    b = await bench()
    lease = await b.take()
    b.clock.jump_wall(LEASE * 2)
    assert await b.queue.sweep() == Swept()
    await b.complete(lease)


async def test_nothing_is_left_after_retention() -> None:
    """Jobs that ended are forgotten altogether: records, keys, groups, subjects, events' content."""
    b = await bench(QueueOptions(result_retention=SECOND, dead_letter_retention=SECOND))
    await b.complete(await b.take(replace(b.job(), group="g", subjects=("s",), echo=b"secret")), b"secret")
    await b.queue.finish(await b.take(), Fail(error=BOOM))
    await b.queue.erase(TENANT, ticket_id=(await b.put()).ticket_id)
    b.clock.advance(TTL + 2)
    await b.queue.sweep()
    assert isinstance(b.queue, OpenQueue)
    ledger = b.queue.ledger
    kept = (ledger.records, ledger.keys, ledger.groups, ledger.subjects, ledger.claims)
    assert [len(index) for index in kept] == [0, 0, 0, 0, 0]
    assert [len(index) for index in (ledger.expiry, ledger.leases, ledger.retention)] == [0, 0, 0]
    assert (ledger.depth, ledger.bytes, (await b.lane()).dead) == (0, 0, 0)
    events = list(ledger.journal.after(0))
    assert {(event.result, event.view.echo, event.view.subjects) for event in events} == {(None, b"{}", ())}


async def test_dead_letters_are_kept_for_their_own_time() -> None:
    """A dead letter outlives results by its own retention."""
    b = await bench(QueueOptions(result_retention=SECOND, dead_letter_retention=10 * SECOND))
    dead = await b.take()
    await b.queue.finish(dead, Fail(error=BOOM))
    b.clock.advance(9)
    await b.queue.sweep()
    assert await b.state(dead.job.ticket_id) is TicketState.FAILED
    b.clock.advance(1)
    await b.queue.sweep()
    assert await b.queue.list_jobs() == []


async def test_payload_goes_with_the_end_unless_it_failed() -> None:
    """Only a dead letter keeps its payload."""
    b = await bench()
    done = await b.take()
    await b.complete(done)
    dead = await b.take()
    await b.queue.finish(dead, Fail(error=BOOM))
    assert isinstance(b.queue, OpenQueue)
    payloads = [record.payload for record in b.queue.ledger.records.values()]
    assert payloads == [None, b"the sealed request"]


async def test_log_is_bounded() -> None:
    """The event log keeps its latest 10 000."""
    b = await bench()
    for _ in range(LOG_LENGTH // 2 + 10):
        await b.queue.cancel(TENANT, (await b.put()).ticket_id)
    assert isinstance(b.queue, OpenQueue)
    assert len(list(b.queue.ledger.journal.after(0))) == LOG_LENGTH


async def test_ticket_id_is_not_used_twice() -> None:
    """A ticket id that is taken is refused, and the job that has it stays."""
    b = await bench()
    job = b.job("k")
    await b.put(job)
    with pytest.raises(QueueError):
        await b.queue.enqueue(replace(job, idempotency_key="other"))
    assert (await b.view(job.ticket_id)).idempotency_key == "k"


@pytest.mark.parametrize("cursor", ["", "x", "-1", "²"])
async def test_foreign_cursor_is_refused(cursor: str) -> None:
    """A cursor that is none of this queue's is a typed error."""
    b = await bench()
    with pytest.raises(InvalidRequest):
        await b.queue.events(TENANT, group=None, after=cursor)


async def test_cursor_of_an_earlier_life_starts_over() -> None:
    """A cursor beyond the latest event comes from a queue that is gone: all events are given."""
    b = await bench()
    view = await b.put()
    events = await b.queue.events(TENANT, group=None, after="999")
    assert [event.ticket_id for event in events] == [view.ticket_id]


async def test_erasing_scrubs_the_events() -> None:
    """After an erasure no event shows result, echo or history to a watcher; the relay still learns whom to tell."""
    b = await bench(outbox=True)
    lease = await b.take(replace(b.job(), echo=b"secret"))
    await b.complete(lease, b"secret")
    await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
    watched = await b.queue.events(TENANT, group=None, after="0")
    assert {(event.result, event.view.echo) for event in watched} == {(None, b"{}")}
    assert {(event.result, event.view.echo) for event in await b.unrelayed()} == {(None, b"secret")}


async def test_stopped_queue_can_start_again() -> None:
    """A queue that was closed takes work again once started, with its jobs."""
    b = await bench()
    view = await b.put()
    await b.queue.aclose()
    await b.queue.start(outbox=False)
    assert await b.state(view.ticket_id) is TicketState.QUEUED
    await b.put()


async def test_cancelled_waits_leave_nothing_behind() -> None:
    """Waits that are cancelled disturb nobody and leave no sleeper."""
    b = await bench()
    await b.put(replace(b.job(), not_before=b.clock.now() + 10 * SECOND))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(b.queue.wait_ready)
        tasks.start_soon(b.queue.wait_unrelayed, 0)
        await settle()
        assert b.clock.sleepers == 1
        tasks.cancel_scope.cancel()
    assert b.clock.sleepers == 0
    b.clock.advance(10)
    assert len(await b.claim()) == 1


async def test_delayed_jobs_of_one_tenant_do_not_come_all_at_once() -> None:
    """Jobs that become ready together are tagged one after the other, so another tenant's gets its turn."""
    b = await bench()
    later = b.clock.now() + SECOND
    jobs: list[NewJob] = [replace(b.job(f"many-{number}"), not_before=later) for number in range(20)]
    await b.queue.enqueue_many(jobs)
    b.clock.advance(1)
    await b.put(b.job("few", tenant="school-2"))
    assert "few" in [lease.job.idempotency_key for lease in await b.claim(3)]


async def test_position_counts_the_ready_ahead() -> None:
    """A ready job tells how many are ahead of it; one that is delayed does not pretend to know."""
    b = await bench()
    views = [await b.put() for _ in range(3)]
    delayed = await b.put(replace(b.job(), not_before=b.clock.now() + SECOND))
    assert [view.position for view in views] == [0, 1, 2]
    await b.claim()
    assert [(await b.view(view.ticket_id)).position for view in views] == [None, 0, 1]
    assert delayed.position is None


async def test_erased_job_is_forgotten_with_its_key() -> None:
    """What is left of an erased job goes once its key may be used again, whether or not its event was relayed."""
    b = await bench(QueueOptions(result_retention=SECOND), outbox=True)
    await b.queue.erase(TENANT, ticket_id=(await b.put()).ticket_id)
    b.clock.advance(TTL)
    await b.queue.sweep()
    assert isinstance(b.queue, OpenQueue)
    assert len(b.queue.ledger.records) == 1
    b.clock.advance(1)
    await b.queue.sweep()
    assert len(b.queue.ledger.records) == 0


async def test_queue_that_was_not_started_has_no_outbox() -> None:
    """Jobs are taken before a start too, and nothing is kept for a relay."""
    b = Bench(MemoryQueue(clock=(clock := FakeClock())), clock, count(1))
    await b.put()
    assert await b.unrelayed() == []
