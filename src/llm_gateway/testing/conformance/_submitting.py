"""Contract points 1, 2, 8, 10: accepting, keys, bounds, tenants, cancelling and erasing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from llm_gateway._core.jobs import AdoptedBy, Complete, Enqueued, Release
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._facts import Fault
from llm_gateway.errors import (
    IdempotencyConflict,
    InvalidRequest,
    PayloadTooLarge,
    QueueError,
    QueueFull,
    TicketNotFound,
)
from llm_gateway.options import QueueOptions
from llm_gateway.testing.conformance.bench import LEASE, TENANT, TTL, QueueSuite, check, same

__all__ = ["BoundsSuite", "KeysSuite", "RemovalSuite"]


class KeysSuite(QueueSuite):
    """Accepting and idempotency."""

    async def test_accepted_job_is_found(self) -> None:
        """An accepted job is found by its ticket and by its key, queued, at version 1."""
        async with self.bench() as b:
            job = replace(b.job("k"), group="g", subjects=("s",), echo=b'{"a": 1}')
            view = await b.put(job)
            same((view.ticket_id, view.state, view.version), (job.ticket_id, TicketState.QUEUED, 1))
            same((view.group, view.subjects, view.echo), ("g", ("s",), b'{"a": 1}'))
            same((await b.view(job.ticket_id)).ticket_id, job.ticket_id)
            same((view.reason, (await b.put(replace(b.job(), reason="deadline"))).reason), ("submitted", "deadline"))
            found = await b.queue.find(TENANT, "k")
            same(found and found.ticket_id, job.ticket_id)

    async def test_unknown_key_is_not_found(self) -> None:
        """A key that nobody used finds nothing, also when another tenant used it."""
        async with self.bench() as b:
            await b.put(b.job("k"))
            same(await b.queue.find("school-2", "k"), None)
            same(await b.queue.find(TENANT, "other"), None)

    async def test_tickets_are_unique_and_sort_by_time(self) -> None:
        """Minted tickets differ, and those minted later sort later."""
        async with self.bench() as b:
            early = b.queue.mint(TENANT, "k")
            b.clock.advance(1)
            late = b.queue.mint(TENANT, "k")
            check(early < late, f"{early} does not sort before {late}")
            same(len({b.queue.mint(TENANT, "k") for _ in range(100)}), 100)

    async def test_same_key_is_same_ticket(self) -> None:
        """The same key and content give the ticket there is, and store nothing."""
        async with self.bench() as b:
            first = await b.put(b.job("k"))
            again = await b.queue.enqueue(b.job("k"))
            same((again.created, again.job.ticket_id), (False, first.ticket_id))
            same((await b.queue.stats()).depth, 1)

    async def test_same_key_with_other_content_is_conflict(self) -> None:
        """The same key with other content is refused, and the job there is stays as it was."""
        async with self.bench() as b:
            first = await b.put(b.job("k"))
            with pytest.raises(IdempotencyConflict):
                await b.queue.enqueue(replace(b.job("k"), fingerprint="other"))
            same((await b.view(first.ticket_id)).version, 1)

    async def test_same_content_with_other_keys_is_two_jobs(self) -> None:
        """Content is never compared: other keys make other jobs."""
        async with self.bench() as b:
            for key in ("k1", "k2"):
                await b.put(replace(b.job(key), fingerprint="same"))
            same((await b.queue.stats()).depth, 2)

    async def test_same_key_of_another_tenant_is_another_job(self) -> None:
        """Keys are each tenant's own."""
        async with self.bench() as b:
            await b.put(b.job("k"))
            await b.put(b.job("k", tenant="school-2"))
            same((await b.queue.stats()).depth, 2)

    async def test_key_outlives_the_job(self) -> None:
        """A key stands for its ticket until ttl plus retention have passed, and is free afterwards."""
        retention = 100.0
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=retention)), outbox=False) as b:
            lease = await b.take(b.job("k"))
            await b.complete(lease)
            b.clock.advance(TTL + retention - 1)
            await b.queue.sweep()
            again = await b.queue.enqueue(b.job("k"))
            same((again.created, again.job.ticket_id), (False, lease.job.ticket_id))
            b.clock.advance(2)
            await b.queue.sweep()
            check((await b.queue.enqueue(b.job("k"))).created, "the key was never freed")

    async def test_one_refusal_among_many_touches_no_other(self) -> None:
        """Of many jobs each is answered for itself, in order."""
        async with self.bench() as b:
            await b.put(b.job("k"))
            replies = await b.queue.enqueue_many([b.job("a"), replace(b.job("k"), fingerprint="other"), b.job("b")])
            same([type(reply) for reply in replies], [Enqueued, IdempotencyConflict, Enqueued])
            same((await b.queue.stats()).depth, 3)

    async def test_adopted_job_starts_under_lease(self) -> None:
        """A job adopted by a running call is processing under that worker's lease, and its result is accepted."""
        async with self.bench() as b:
            reply = await b.queue.enqueue(b.job(), adopted_by=AdoptedBy(worker="live", lease_seconds=LEASE))
            lease = reply.lease
            check(lease is not None, "no lease was given")
            if lease is not None:
                same((reply.job.state, lease.worker), (TicketState.PROCESSING, "live"))
                same(await b.claim(), [])
                await b.complete(lease, b"late")
                same(await b.queue.result(TENANT, reply.job.ticket_id), b"late")

    async def test_adopted_job_whose_caller_is_lost_is_somebody_elses(self) -> None:
        """A job whose adopting caller is gone waits for a worker once its lease has lapsed, with one crash."""
        async with self.bench() as b:
            view = (await b.queue.enqueue(b.job(), adopted_by=AdoptedBy(worker="live", lease_seconds=LEASE))).job
            same(((await b.lane()).processing, (await b.lane()).ready), (1, 0))
            b.clock.advance(LEASE - 1)
            same((await b.queue.sweep()).recovered, 0)
            b.clock.advance(1)
            same((await b.queue.sweep()).recovered, 1)
            (lease,) = await b.claim()
            same((lease.job.ticket_id, lease.job.crashes), (view.ticket_id, 1))
            same([attempt.fault for attempt in lease.job.history], [Fault.WORKER_LOST])

    async def test_attempts_before_storing_are_kept(self) -> None:
        """Attempts made before a job was stored count among its latest, with those that follow."""
        async with self.bench() as b:
            made = [b.attempt() for _ in range(31)]
            await b.put(replace(b.job(), history=tuple(made)))
            for _ in range(3):
                (lease,) = await b.claim()
                made.append(b.attempt())
                await b.queue.finish(lease, Release(reason="circuit_open", attempt=made[-1]))
            (view,) = await b.queue.list_jobs()
            same(view.history, tuple(made[-32:]))

    async def test_adopting_a_known_key_gives_no_lease(self) -> None:
        """A key that has a ticket gives no second lease."""
        async with self.bench() as b:
            await b.put(b.job("k"))
            again = await b.queue.enqueue(b.job("k"), adopted_by=AdoptedBy(worker="live", lease_seconds=LEASE))
            same((again.created, again.lease), (False, None))


class BoundsSuite(QueueSuite):
    """What is never stored."""

    async def test_full_by_depth(self) -> None:
        """At the depth limit a job is refused with a time to come back; ending one makes room."""
        async with self.bench(QueueOptions(max_depth=2), outbox=False) as b:
            first = await b.put()
            await b.put(b.job("last"))
            with pytest.raises(QueueFull) as refusal:
                await b.queue.enqueue(b.job("k"))
            check((refusal.value.retry_after or 0) > 0, "no retry_after")
            same(await b.queue.find(TENANT, "k"), None)
            check(not (await b.queue.enqueue(b.job("last"))).created, "a known key was refused")
            await b.queue.cancel(TENANT, first.ticket_id)
            await b.put(b.job("k"))

    async def test_full_by_bytes(self) -> None:
        """At the byte limit a job is refused; ending one frees its bytes."""
        async with self.bench(QueueOptions(max_bytes=100), outbox=False) as b:
            first = await b.put(replace(b.job(), payload=b"x" * 60))
            same((await b.queue.stats()).bytes, 60)
            with pytest.raises(QueueFull):
                await b.queue.enqueue(replace(b.job(), payload=b"x" * 41))
            await b.put(replace(b.job(), payload=b"x" * 40))
            await b.queue.cancel(TENANT, first.ticket_id)
            same((await b.queue.stats()).bytes, 40)

    async def test_full_by_outbox(self) -> None:
        """Events that nobody relays count: when they reach the limit, nothing more is taken in."""
        async with self.bench(QueueOptions(max_depth=4)) as b:
            await b.complete(await b.take())
            await b.queue.cancel(TENANT, (await b.put()).ticket_id)
            with pytest.raises(QueueFull):
                await b.queue.enqueue(b.job())
            await b.relay_all()
            await b.put()

    async def test_ticket_is_taken_once(self) -> None:
        """A ticket that exists is given to no other key, and stays as it is."""
        async with self.bench() as b:
            first = b.job("k")
            await b.put(first)
            with pytest.raises(QueueError):
                await b.queue.enqueue(replace(first, idempotency_key="other", fingerprint="other"))
            same(((await b.queue.stats()).depth, await b.queue.find(TENANT, "other")), (1, None))

    async def test_refused_by_size(self) -> None:
        """A payload above the limit is refused for good."""
        async with self.bench(QueueOptions(max_payload_bytes=10)) as b:
            with pytest.raises(PayloadTooLarge):
                await b.queue.enqueue(replace(b.job(), payload=b"x" * 11))

    @pytest.mark.parametrize(("ttl", "wait"), [(0.0, None), (-1.0, None), (10.0, 10.0), (10.0, 11.0)])
    async def test_refused_by_time(self, ttl: float, wait: float | None) -> None:
        """A job that would expire before it may be claimed gets a typed refusal, never a ticket."""
        async with self.bench() as b:
            later = None if wait is None else b.clock.now() + timedelta(seconds=wait)
            with pytest.raises(InvalidRequest):
                await b.queue.enqueue(replace(b.job("k", ttl=ttl), not_before=later))
            same(await b.queue.find(TENANT, "k"), None)


class RemovalSuite(QueueSuite):
    """Tenants, cancelling and erasing."""

    async def test_foreign_ticket_does_not_exist(self) -> None:
        """Another tenant's ticket is answered as one that was never issued, whatever is asked of it."""
        async with self.bench() as b:
            ticket = (await b.put()).ticket_id
            queue = b.queue
            for ask in (queue.get, queue.result, queue.cancel, queue.payload):
                with pytest.raises(TicketNotFound):
                    await ask("school-2", ticket)
            with pytest.raises(TicketNotFound):
                await queue.erase("school-2", ticket_id=ticket)
            with pytest.raises(TicketNotFound):
                await queue.wait("school-2", ticket, beyond=0)
            same(await b.state(ticket), TicketState.QUEUED)

    async def test_cancel_queued_job(self) -> None:
        """A cancelled job is terminal, tells so once, and is never claimed."""
        async with self.bench() as b:
            ticket = (await b.put()).ticket_id
            view = await b.queue.cancel(TENANT, ticket)
            again = await b.queue.cancel(TENANT, ticket)
            same((view.state, view.version, again.version), (TicketState.CANCELLED, 2, 2))
            same([event.state for event in await b.told(ticket)], [TicketState.QUEUED, TicketState.CANCELLED])
            same(await b.claim(), [])

    async def test_cancel_running_job_fences_its_worker(self) -> None:
        """Cancelling a running job ends its lease, drops its result and leaves the call in the history."""
        async with self.bench() as b:
            lease = await b.take()
            await b.queue.cancel(TENANT, lease.job.ticket_id)
            same(await b.queue.extend(lease, LEASE), False)
            reply = await b.queue.finish(lease, Complete(result=b"late"))
            same((reply.accepted, reply.state), (False, TicketState.CANCELLED))
            same(await b.queue.result(TENANT, lease.job.ticket_id), None)
            same([a.possibly_billed for a in (await b.view(lease.job.ticket_id)).history], [True])

    async def test_cancel_group(self) -> None:
        """Cancelling a group ends what has not ended, of that tenant only, and counts it."""
        async with self.bench() as b:
            done = await b.take(replace(b.job(), group="g"))
            await b.complete(done)
            for tenant, group in ((TENANT, "g"), (TENANT, "g"), (TENANT, "other"), ("school-2", "g")):
                await b.put(replace(b.job(tenant=tenant), group=group))
            same(await b.queue.cancel_group(TENANT, "g"), 2)
            same(await b.queue.cancel_group(TENANT, "g"), 0)
            same((await b.queue.stats()).depth, 2)
            same(await b.state(done.job.ticket_id), TicketState.COMPLETED)

    async def test_erase_cancels_first(self) -> None:
        """Erasing a ticket cancels it with an event, then it does not exist, and its worker is fenced."""
        async with self.bench() as b:
            lease = await b.take()
            ticket = lease.job.ticket_id
            report = await b.queue.erase(TENANT, ticket_id=ticket)
            same((report.tickets, report.cancelled), ((ticket,), 1))
            same([event.state for event in await b.told(ticket)][-1], TicketState.CANCELLED)
            with pytest.raises(TicketNotFound):
                await b.view(ticket)
            with pytest.raises(TicketNotFound):
                await b.queue.erase(TENANT, ticket_id=ticket)
            same((await b.queue.finish(lease, Complete(result=b"late"))).accepted, False)

    async def test_erase_by_subject(self) -> None:
        """Erasing a subject removes all jobs that hold it, also ended ones, and no others."""
        async with self.bench() as b:
            done = await b.take(replace(b.job(), subjects=("s", "t")))
            await b.complete(done)
            waiting = await b.put(replace(b.job(), subjects=("s",)))
            other = await b.put(replace(b.job(), subjects=("t",)))
            report = await b.queue.erase(TENANT, subject="s")
            same((set(report.tickets), report.cancelled), ({done.job.ticket_id, waiting.ticket_id}, 1))
            same([view.ticket_id for view in await b.queue.list_jobs()], [other.ticket_id])
            same((await b.queue.erase(TENANT, subject="s")).tickets, ())
            events = await b.told(done.job.ticket_id)
            same([event.result for event in events], [None] * len(events))

    async def test_erased_key_makes_no_new_job(self) -> None:
        """Sending an erased request again does not bring it back."""
        async with self.bench() as b:
            view = await b.put(b.job("k"))
            await b.queue.erase(TENANT, ticket_id=view.ticket_id)
            again = await b.queue.enqueue(b.job("k"))
            same((again.created, again.job.ticket_id), (False, view.ticket_id))
            same(await b.claim(), [])
            same(await b.queue.find(TENANT, "k"), None)
