"""Contract points 3 to 6: claims, fencing, attempts, parking, recovery."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from llm_gateway._core.jobs import Complete, Disposition, Fail, Lease, Park, ParkScope, Release, Retry, Swept
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._facts import Fault
from llm_gateway.options import QueueOptions
from llm_gateway.testing.conformance.bench import BOOM, LANE, LEASE, OTHER_LANE, TENANT, TTL, QueueSuite, check, same

__all__ = ["ClaimSuite", "FinishSuite", "RecoverySuite"]


def tickets(leases: list[Lease]) -> set[str]:
    """Return the tickets of some leases."""
    return {lease.job.ticket_id for lease in leases}


class ClaimSuite(QueueSuite):
    """Who gets which job, and when."""

    async def test_claim_is_exclusive(self) -> None:
        """A claimed job is processing, carries its payload and is given to nobody else."""
        async with self.bench() as b:
            lease = await b.take()
            same((lease.job.state, lease.job.version), (TicketState.PROCESSING, 2))
            same((lease.payload, lease.worker), (b"the sealed request", "worker-1"))
            same(lease.deadline, b.clock.now() + timedelta(seconds=LEASE))
            same(await b.claim(5), [])

    async def test_claim_takes_no_more_than_asked(self) -> None:
        """A claim takes at most as many as it asks for, each with a token of its own."""
        async with self.bench() as b:
            for _ in range(5):
                await b.put()
            leases = await b.claim(3)
            same((len(leases), len({lease.token for lease in leases})), (3, 3))
            same(len(await b.claim(3)), 2)

    async def test_claim_asked_again_returns_the_same(self) -> None:
        """A claim whose reply was lost returns the same jobs and tokens when asked again with its id."""
        async with self.bench() as b:
            for _ in range(4):
                await b.put()
            first = await b.claim(2, claim_id="c")
            again = await b.claim(2, claim_id="c")
            same(
                [(lease.job.ticket_id, lease.token) for lease in again],
                [(lease.job.ticket_id, lease.token) for lease in first],
            )
            same((await b.lane()).processing, 2)
            await b.complete(first[0])
            same(tickets(await b.claim(2, claim_id="c")), {first[1].job.ticket_id})

    async def test_claim_asked_again_after_its_leases_is_not_the_same(self) -> None:
        """A claim id returns no lease that has lapsed."""
        async with self.bench() as b:
            await b.put()
            await b.claim(claim_id="c")
            b.clock.advance(LEASE + 1)
            same(await b.claim(claim_id="c"), [])

    async def test_lanes_are_apart(self) -> None:
        """A claim takes from its own lane, and a shut lane delays no other."""
        async with self.bench() as b:
            await b.put()
            other = await b.put(replace(b.job(), lane=OTHER_LANE))
            await b.queue.set_gate(LANE, circuit="open", not_before=None)
            same(await b.claim(5), [])
            same(tickets(await b.claim(5, lane=OTHER_LANE)), {other.ticket_id})

    async def test_half_open_circuit_lets_through(self) -> None:
        """An open circuit holds the lane, a half-open one gives as many as the permits ask for."""
        async with self.bench() as b:
            await b.put()
            await b.put()
            await b.queue.set_gate(LANE, circuit="open", not_before=None)
            same(await b.claim(), [])
            await b.queue.set_gate(LANE, circuit="half_open", not_before=None)
            same(len(await b.claim(1)), 1)
            await b.queue.set_gate(LANE, circuit="closed", not_before=None)
            same(len(await b.claim(1)), 1)

    async def test_gate_waits_for_its_time(self) -> None:
        """A gate with a time opens when that time has come."""
        async with self.bench() as b:
            await b.put()
            await b.queue.set_gate(LANE, circuit="closed", not_before=b.clock.now() + timedelta(seconds=10))
            b.clock.advance(9)
            same(await b.claim(), [])
            b.clock.advance(1)
            same(len(await b.claim()), 1)

    async def test_job_waits_for_its_time(self) -> None:
        """A job with a time is counted as delayed and claimable once that time has come."""
        async with self.bench() as b:
            await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=10)))
            same(((await b.lane()).delayed, (await b.lane()).ready), (1, 0))
            same(await b.claim(), [])
            b.clock.advance(10)
            same(((await b.lane()).delayed, (await b.lane()).ready), (0, 1))
            same(len(await b.claim()), 1)

    async def test_expired_job_is_not_claimed(self) -> None:
        """A claim gives out nothing that has expired, also when nobody has swept."""
        async with self.bench() as b:
            await b.put(b.job(ttl=10))
            b.clock.advance(10)
            same(await b.claim(), [])


class FinishSuite(QueueSuite):
    """How attempts end."""

    async def test_complete_stores_one_result(self) -> None:
        """A completed job has its result, spent one attempt, and told of it in the same event."""
        async with self.bench() as b:
            lease = await b.take()
            attempt = b.attempt()
            reply = await b.queue.finish(lease, Complete(result=b"answer", attempt=attempt))
            ticket = lease.job.ticket_id
            same((reply.accepted, reply.state), (True, TicketState.COMPLETED))
            same(await b.queue.result(TENANT, ticket), b"answer")
            view = await b.view(ticket)
            same((view.version, view.attempts, view.history), (3, 1, (attempt,)))
            event = (await b.told(ticket))[-1]
            same((event.state, event.version, event.result), (TicketState.COMPLETED, 3, b"answer"))

    @pytest.mark.parametrize(
        "disposition",
        [
            Complete(result=b"answer"),
            Fail(error=BOOM),
            Fail(error=BOOM, park_group="model_changed"),
            Retry(error=BOOM, delay=5, max_attempts=3),
            Release(reason="circuit_open", delay=5),
            Park(reason="needs_operator", scope=ParkScope.JOB),
        ],
        ids=lambda disposition: type(disposition).__name__,
    )
    async def test_finish_asked_again_is_replayed(self, disposition: Disposition) -> None:
        """A finish whose reply was lost succeeds again and changes nothing."""
        async with self.bench() as b:
            lease = await b.take()
            first = await b.queue.finish(lease, disposition)
            before = await b.view(lease.job.ticket_id)
            again = await b.queue.finish(lease, disposition)
            same((first.accepted, first.replayed), (True, False))
            same((again.accepted, again.replayed, again.state), (True, True, first.state))
            same(await b.view(lease.job.ticket_id), before)
            same(await b.queue.extend(lease, LEASE), False)

    async def test_late_worker_is_fenced(self) -> None:
        """A worker whose lease was taken over can neither extend nor finish; the other's result stands."""
        async with self.bench() as b:
            late = await b.take()
            await b.die()
            (current,) = await b.claim()
            same(await b.queue.extend(late, LEASE), False)
            reply = await b.queue.finish(late, Complete(result=b"late"))
            same((reply.accepted, reply.state), (False, TicketState.PROCESSING))
            await b.complete(current, b"current")
            same((await b.queue.finish(late, Complete(result=b"late"))).accepted, False)
            same(await b.queue.result(TENANT, late.job.ticket_id), b"current")

    async def test_unknown_ticket_is_fenced(self) -> None:
        """A lease of a ticket that is not there is answered as fenced, without a state."""
        async with self.bench() as b:
            lease = await b.take()
            unknown = replace(lease, job=lease.job._replace(ticket_id=b.queue.mint(TENANT, "unknown")))
            reply = await b.queue.finish(unknown, Complete(result=b"x"))
            same((reply.accepted, reply.state), (False, None))
            same(await b.queue.extend(unknown, LEASE), False)

    async def test_fail_is_dead_letter(self) -> None:
        """A failed job is terminal with its error, spent an attempt, and counts as dead."""
        async with self.bench() as b:
            lease = await b.take()
            await b.queue.finish(lease, Fail(error=BOOM))
            view = await b.view(lease.job.ticket_id)
            same((view.state, view.error, view.attempts), (TicketState.FAILED, BOOM, 1))
            same(((await b.lane()).dead, (await b.queue.stats()).depth), (1, 0))

    async def test_retry_spends_attempts_until_the_cap(self) -> None:
        """A retry waits out its delay and spends an attempt; the last one fails with its error."""
        async with self.bench() as b:
            lease = await b.take()
            retry = Retry(error=BOOM, delay=5, max_attempts=2)
            reply = await b.queue.finish(lease, retry)
            view = await b.view(lease.job.ticket_id)
            same((reply.state, view.attempts, view.error), (TicketState.QUEUED, 1, None))
            b.clock.advance(4)
            same(await b.claim(), [])
            b.clock.advance(1)
            (second,) = await b.claim()
            same((await b.queue.finish(second, retry)).state, TicketState.FAILED)
            view = await b.view(lease.job.ticket_id)
            same((view.attempts, view.error), (2, BOOM))

    async def test_release_spends_nothing(self) -> None:
        """An outage spends no attempt, however often, and says why the job waits."""
        async with self.bench() as b:
            await b.put()
            for _ in range(20):
                (lease,) = await b.claim()
                await b.queue.finish(lease, Release(reason="circuit_open", delay=5, attempt=b.attempt()))
                b.clock.advance(5)
            (view,) = await b.queue.list_jobs()
            same((view.state, view.attempts, view.crashes), (TicketState.QUEUED, 0, 0))
            same((view.reason, len(view.history)), ("circuit_open", 20))

    async def test_history_keeps_the_latest(self) -> None:
        """Of many attempts the latest 32 are kept."""
        async with self.bench() as b:
            await b.put()
            made = [b.attempt() for _ in range(40)]
            for attempt in made:
                (lease,) = await b.claim()
                await b.queue.finish(lease, Release(reason="circuit_open", attempt=attempt))
            (view,) = await b.queue.list_jobs()
            same(view.history, tuple(made[-32:]))

    async def test_parked_job_waits_for_an_operator(self) -> None:
        """A parked job spends nothing, stays queued with a reason, and leaves others alone until resumed."""
        async with self.bench() as b:
            lease = await b.take()
            await b.queue.finish(lease, Park(reason="model_changed", scope=ParkScope.JOB))
            view = await b.view(lease.job.ticket_id)
            same((view.state, view.reason, view.attempts), (TicketState.QUEUED, "model_changed", 0))
            other = await b.put()
            same(tickets(await b.claim(5)), {other.ticket_id})
            same((await b.lane()).parked, 1)
            await b.queue.resume(LANE)
            check((await b.view(lease.job.ticket_id)).reason != "model_changed", "the reason stayed")
            same(tickets(await b.claim(5)), {lease.job.ticket_id})

    async def test_parked_group_waits_for_an_operator(self) -> None:
        """Parking a group holds all its jobs in the lane, also those that come later, until resumed."""
        async with self.bench() as b:
            lease = await b.take(replace(b.job(), group="g"))
            waiting = await b.put(replace(b.job(), group="g"))
            await b.queue.finish(lease, Park(reason="model_changed", scope=ParkScope.GROUP))
            later = await b.put(replace(b.job(), group="g"))
            other = await b.put(replace(b.job(), group="other"))
            same(tickets(await b.claim(5)), {other.ticket_id})
            same((await b.view(waiting.ticket_id)).state, TicketState.QUEUED)
            await b.queue.resume(LANE)
            same(tickets(await b.claim(5)), {lease.job.ticket_id, waiting.ticket_id, later.ticket_id})

    async def test_failing_parks_the_rest_of_the_group(self) -> None:
        """A job that fails may park its group: the rest waits for an operator, other groups do not."""
        async with self.bench() as b:
            lease = await b.take(replace(b.job(), group="g"))
            waiting = await b.put(replace(b.job(), group="g"))
            foreign = await b.put(replace(b.job(tenant="school-2"), group="g"))
            elsewhere = await b.put(replace(b.job(), group="g", lane=OTHER_LANE))
            reply = await b.queue.finish(lease, Fail(error=BOOM, park_group="model_changed"))
            same((reply.accepted, reply.state), (True, TicketState.FAILED))
            later = await b.put(replace(b.job(), group="g"))
            same(tickets(await b.claim(5)), {foreign.ticket_id})
            same(tickets(await b.claim(5, lane=OTHER_LANE)), {elsewhere.ticket_id})
            same((await b.view(waiting.ticket_id)).reason, "model_changed")
            same((await b.told(waiting.ticket_id))[-1].reason, "model_changed")
            await b.queue.resume(LANE)
            same(tickets(await b.claim(5)), {waiting.ticket_id, later.ticket_id})

    async def test_failing_alone_parks_nothing(self) -> None:
        """Parking the group of a job that has none, or under a token that is not current, holds nobody."""
        async with self.bench() as b:
            await b.queue.finish(await b.take(), Fail(error=BOOM, park_group="model_changed"))
            late = await b.take(replace(b.job(), group="g"))
            await b.die()
            same((await b.queue.finish(late, Fail(error=BOOM, park_group="model_changed"))).accepted, False)
            alone = await b.put()
            same(tickets(await b.claim(5)), {late.job.ticket_id, alone.ticket_id})

    async def test_parked_lane_waits_for_an_operator(self) -> None:
        """Parking a lane holds all its jobs until resumed."""
        async with self.bench() as b:
            lease = await b.take()
            other = await b.put()
            await b.queue.finish(lease, Park(reason="needs_operator", scope=ParkScope.LANE))
            same(await b.claim(5), [])
            same((await b.lane()).gate.parked, "needs_operator")
            await b.queue.resume(LANE)
            same((await b.lane()).gate.parked, None)
            same(tickets(await b.claim(5)), {lease.job.ticket_id, other.ticket_id})

    async def test_unparking_lets_go_what_waited_for_that_alone(self) -> None:
        """What was parked for one reason goes on; other parks, a pause, and groups parked for something else stay."""
        async with self.bench() as b:
            lease = await b.take(replace(b.job(), group="g"))
            await b.queue.finish(lease, Park(reason="model_changed", scope=ParkScope.GROUP))
            held = await b.put(replace(b.job(), group="g"))
            lease = await b.take()
            await b.queue.finish(lease, Park(reason="needs_operator", scope=ParkScope.LANE))
            await b.queue.unpark(LANE, "model_gone")
            same(((await b.lane()).gate.parked, len(await b.claim(5))), ("needs_operator", 0))
            await b.queue.unpark(LANE, "needs_operator")
            same(tickets(await b.claim(5)), {lease.job.ticket_id})
            same(((await b.view(held.ticket_id)).reason, (await b.lane()).parked), ("model_changed", 2))
            await b.queue.pause(LANE)
            await b.queue.unpark(LANE, "model_changed")
            same(((await b.lane()).parked, len(await b.claim(5))), (0, 0))
            await b.queue.resume(LANE)
            same(len(await b.claim(5)), 2)

    async def test_group_keeps_its_first_model(self) -> None:
        """The first served model pins a group in its lane; other groups and tenants are free."""
        async with self.bench() as b:
            pins = [(TENANT, "g", "m-1"), (TENANT, "g", "m-2"), (TENANT, "h", "m-2"), ("school-2", "g", "m-3")]
            got = [await b.queue.pin(tenant, group, LANE, model) for tenant, group, model in pins]
            same(got, ["m-1", "m-1", "m-2", "m-3"])


class RecoverySuite(QueueSuite):
    """Every wait ends."""

    async def test_lapsed_lease_goes_back(self) -> None:
        """A lost worker's job waits again: no attempt spent, one crash, one call that may have been billed."""
        async with self.bench() as b:
            lease = await b.take()
            same(await b.die(), Swept(recovered=1))
            view = await b.view(lease.job.ticket_id)
            same((view.state, view.attempts, view.crashes), (TicketState.QUEUED, 0, 1))
            same([(a.fault, a.possibly_billed) for a in view.history], [(Fault.WORKER_LOST, True)])
            same(len(await b.claim()), 1)

    async def test_extended_lease_holds(self) -> None:
        """A lease that is extended does not lapse, and its claim asked again shows the later deadline."""
        async with self.bench() as b:
            await b.put()
            (lease,) = await b.claim(claim_id="c")
            for _ in range(3):
                b.clock.advance(LEASE - 1)
                same(await b.queue.extend(lease, LEASE), True)
                same(await b.queue.sweep(), Swept())
            (again,) = await b.claim(claim_id="c")
            same(again.deadline, b.clock.now() + timedelta(seconds=LEASE))
            await b.complete(lease)

    async def test_crashes_have_a_cap(self) -> None:
        """A job that loses its workers too often is a dead letter with an error that says so."""
        async with self.bench(QueueOptions(max_crashes=2)) as b:
            lease = await b.dead_letter()
            view = await b.view(lease.job.ticket_id)
            same((view.state, view.crashes, view.attempts), (TicketState.FAILED, 2, 0))
            same(view.error and view.error.fault, Fault.WORKER_LOST)

    async def test_ttl_ends_waiting(self) -> None:
        """A job that waited too long is expired by a sweep, with an event, whatever kept it."""
        async with self.bench() as b:
            parked = await b.take()
            await b.queue.finish(parked, Park(reason="model_changed", scope=ParkScope.JOB))
            ready = await b.put()
            delayed = await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=TTL / 2)))
            await b.queue.pause(LANE)
            b.clock.advance(TTL)
            same(await b.queue.sweep(), Swept(expired=3))
            for ticket in (parked.job.ticket_id, ready.ticket_id, delayed.ticket_id):
                same((await b.told(ticket))[-1].state, TicketState.EXPIRED)
            same((await b.queue.stats()).depth, 0)

    async def test_ttl_goes_before_recovery(self) -> None:
        """A running job whose time is over expires instead of being handed out again, and fences its worker."""
        async with self.bench() as b:
            lease = await b.take(b.job(ttl=LEASE))
            same(await b.die(), Swept(expired=1))
            same((await b.queue.finish(lease, Complete(result=b"late"))).accepted, False)
            view = await b.view(lease.job.ticket_id)
            same((view.state, [a.possibly_billed for a in view.history]), (TicketState.EXPIRED, [True]))

    async def test_sweep_keeps_to_its_limit(self) -> None:
        """A sweep does no more than it is told, and the next goes on."""
        async with self.bench() as b:
            for _ in range(5):
                await b.put(b.job(ttl=10))
            b.clock.advance(10)
            same([(await b.queue.sweep(2)).expired for _ in range(4)], [2, 2, 1, 0])
