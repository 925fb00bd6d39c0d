"""A queue against a model of it: random histories, and what must hold after every step.

Composite rules ("claim, die, wait, sweep") reach what single steps seldom do. Bind it to a backend so::

    class MyMachine(QueueMachine):
        async def make(self, options):
            clock = FakeClock()
            return MyQueue(options, clock=clock), clock

    TestMyQueueModel = MyMachine.TestCase
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from itertools import count
from typing import Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_gateway._core.jobs import (
    Complete,
    Disposition,
    Enqueued,
    Fail,
    JobEvent,
    Lease,
    NewJob,
    Park,
    ParkScope,
    Release,
    Retry,
)
from llm_gateway._core.lifecycle import TicketState
from llm_gateway.errors import IdempotencyConflict, LLMGatewayError, QueueFull
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import QueueBackend
from llm_gateway.testing.clock import FakeClock
from llm_gateway.testing.conformance.bench import BOOM, LANE, LEASE, Bench, check, same

__all__ = ["ModelJob", "QueueMachine"]

T = TypeVar("T")
MAX_DEPTH: Final = 6
MAX_ATTEMPTS: Final = 3
MAX_CRASHES: Final = 2
TTL: Final = 200.0
DELAY: Final = 20.0
PICK: Final = st.integers(0, 50)
TENANTS: Final = st.sampled_from(["school-1", "school-2"])
DISPOSITIONS: Final = st.sampled_from(
    [
        Complete(result=b"answer-1"),
        Complete(result=b"answer-2"),
        Fail(error=BOOM),
        Retry(error=BOOM, delay=DELAY, max_attempts=MAX_ATTEMPTS),
        Release(reason="circuit_open", delay=DELAY),
        Park(reason="model_changed", scope=ParkScope.JOB),
    ],
)
AFTER: Final = {
    Complete: TicketState.COMPLETED,
    Fail: TicketState.FAILED,
    Retry: TicketState.QUEUED,
    Release: TicketState.QUEUED,
    Park: TicketState.QUEUED,
}


@dataclass(slots=True)
class ModelJob:
    """What the model knows of a job. Times are seconds of the clock."""

    tenant: str
    content: str
    expires: float
    state: TicketState = TicketState.QUEUED
    version: int = 1
    attempts: int = 0
    crashes: int = 0
    due: float = 0.0
    parked: bool = False
    token: str | None = None
    settled: str | None = None
    lapses: float = 0.0
    result: bytes | None = None

    def move(self, state: TicketState) -> None:
        """Make one transition, which ends a lease."""
        self.state, self.version, self.token = state, self.version + 1, None

    def claimable(self, now: float) -> bool:
        """Whether a claim may take it."""
        return self.state is TicketState.QUEUED and not self.parked and self.due <= now < self.expires

    def finish(self, disposition: Disposition, now: float) -> None:
        """End the attempt."""
        spends = isinstance(disposition, Complete | Fail | Retry)
        self.attempts += spends
        self.settled, self.due = self.token, now + (getattr(disposition, "delay", 0.0))
        self.parked = isinstance(disposition, Park)
        spent = isinstance(disposition, Retry) and self.attempts >= disposition.max_attempts
        self.move(TicketState.FAILED if spent else AFTER[type(disposition)])
        self.result = disposition.result if isinstance(disposition, Complete) else None

    def sweep(self, now: float) -> None:
        """Expire first, then take back."""
        if not self.state.terminal and self.expires <= now:
            self.move(TicketState.EXPIRED)
        elif self.state is TicketState.PROCESSING and self.lapses <= now:
            self.crashes, self.due = self.crashes + 1, 0.0
            self.move(TicketState.FAILED if self.crashes >= MAX_CRASHES else TicketState.QUEUED)


class QueueMachine(RuleBasedStateMachine):
    """Random histories of one lane, with two tenants. Subclasses supply `make`, and `dispose` if need be."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        options = QueueOptions(max_depth=MAX_DEPTH, max_crashes=MAX_CRASHES)
        queue, self.clock = self.run(self.make(options))
        self.run(queue.start(outbox=True))
        self.queue = queue
        self.b = Bench(queue, self.clock, count(1))
        self.jobs: dict[str, ModelJob] = {}
        self.keys: dict[tuple[str, str], str] = {}
        self.leases: list[Lease] = []
        self.events: list[JobEvent] = []

    async def make(self, options: QueueOptions) -> tuple[QueueBackend, FakeClock]:
        """Return an empty queue that was not started, and the clock it goes by. To be supplied."""
        raise NotImplementedError

    async def dispose(self) -> None:
        """Remove what `make` made. Nothing by default."""

    def run(self, step: Coroutine[object, object, T]) -> T:
        """Run one call to its end."""
        return self.runner.run(step)

    def teardown(self) -> None:
        """Close the queue and the loop."""
        self.run(self.queue.aclose())
        self.run(self.dispose())
        self.runner.close()

    @property
    def now(self) -> float:
        """Seconds by the model's reckoning."""
        return self.clock.monotonic()

    @rule(key=st.integers(0, 5), tenant=TENANTS, content=st.sampled_from(["x", "y"]))
    def submit(self, key: int, tenant: str, content: str) -> None:
        """Store a job, find it, be refused for a conflict or for want of room."""
        job = replace(self.b.job(f"k{key}", ttl=TTL, tenant=tenant), fingerprint=content, payload=content.encode())
        (reply,) = self.run(self.queue.enqueue_many([job]))
        known = self.keys.get((tenant, job.idempotency_key))
        if known is not None:
            self._known(known, content, reply)
        elif len(self._live()) >= MAX_DEPTH:
            same(type(reply), QueueFull)
        else:
            self._stored(job, reply)

    @rule(most=st.integers(1, 3))
    def claim(self, most: int) -> None:
        """Claim, and keep the leases for later."""
        self._claim(most)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK, disposition=DISPOSITIONS)
    def finish(self, pick: int, disposition: Disposition) -> None:
        """Finish under some lease, current, lost or used."""
        self._finish(self.leases[pick % len(self.leases)], disposition)

    @precondition(lambda self: self.leases)
    @rule(pick=PICK)
    def extend(self, pick: int) -> None:
        """Prolong some lease, current or not."""
        lease = self.leases[pick % len(self.leases)]
        job = self.jobs[lease.job.ticket_id]
        current = job.token == lease.token
        same(self.run(self.queue.extend(lease, LEASE)), current)
        if current:
            job.lapses = self.now + LEASE

    @precondition(lambda self: self.jobs)
    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        """Cancel some job, ended or not."""
        ticket, job = list(self.jobs.items())[pick % len(self.jobs)]
        if not job.state.terminal:
            job.move(TicketState.CANCELLED)
        same(self.run(self.queue.cancel(job.tenant, ticket)).state, job.state)

    @rule()
    def sweep(self) -> None:
        """Expire and take back."""
        self.run(self.queue.sweep())
        for job in self.jobs.values():
            job.sweep(self.now)

    @rule()
    def resume(self) -> None:
        """Let parked jobs go."""
        self.run(self.queue.resume(LANE))
        for job in self.jobs.values():
            if job.parked and not job.state.terminal:
                job.parked = False
                job.move(TicketState.QUEUED)

    @rule(seconds=st.integers(1, 120))
    def tick(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule(most=st.integers(1, 3), seconds=st.sampled_from([LEASE + 1, TTL + 1]))
    def crash(self, most: int, seconds: float) -> None:
        """Claim, die, wait, sweep."""
        self._claim(most)
        self.clock.advance(seconds)
        self.sweep()

    @rule(most=st.integers(1, 3))
    def try_again(self, most: int) -> None:
        """Claim, fail for a while, wait: as often as it takes to reach the cap."""
        for lease in self._claim(most):
            self._finish(lease, Retry(error=BOOM, delay=DELAY, max_attempts=MAX_ATTEMPTS))
        self.clock.advance(DELAY)

    @rule(most=st.integers(1, 3), rounds=st.integers(0, 2))
    def park(self, most: int, rounds: int) -> None:
        """Claim, park, resume: some rounds of it, the last without resuming."""
        for _ in range(rounds):
            self._park(most)
            self.resume()
        self._park(most)

    @rule()
    def zombie(self) -> None:
        """Claim, sleep past the lease, let another finish, wake and finish too."""
        for late in self._claim(1):
            self.clock.advance(LEASE + 1)
            self.sweep()
            for current in self._claim(MAX_DEPTH):
                self._finish(current, Complete(result=b"current"))
            self._finish(late, Complete(result=b"late"))

    @invariant()
    def jobs_agree(self) -> None:
        """State, version, counters and result of each job are the model's."""
        for ticket, job in self.jobs.items():
            view = self.run(self.queue.get(job.tenant, ticket))
            same(
                (view.state, view.version, view.attempts, view.crashes),
                (job.state, job.version, job.attempts, job.crashes),
            )
            same(self.run(self.queue.result(job.tenant, ticket)), job.result)

    @invariant()
    def counts_agree(self) -> None:
        """The counts are those of the jobs there are."""
        stats, live = self.run(self.queue.stats()), self._live()
        same((stats.depth, stats.bytes), (len(live), len(live)))
        lanes = [lane for lane in stats.lanes if lane.lane == LANE]
        for lane in lanes:
            waiting = [job for job in live if job.state is TicketState.QUEUED]
            same(lane.processing, len(live) - len(waiting))
            same(lane.parked, sum(job.parked for job in waiting))
            same(lane.delayed, sum(job.due > self.now and not job.parked for job in waiting))
            same(lane.ready, len(waiting) - lane.parked - lane.delayed)
            same(lane.dead, sum(job.state is TicketState.FAILED for job in self.jobs.values()))

    @invariant()
    def events_agree(self) -> None:
        """A ticket's events are 1..v, the last tells its state, at most one is terminal, at most one has a result."""
        self.events += self.run(self.b.relay_all())
        for ticket, job in self.jobs.items():
            told = [event for event in self.events if event.ticket_id == ticket]
            same([event.version for event in told], list(range(1, job.version + 1)))
            same(told[-1].state, job.state)
            same(sum(event.state.terminal for event in told), int(job.state.terminal))
            results = [event.result for event in told if event.result is not None]
            same(results, [] if job.result is None else [job.result])

    def _claim(self, most: int) -> list[Lease]:
        # As many as there are, up to the number asked for; asking again gives the same.
        ready = {ticket for ticket, job in self.jobs.items() if job.claimable(self.now)}
        claim_id = f"claim-{next(self.b.numbers)}"
        leases = self.run(self.b.claim(most, claim_id=claim_id))
        taken = {lease.job.ticket_id for lease in leases}
        same(len(leases), min(most, len(ready)))
        check(taken <= ready, "a job was given out that was not ready")
        for lease in leases:
            job = self.jobs[lease.job.ticket_id]
            job.move(TicketState.PROCESSING)
            job.token, job.lapses = lease.token, self.now + LEASE
        self._notice_expired()
        if leases:
            again = self.run(self.b.claim(most, claim_id=claim_id))
            same({lease.token for lease in again}, {lease.token for lease in leases})
        self.leases += leases
        return leases

    def _live(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if not job.state.terminal]

    def _known(self, ticket: str, content: str, reply: Enqueued | LLMGatewayError) -> None:
        if self.jobs[ticket].content == content:
            check(isinstance(reply, Enqueued), f"refused: {reply!r}")
            if isinstance(reply, Enqueued):
                same((reply.created, reply.job.ticket_id), (False, ticket))
        else:
            same(type(reply), IdempotencyConflict)

    def _stored(self, job: NewJob, reply: Enqueued | LLMGatewayError) -> None:
        check(isinstance(reply, Enqueued) and reply.created, f"not stored: {reply!r}")
        self.keys[job.tenant, job.idempotency_key] = job.ticket_id
        self.jobs[job.ticket_id] = ModelJob(job.tenant, job.fingerprint, self.now + TTL)

    def _finish(self, lease: Lease, disposition: Disposition) -> None:
        reply = self.run(self.queue.finish(lease, disposition))
        job = self.jobs[lease.job.ticket_id]
        replayed = job.settled == lease.token
        accepted = job.token == lease.token
        if accepted:
            job.finish(disposition, self.now)
        same((reply.accepted, reply.replayed, reply.state), (accepted or replayed, replayed, job.state))

    def _park(self, most: int) -> None:
        for lease in self._claim(most):
            self._finish(lease, Park(reason="model_changed", scope=ParkScope.JOB))

    def _notice_expired(self) -> None:
        # A claim may expire what it comes across, or leave that to the sweep: both are right.
        for ticket, job in self.jobs.items():
            if job.state is TicketState.QUEUED and job.expires <= self.now:
                state = self.run(self.queue.get(job.tenant, ticket)).state
                if state is TicketState.EXPIRED:
                    job.move(state)
