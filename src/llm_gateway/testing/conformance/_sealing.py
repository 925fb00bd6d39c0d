"""Contract points 7, 10 and 11: the payload of a dead letter, erasing all of a tenant, the keys of tenants."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from llm_gateway._core.intake import requeue_key, successor
from llm_gateway._core.jobs import Complete, Disposition, Fail, NewJob
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import InvalidRequest, TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.testing.conformance.bench import BOOM, TENANT, TTL, Bench, QueueSuite, check, same

__all__ = ["DeadLetterSuite", "ErasureSuite", "KeyStoreSuite"]

PAYLOAD = b"the sealed request"
OTHER = "school-2"


class DeadLetterSuite(QueueSuite):
    """What a dead letter keeps, and the job it becomes."""

    async def test_failed_jobs_are_listed_by_themselves(self) -> None:
        """The jobs that failed are found however many have come since, of one tenant or of all."""
        async with self.bench() as b:
            dead = await b.dead_letter()
            for number in range(5):
                await b.put(b.job(f"later-{number}"))
            mine, others = await b.queue.list_jobs(tenant=TENANT, failed=True, limit=2), "school-2"
            same([view.ticket_id for view in mine], [dead.job.ticket_id])
            same([view.ticket_id for view in await b.queue.list_jobs(failed=True)], [dead.job.ticket_id])
            same(await b.queue.list_jobs(tenant=others, failed=True), [])

    async def test_payload_is_kept_while_it_may_be_needed(self) -> None:
        """The stored request can be read while a job waits and runs, and once it has failed."""
        async with self.bench() as b:
            ticket = (await b.put()).ticket_id
            same(await b.queue.payload(TENANT, ticket), PAYLOAD)
            (lease,) = await b.claim()
            same(await b.queue.payload(TENANT, ticket), PAYLOAD)
            await b.queue.finish(lease, Fail(error=BOOM))
            same(await b.queue.payload(TENANT, ticket), PAYLOAD)

    async def test_payload_is_dropped_at_other_ends(self) -> None:
        """The stored request is gone once a job was answered, cancelled or has expired."""
        async with self.bench() as b:
            done = await b.take()
            await b.complete(done)
            cancelled = await b.put()
            await b.queue.cancel(TENANT, cancelled.ticket_id)
            expired = await b.put()
            b.clock.advance(TTL + 1)
            await b.queue.sweep()
            for view in (done.job, cancelled, expired):
                same(await b.queue.payload(TENANT, view.ticket_id), None)

    async def test_each_end_is_kept_for_its_time(self) -> None:
        """Dead letters are kept for their own time, what was answered, cancelled or has expired for that of results."""
        options = QueueOptions(result_retention=timedelta(seconds=100), dead_letter_retention=timedelta(seconds=300))
        async with self.bench(options, outbox=False) as b:
            done, failed = await b.take(), await b.take()
            cancelled, expired = await b.put(), await b.put(b.job(ttl=20))
            b.clock.advance(20)
            await b.queue.sweep()
            await b.complete(done)
            await b.queue.finish(failed, Fail(error=BOOM))
            await b.queue.cancel(TENANT, cancelled.ticket_id)
            kept = {done.job.ticket_id, failed.job.ticket_id, cancelled.ticket_id, expired.ticket_id}
            for seconds, left in (
                (99, kept),
                (1, {failed.job.ticket_id}),
                (199, {failed.job.ticket_id}),
                (1, set[str]()),
            ):
                b.clock.advance(seconds)
                await b.queue.sweep()
                same({view.ticket_id for view in await b.queue.list_jobs()}, left)
            same([stats.dead for stats in (await b.queue.stats()).lanes], [0])

    @pytest.mark.parametrize("disposition", [Fail(error=BOOM), Complete(result=b"the answer")])
    async def test_payload_of_erased_ticket_is_not_found(self, disposition: Disposition) -> None:
        """An erased ticket does not exist, as a dead letter or otherwise."""
        async with self.bench() as b:
            lease = await b.take()
            await b.queue.finish(lease, disposition)
            await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
            with pytest.raises(TicketNotFound):
                await b.queue.payload(TENANT, lease.job.ticket_id)
            same([stats.dead for stats in (await b.queue.stats()).lanes], [0])

    async def test_successor_of_dead_letter(self) -> None:
        """A dead letter becomes one new job that names it and begins anew; the dead one stays as it was."""
        async with self.bench() as b:
            dead = await b.take(replace(b.job(), group="g", echo=b'{"a": 1}', subjects=("s",)))
            ticket = dead.job.ticket_id
            await b.queue.finish(dead, Fail(error=BOOM))
            made = await b.put(await self._successor(b, ticket))
            check(made.ticket_id != ticket, "the ticket was used again")
            same((made.requeued_from, made.group, made.echo, made.subjects), (ticket, "g", b'{"a": 1}', ("s",)))
            same((made.state, made.attempts, made.version), (TicketState.QUEUED, 0, 1))
            again = await b.queue.enqueue(await self._successor(b, ticket))
            same((again.created, again.job.ticket_id), (False, made.ticket_id))
            same((await b.view(made.ticket_id)).requeued_from, ticket)
            same(await b.state(ticket), TicketState.FAILED)

    async def _successor(self, b: Bench, ticket: str) -> NewJob:
        made = b.queue.mint(TENANT, requeue_key(ticket))
        return successor(await b.view(ticket), b"sealed anew", made, b.clock.now())


class ErasureSuite(QueueSuite):
    """Erasing all of a tenant."""

    async def test_erase_everything(self) -> None:
        """Erasing everything removes all of a tenant's tickets, ended or not, named or not, and nobody else's."""
        async with self.bench() as b:
            done = await b.take()
            await b.complete(done)
            gone = await b.put()
            await b.queue.erase(TENANT, ticket_id=gone.ticket_id)
            waiting = await b.put(replace(b.job("k"), subjects=("s",), group="g"))
            other = await b.put(b.job(tenant=OTHER))
            report = await b.queue.erase(TENANT, everything=True)
            same((set(report.tickets), report.cancelled), ({done.job.ticket_id, waiting.ticket_id}, 1))
            same([view.ticket_id for view in await b.queue.list_jobs()], [other.ticket_id])
            same((await b.queue.erase(TENANT, everything=True)).tickets, ())
            check(not (await b.queue.enqueue(b.job("k"))).created, "an erased request came back")

    async def test_erasing_tells_what_it_removed(self) -> None:
        """Erasing tells which kinds of content there were: a request or a result, attempts, what is echoed."""
        async with self.bench() as b:
            done, failed = (
                await b.take(replace(b.job(), subjects=("d",))),
                await b.take(replace(b.job(), subjects=("f",))),
            )
            await b.complete(done)
            await b.queue.finish(failed, Fail(error=BOOM, attempt=b.attempt()))
            await b.put(replace(b.job(), subjects=("w",)))
            ended = await b.put(replace(b.job(), subjects=("c",)))
            await b.queue.cancel(TENANT, ended.ticket_id)
            told = {
                subject: (await b.queue.erase(TENANT, subject=subject)).removed
                for subject in ("d", "f", "w", "c", "none")
            }
            same(
                told,
                {
                    "d": ("echo", "result"),
                    "f": ("echo", "history", "payload"),
                    "w": ("echo", "payload"),
                    "c": ("echo",),
                    "none": (),
                },
            )

    async def test_erased_ticket_takes_no_result(self) -> None:
        """A worker that asks again whether its result was taken learns nothing of an erased ticket."""
        async with self.bench() as b:
            lease = await b.take()
            await b.complete(lease)
            await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
            reply = await b.queue.finish(lease, Complete(result=b"the answer"))
            same((reply.accepted, reply.state), (False, None))

    async def test_erase_everything_of_a_full_queue(self) -> None:
        """Erasing everything goes on until nothing is left, however much there is."""
        async with self.bench(QueueOptions(), outbox=False) as b:
            replies = await b.queue.enqueue_many([b.job() for _ in range(1100)])
            same(len((await b.queue.erase(TENANT, everything=True)).tickets), len(replies))
            same((await b.queue.stats()).depth, 0)

    @pytest.mark.parametrize(
        ("ticket", "subject", "everything"),
        [(None, None, False), ("x", "y", False), ("x", None, True), (None, "y", True), ("x", "y", True)],
    )
    async def test_erase_takes_one_of_three(self, ticket: str | None, subject: str | None, *, everything: bool) -> None:
        """Erasing needs either a ticket, or a subject, or everything."""
        async with self.bench() as b:
            with pytest.raises(InvalidRequest):
                await b.queue.erase(TENANT, ticket_id=ticket, subject=subject, everything=everything)


class KeyStoreSuite(QueueSuite):
    """The keys of tenants."""

    @pytest.mark.parametrize("tenant", ["", TENANT])
    async def test_first_key_is_kept(self, tenant: str) -> None:
        """Of the keys that are offered the first one stays, and everyone is told which it is."""
        async with self.bench() as b:
            same(await b.queue.tenant_key(tenant), None)
            same(await b.queue.keep_tenant_key(tenant, b"one\x00\xff"), b"one\x00\xff")
            same(await b.queue.keep_tenant_key(tenant, b"two"), b"one\x00\xff")
            same(await b.queue.tenant_key(tenant), b"one\x00\xff")
            same(await b.queue.tenant_key(OTHER), None)

    async def test_key_is_replaced(self) -> None:
        """A key takes the place of the one it was made from, and of no other."""
        async with self.bench() as b:
            await b.queue.keep_tenant_key(TENANT, b"one")
            same(await b.queue.keep_tenant_key(TENANT, b"two", replacing=b"one"), b"two")
            same(await b.queue.keep_tenant_key(TENANT, b"three", replacing=b"one"), b"two")
            same(await b.queue.tenant_key(TENANT), b"two")

    async def test_dropped_key_is_gone(self) -> None:
        """A dropped key is gone, wrapping it anew does not bring it back, and a new one can be kept."""
        async with self.bench() as b:
            await b.queue.keep_tenant_key(TENANT, b"one")
            await b.queue.keep_tenant_key(OTHER, b"other")
            same((await b.queue.drop_tenant_key(TENANT), await b.queue.drop_tenant_key(TENANT)), (True, False))
            same(await b.queue.keep_tenant_key(TENANT, b"one anew", replacing=b"one"), b"")
            same(await b.queue.tenant_key(TENANT), None)
            same(await b.queue.keep_tenant_key(TENANT, b"two"), b"two")
            same(await b.queue.tenant_key(OTHER), b"other")

    async def test_those_who_come_at_once_agree(self) -> None:
        """Of many that keep a key at once, all are told the same one."""
        async with self.bench() as b:
            told = list[bytes]()

            async def keep(number: int) -> None:
                told.append(await b.queue.keep_tenant_key(TENANT, b"key %d" % number))

            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(keep, number)
            same(set(told), {await b.queue.tenant_key(TENANT)})

    async def test_key_outlives_its_tickets(self) -> None:
        """Erasing tickets leaves the key: it is dropped by itself."""
        async with self.bench() as b:
            await b.queue.keep_tenant_key(TENANT, b"one")
            await b.put()
            await b.queue.erase(TENANT, everything=True)
            same(await b.queue.tenant_key(TENANT), b"one")
