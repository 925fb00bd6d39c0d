"""Contract points 4, 6, 9 and 12: events, waits, fairness, what an operator does and sees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from llm_gateway._core.jobs import Complete, Release
from llm_gateway._core.lifecycle import TERMINAL, TicketState
from llm_gateway._core.requests import Priority
from llm_gateway.errors import QueueError, QueueUnavailable, TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.testing.clock import settle
from llm_gateway.testing.conformance.bench import LANE, OTHER_LANE, PATIENCE, TENANT, Bench, QueueSuite, check, same

__all__ = ["AdminSuite", "FairnessSuite", "WatchSuite"]


class WatchSuite(QueueSuite):
    """Events that are watched, and waits."""

    async def test_each_transition_tells_once(self) -> None:
        """The events of a ticket carry the versions 1, 2, 3 … and exactly one terminal state."""
        async with self.bench() as b:
            lease = await b.take()
            await b.queue.finish(lease, Release(reason="circuit_open"))
            (lease,) = await b.claim()
            await b.die()
            (lease,) = await b.claim()
            await b.complete(lease)
            events = await b.told(lease.job.ticket_id)
            same([event.version for event in events], list(range(1, 8)))
            same([event.state for event in events if event.state in TERMINAL], [TicketState.COMPLETED])
            same([event.view.version for event in events], list(range(1, 8)))

    async def test_waiter_is_told_of_a_change(self) -> None:
        """A waiter returns with the job once its version is beyond the one it knows, and at once if it is already."""
        async with self.bench() as b:
            ticket = (await b.put()).ticket_id

            async def wait() -> None:
                same((await b.queue.wait(TENANT, ticket, beyond=1)).state, TicketState.CANCELLED)

            await self.returns(wait, when=lambda: b.queue.cancel(TENANT, ticket))
            with anyio.fail_after(PATIENCE):
                await wait()

    async def test_waiter_is_told_of_erasure(self) -> None:
        """A waiter of an erased ticket is told that there is none."""
        async with self.bench() as b:
            lease = await b.take()
            await b.complete(lease)
            ticket = lease.job.ticket_id

            async def wait() -> None:
                with pytest.raises(TicketNotFound):
                    await b.queue.wait(TENANT, ticket, beyond=99)

            await self.returns(wait, when=lambda: b.queue.erase(TENANT, ticket_id=ticket))

    async def test_waiter_is_told_when_a_ticket_goes(self) -> None:
        """A waiter of a ticket that was kept long enough is told that there is none any longer."""
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=100)), outbox=False) as b:
            lease = await b.take()
            await b.complete(lease)

            async def wait() -> None:
                with pytest.raises(TicketNotFound):
                    await b.queue.wait(TENANT, lease.job.ticket_id, beyond=99)

            async def pass_time() -> None:
                b.clock.advance(100)
                await b.queue.sweep()

            await self.returns(wait, when=pass_time)

    async def test_waiter_for_the_end_gets_the_result(self) -> None:
        """A waiter for the end of a job gets it with its result once it has ended, and at once if it has already."""
        async with self.bench() as b:
            lease = await b.take()

            async def wait() -> None:
                job, result = await b.queue.ended(TENANT, lease.job.ticket_id)
                same((job.state, result), (TicketState.COMPLETED, b"the answer"))

            await self.returns(wait, when=lambda: b.complete(lease))
            with anyio.fail_after(PATIENCE):
                await wait()
                with pytest.raises(TicketNotFound):
                    await b.queue.ended("school-2", lease.job.ticket_id)

    async def test_waiter_for_the_end_of_a_new_job(self) -> None:
        """Who waits for the end of what was stored while others wait is told of it, also when it is tried twice."""
        async with self.bench() as b:
            lease = await b.take()
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(b.queue.ended, TENANT, lease.job.ticket_id)
                    await settle()
                    ticket = (await b.put()).ticket_id

                    async def wait() -> None:
                        job, result = await b.queue.ended(TENANT, ticket)
                        same((job.state, job.version, result), (TicketState.CANCELLED, 4, None))

                    async def end() -> None:
                        (again,) = await b.claim()
                        await b.queue.finish(again, Release(reason="circuit_open"))
                        await settle()
                        await b.queue.cancel(TENANT, ticket)

                    await self.returns(wait, when=end)
                    await b.complete(lease)

    async def test_end_before_the_wait_is_told(self) -> None:
        """What ended, or was erased, between being stored and being waited for is told at once."""
        async with self.bench() as b:
            lease = await b.take()
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(b.queue.ended, TENANT, lease.job.ticket_id)
                    await settle()
                    ticket, erased = (await b.put()).ticket_id, (await b.put()).ticket_id
                    await b.queue.cancel(TENANT, ticket)
                    await b.queue.erase(TENANT, ticket_id=erased)
                    await settle()
                    same((await b.queue.ended(TENANT, ticket)).job.state, TicketState.CANCELLED)
                    with pytest.raises(TicketNotFound):
                        await b.queue.ended(TENANT, erased)
                    await b.complete(lease)

    async def test_events_of_a_group(self) -> None:
        """A watcher gets its tenant's and group's events in order, from now on, then from its cursor on."""
        async with self.bench() as b:
            await b.put(replace(b.job(), group="g"))
            seen: list[tuple[str | None, int, TicketState]] = []
            cursors: list[str] = []

            async def watch() -> None:
                for event in await b.queue.events(TENANT, group="g", after=None):
                    seen.append((event.group, event.version, event.state))
                    cursors.append(event.cursor)

            async def act() -> None:
                await b.put(replace(b.job(tenant="school-2"), group="g"))
                await b.put(replace(b.job(), group="other"))
                await b.put(replace(b.job(), group="g"))

            await self.returns(watch, when=act)
            same(seen, [("g", 1, TicketState.QUEUED)])
            await b.queue.cancel_group(TENANT, "g")
            with anyio.fail_after(PATIENCE):
                later = await b.queue.events(TENANT, group="g", after=cursors[0])
            same([event.state for event in later], [TicketState.CANCELLED, TicketState.CANCELLED])

    async def test_events_past_a_gap(self) -> None:
        """A watcher that fell far behind sees where every job stands, and misses nothing that lasted."""
        async with self.bench(outbox=False) as b:
            cursors = [await self.cursor_of_first_put(b)]
            busy = await b.take()
            quiet = await b.put(replace(b.job(), group="g"))
            await b.queue.cancel(TENANT, quiet.ticket_id)
            for _ in range(6_000):
                await b.queue.finish(busy, Release(reason="circuit_open"))
                (busy,) = await b.claim()
            await b.complete(busy)
            last: dict[str, TicketState] = {}
            while last.get(busy.job.ticket_id) is not TicketState.COMPLETED:
                with anyio.fail_after(PATIENCE):
                    batch = await b.queue.events(TENANT, group=None, after=cursors[-1], limit=5_000)
                last |= {event.ticket_id: event.state for event in batch}
                cursors.append(batch[-1].cursor)
            same(last[quiet.ticket_id], TicketState.CANCELLED)

    async def test_worker_is_woken_by_a_job(self) -> None:
        """A worker that waits returns when a job arrives, goes back, or is let go by its gate or an operator."""
        async with self.bench() as b:
            await self.returns(b.queue.wait_ready, when=b.put)
            (lease,) = await b.claim()
            await self.returns(b.queue.wait_ready, when=lambda: b.queue.finish(lease, Release(reason="shutdown")))
            await self.returns(
                b.queue.wait_ready, when=lambda: b.queue.set_gate(LANE, circuit="closed", not_before=None)
            )
            await b.queue.pause(LANE)
            await self.returns(b.queue.wait_ready, when=lambda: b.queue.resume(LANE))

    async def test_worker_is_woken_by_time(self) -> None:
        """A worker that waits returns when a job's or a gate's time has come."""
        async with self.bench() as b:
            await b.put(replace(b.job(), not_before=b.clock.now() + timedelta(seconds=10)))
            await self.returns(b.queue.wait_ready, when=b.put)
            await self.returns(b.queue.wait_ready, when=lambda: b.clock.run_for(10))
            await b.queue.set_gate(LANE, circuit="closed", not_before=b.clock.now() + timedelta(seconds=10))
            await self.returns(b.queue.wait_ready, when=lambda: b.clock.run_for(10))

    async def test_closing_ends_every_wait(self) -> None:
        """Whoever waits when the queue closes is told so, and nothing is taken in afterwards."""
        async with self.bench() as b:
            ticket = (await b.put()).ticket_id
            await b.relay_all()
            told: list[type[QueueError]] = []

            async def wait(ask: Callable[[], Awaitable[object]]) -> None:
                with pytest.raises(QueueUnavailable) as refusal:
                    await ask()
                told.append(refusal.type)

            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(wait, b.queue.wait_ready)
                    tasks.start_soon(wait, lambda: b.queue.wait_unrelayed(0))
                    tasks.start_soon(wait, lambda: b.queue.wait(TENANT, ticket, beyond=1))
                    tasks.start_soon(wait, lambda: b.queue.events(TENANT, group=None, after=None))
                    await settle()
                    await b.queue.aclose()
            same(len(told), 4)
            with pytest.raises(QueueUnavailable):
                await b.queue.enqueue(b.job())
            with pytest.raises(QueueUnavailable):
                await b.claim()
            with anyio.fail_after(PATIENCE):
                await wait(b.queue.wait_ready)

    async def cursor_of_first_put(self, b: Bench) -> str:
        """Store a job and return the cursor of its event."""
        cursors: list[str] = []

        async def watch() -> None:
            cursors.extend(event.cursor for event in await b.queue.events(TENANT, group=None, after=None))

        await self.returns(watch, when=lambda: b.put(replace(b.job(), lane=OTHER_LANE)))
        return cursors[0]


class FairnessSuite(QueueSuite):
    """Who goes first within a lane."""

    async def served(self, b: Bench, count: int) -> list[str]:
        """Claim and complete one by one; return the keys in the order served."""
        keys: list[str] = []
        for _ in range(count):
            (lease,) = await b.claim()
            keys.append(lease.job.idempotency_key)
            await b.queue.finish(lease, Complete(result=b"x"))
        return keys

    async def test_one_flow_goes_in_order(self) -> None:
        """Jobs of one tenant and priority go in the order in which they came."""
        async with self.bench() as b:
            for number in range(5):
                await b.put(b.job(f"k{number}"))
            same(await self.served(b, 5), ["k0", "k1", "k2", "k3", "k4"])

    async def test_priority_has_its_share_and_starves_nobody(self) -> None:
        """An interactive job passes a backlog, and of 110 served about ten in eleven are interactive."""
        async with self.bench() as b:
            for number in range(120):
                await b.put(b.job(f"batch-{number}"))
            for number in range(120):
                await b.put(replace(b.job(f"quick-{number}"), priority=Priority.INTERACTIVE))
            keys = await self.served(b, 110)
            check(keys[0].startswith("quick"), "the backlog went first")
            batches = sum(key.startswith("batch") for key in keys)
            check(batches in {9, 10, 11}, f"the share was wrong: {keys}")

    async def test_tenants_take_turns(self) -> None:
        """A tenant with few jobs does not wait for another's backlog."""
        async with self.bench() as b:
            for number in range(50):
                await b.put(b.job(f"many-{number}"))
            for number in range(5):
                await b.put(b.job(f"few-{number}", tenant="school-2"))
            keys = await self.served(b, 10)
            few = sum(key.startswith("few") for key in keys)
            check(few in {4, 5}, f"the small tenant waited: {keys}")

    async def test_idle_tenant_saves_nothing_up(self) -> None:
        """A tenant that comes late shares from then on; it does not catch up on what it never asked for."""
        async with self.bench() as b:
            for number in range(40):
                await b.put(b.job(f"early-{number}"))
            await self.served(b, 20)
            for number in range(20):
                await b.put(b.job(f"late-{number}", tenant="school-2"))
            late = sum(key.startswith("late") for key in await self.served(b, 10))
            check(late in {4, 5, 6}, f"the late tenant got {late} of 10")

    async def test_job_that_comes_back_does_not_stay_in_front(self) -> None:
        """A job that goes back again and again lets others pass."""
        async with self.bench() as b:
            await b.put(b.job("sick"))
            (lease,) = await b.claim()
            await b.queue.finish(lease, Release(reason="circuit_open"))
            await b.put(b.job("healthy", tenant="school-2"))
            order: list[str] = []
            for _ in range(4):
                (lease,) = await b.claim()
                order.append(lease.job.idempotency_key)
                sick = lease.job.idempotency_key == "sick"
                await b.queue.finish(lease, Release(reason="circuit_open") if sick else Complete(result=b"x"))
                if len(order) > 1 and "healthy" in order:
                    break
            check("healthy" in order, f"never let anybody pass: {order}")


class AdminSuite(QueueSuite):
    """What an operator does and sees."""

    async def test_paused_lane_gives_nothing(self) -> None:
        """A paused lane gives no jobs until it is resumed; running ones may finish."""
        async with self.bench() as b:
            lease = await b.take()
            await b.put()
            await b.queue.pause(LANE)
            same(await b.claim(), [])
            same((await b.lane()).gate.paused, True)
            await b.complete(lease)
            await b.queue.resume(LANE)
            same((len(await b.claim()), (await b.lane()).gate.paused), (1, False))

    async def test_limited_lane_gives_as_many_as_may_run(self) -> None:
        """Of a limited lane no more than so many run at once, whoever claims; without the limit all do."""
        async with self.bench() as b:
            for _ in range(5):
                await b.put()
            await b.queue.limit(LANE, 2)
            (first, _), none = await b.claim(3), await b.claim(3)
            same((len(none), (await b.lane()).gate.max_in_flight), (0, 2))
            await b.complete(first)
            same(len(await b.claim(3)), 1)
            await b.queue.limit(LANE, None)
            same((len(await b.claim(3)), (await b.lane()).gate.max_in_flight), (2, None))

    async def test_counts_follow_every_change(self) -> None:
        """Depth, bytes, outbox, lane counts and the oldest age are those of the jobs there are."""
        async with self.bench() as b:
            first = await b.put(b.job("first"))
            b.clock.advance(5)
            second = await b.put(b.job("second"))
            stats = await b.queue.stats()
            same((stats.depth, stats.bytes, stats.outbox), (2, 36, 2))
            same(stats.oldest_created_at, first.created_at)
            await b.complete((await b.claim())[0])
            same((await b.queue.stats()).oldest_created_at, second.created_at)
            lane = await b.lane()
            same((lane.ready, lane.processing, lane.oldest_created_at), (1, 0, second.created_at))
            await b.queue.cancel(TENANT, second.ticket_id)
            same(((await b.queue.stats()).depth, (await b.queue.stats()).oldest_created_at), (0, None))
            same(await b.queue.lanes(), [])

    async def test_lanes_show_gate_and_heartbeat(self) -> None:
        """A lane that holds jobs is listed with its circuit and the latest sign of a worker."""
        async with self.bench() as b:
            await b.put()
            await b.queue.set_gate(LANE, circuit="half_open", not_before=None)
            await b.queue.heartbeat("worker-1", [LANE])
            (stats,) = await b.queue.lanes()
            same((stats.lane, stats.gate.circuit), (LANE, "half_open"))
            same(stats.last_heartbeat_at, b.clock.now())

    async def test_newest_jobs_come_first(self) -> None:
        """Jobs are listed newest first, of one tenant or of all, up to a limit."""
        async with self.bench() as b:
            for number in range(3):
                b.clock.advance(1)
                await b.put(b.job(f"k{number}"))
            await b.put(b.job("foreign", tenant="school-2"))
            same([view.idempotency_key for view in await b.queue.list_jobs(tenant=TENANT, limit=2)], ["k2", "k1"])
            same(len(await b.queue.list_jobs()), 4)

    async def test_position_is_honest(self) -> None:
        """A position is the number of jobs ahead, or unknown; never a guess."""
        async with self.bench() as b:
            views = [await b.put() for _ in range(3)]
            positions = [(await b.view(view.ticket_id)).position for view in views]
            check(positions in ([0, 1, 2], [None] * 3), f"not the number of jobs ahead: {positions}")
            await b.claim()
            check((await b.view(views[0].ticket_id)).position is None, "a running job has nobody ahead")
            check((await b.view(views[2].ticket_id)).position in (1, None), "the queue moved on")

    async def test_starting_again_changes_nothing(self) -> None:
        """Starting a started queue keeps its jobs and its outbox."""
        async with self.bench() as b:
            view = await b.put()
            await b.queue.start(outbox=True)
            same(await b.state(view.ticket_id), TicketState.QUEUED)
            same(len(await b.unrelayed()), 1)
