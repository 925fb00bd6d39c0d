"""Contract points 3, 5, 6 and 9: times, gates and limits that jobs wait for, and whose turn it is afterwards."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from llm_gateway._core.jobs import Complete, Park, ParkScope, Release, Retry, Swept
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.options import QueueOptions
from llm_gateway.testing.conformance.bench import BOOM, LANE, LEASE, OTHER_LANE, TENANT, TTL, QueueSuite, check, same

__all__ = ["WaitingSuite"]


class WaitingSuite(QueueSuite):
    """What jobs wait for."""

    async def test_open_circuit_with_a_time_lets_through_afterwards(self) -> None:
        """A circuit that opened for a time holds its lane no longer than that: who opened it may be gone."""
        async with self.bench() as b:
            await b.put()
            await b.queue.set_gate(LANE, circuit="open", not_before=b.clock.now() + timedelta(seconds=10))
            b.clock.advance(9)
            same(await b.claim(), [])
            b.clock.advance(1)
            same(len(await b.claim()), 1)

    async def test_gate_is_there_before_the_first_job(self) -> None:
        """A lane that was gated before it had jobs is shown with both."""
        async with self.bench() as b:
            await b.queue.set_gate(LANE, circuit="open", not_before=None)
            await b.queue.pause(OTHER_LANE)
            await b.put()
            await b.put(replace(b.job(), lane=OTHER_LANE))
            shown = {
                stats.lane: (stats.ready, stats.gate.circuit, stats.gate.paused) for stats in await b.queue.lanes()
            }
            same(shown, {LANE: (1, "open", False), OTHER_LANE: (1, "closed", True)})

    async def test_lane_below_what_runs_gives_nothing(self) -> None:
        """A limit below what already runs gives nothing until enough has ended."""
        async with self.bench() as b:
            for _ in range(5):
                await b.put()
            leases = await b.claim(3)
            await b.queue.limit(LANE, 1)
            same(await b.claim(5), [])
            for lease in leases[:2]:
                await b.complete(lease)
            same(await b.claim(5), [])
            await b.complete(leases[2])
            same(len(await b.claim(5)), 1)

    async def test_raised_limit_wakes_a_worker(self) -> None:
        """A worker that waits returns when more may run."""
        async with self.bench() as b:
            await b.queue.limit(LANE, 1)
            await b.take()
            await b.put()
            await self.returns(b.queue.wait_ready, when=lambda: b.queue.limit(LANE, 2))

    async def test_job_whose_time_has_come_waits_for_none(self) -> None:
        """A job that may be claimed from now on is ready at once, and one without a delay names no time."""
        async with self.bench() as b:
            now = b.clock.now()
            await b.put(replace(b.job(), not_before=now))
            same(((await b.lane()).ready, (await b.lane()).delayed), (1, 0))
            (lease,) = await b.claim()
            await b.queue.finish(lease, Release(reason="circuit_open", delay=5))
            view = await b.view(lease.job.ticket_id)
            same((view.not_before, view.reason), (now + timedelta(seconds=5), "circuit_open"))
            b.clock.advance(5)
            (lease,) = await b.claim()
            same(lease.job.reason, None)
            await b.queue.finish(lease, Release(reason="circuit_open"))
            same((await b.view(lease.job.ticket_id)).not_before, None)

    async def test_time_that_comes_leaves_the_others_waiting(self) -> None:
        """Of many jobs with times, those whose time has come are ready, and counted as such."""
        async with self.bench() as b:
            for seconds in (10, 20, 30):
                await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=seconds)))
            b.clock.advance(20)
            same(len(await b.claim(1)), 1)
            lane = await b.lane()
            same((lane.processing, lane.ready, lane.delayed), (1, 1, 1))

    async def test_group_park_of_a_job_without_one_parks_the_job(self) -> None:
        """Parking the group of a job that has none holds that job alone."""
        async with self.bench() as b:
            lease = await b.take()
            await b.queue.finish(lease, Park(reason="model_changed", scope=ParkScope.GROUP))
            other = await b.put()
            (claimed,) = await b.claim(5)
            same((claimed.job.ticket_id, (await b.lane()).parked), (other.ticket_id, 1))

    async def test_parking_one_job_holds_neither_group_nor_lane(self) -> None:
        """A job that is parked by itself leaves its group and its lane alone."""
        async with self.bench() as b:
            lease = await b.take(replace(b.job(), group="g"))
            await b.put(replace(b.job(), group="g"))
            await b.queue.finish(lease, Park(reason="model_changed", scope=ParkScope.JOB))
            same((len(await b.claim(5)), (await b.lane()).gate.parked), (1, None))

    async def test_unparking_lets_groups_go_by_their_reason(self) -> None:
        """Groups that were parked for one reason go on together; those parked for another wait, also for later jobs."""
        async with self.bench() as b:
            reasons = {"g": "model_changed", "h": "needs_operator", "i": "model_changed"}
            for group, reason in reasons.items():
                lease = await b.take(replace(b.job(), group=group))
                await b.queue.finish(lease, Park(reason=reason, scope=ParkScope.GROUP))
            await b.queue.unpark(LANE, "model_changed")
            for group in reasons:
                await b.put(replace(b.job(), group=group))
            same(sorted(str(lease.job.group) for lease in await b.claim(9)), ["g", "g", "i", "i"])
            await b.queue.resume(LANE)
            same([lease.job.group for lease in await b.claim(9)], ["h", "h"])

    async def test_lease_holds_to_its_end(self) -> None:
        """A lease holds until its very end and no longer, whether it was claimed or adopted."""
        async with self.bench() as b:
            await b.take()
            b.clock.advance(LEASE - 1)
            same(await b.queue.sweep(), Swept())
            b.clock.advance(1)
            same(await b.queue.sweep(), Swept(recovered=1))

    async def test_lost_worker_leaves_no_reason_at_the_end(self) -> None:
        """A job says that its worker was lost while it waits again; when it has failed of that, its error does."""
        async with self.bench(QueueOptions(max_crashes=2)) as b:
            lease = await b.take()
            await b.die()
            same((await b.view(lease.job.ticket_id)).reason, "worker_lost")
            await b.claim()
            same(await b.die(), Swept(dead=1))
            view = await b.view(lease.job.ticket_id)
            same((view.state, view.reason, view.error is None), (TicketState.FAILED, None, False))

    async def test_cap_of_attempts_is_met_exactly(self) -> None:
        """A job is tried as often as its cap says, then fails without a reason to wait."""
        async with self.bench() as b:
            await b.put()
            states: list[TicketState | None] = []
            for _ in range(3):
                (lease,) = await b.claim()
                states.append((await b.queue.finish(lease, Retry(error=BOOM, delay=0, max_attempts=3))).state)
            same(states, [TicketState.QUEUED, TicketState.QUEUED, TicketState.FAILED])
            same([view.reason for view in await b.queue.list_jobs()], [None])

    async def test_job_that_comes_back_keeps_its_turn(self) -> None:
        """A job that went back goes before those of its tenant that came after the next, not behind them all."""
        async with self.bench() as b:
            for number in range(6):
                await b.put(b.job(f"k{number}"))
                b.clock.advance(1)
            (lease,) = await b.claim()
            await b.queue.finish(lease, Release(reason="circuit_open"))
            keys = [lease.job.idempotency_key for lease in await b.claim(6)]
            check(keys.index("k0") in {0, 1}, f"it lost its turn: {keys}")

    async def test_job_that_comes_back_goes_behind_first_turns(self) -> None:
        """A job that went back does not go before tenants that have had no turn yet."""
        async with self.bench() as b:
            for number in range(4):
                await b.put(b.job(f"k{number}", tenant=f"school-{number}"))
                b.clock.advance(1)
            (first,) = await b.claim()
            await b.queue.finish(first, Release(reason="circuit_open"))
            keys = [lease.job.idempotency_key for lease in await b.claim(4)]
            same(keys[-1], first.job.idempotency_key)

    async def test_only_tenant_may_have_no_name(self) -> None:
        """The only tenant's jobs run, are listed and erased as any other's."""
        async with self.bench() as b:
            job = replace(b.job("k", tenant=""), group="g", subjects=("s",))
            await b.put(job)
            (lease,) = await b.claim()
            await b.queue.finish(lease, Complete(result=b"answer"))
            same(await b.queue.result("", job.ticket_id), b"answer")
            same([view.tenant for view in await b.queue.list_jobs()], [""])
            same((await b.queue.erase("", subject="s")).tickets, (job.ticket_id,))
            same(await b.queue.find(TENANT, "k"), None)

    async def test_sweep_tells_that_there_is_more(self) -> None:
        """A sweep that reached its limit says so, be it of what has expired or of what was kept long enough."""
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=100)), outbox=False) as b:
            for number in range(3):
                await b.put(b.job(f"key-{number}"))
            b.clock.advance(TTL)
            same([(await b.queue.sweep(2)).more for _ in range(2)], [True, False])
            b.clock.advance(100)
            same([(await b.queue.sweep(2)).more for _ in range(2)], [True, False])
