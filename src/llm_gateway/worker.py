"""Drains the queue: claims with a permit, works under a lease, and hands back what it cannot finish."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from typing import Final, NamedTuple

from llm_gateway._background import Background
from llm_gateway._core.circuit import CircuitKey, Permit, Rejection
from llm_gateway._core.jobs import Disposition, Fail, Lane, LaneStats, Lease, Release
from llm_gateway._core.latch import CANARY
from llm_gateway._core.outcomes import WaitReason
from llm_gateway._core.payloads import read_job
from llm_gateway._engine import Engine
from llm_gateway._pipeline import Call
from llm_gateway._settlement import Settlement, job_error, stop
from llm_gateway._tickets import Tickets
from llm_gateway.errors import LLMGatewayError, QueueError, QueueUnavailable, UnknownKey
from llm_gateway.options import WorkerOptions
from llm_gateway.protocols import QueueBackend

__all__ = ["Worker"]

logger: Final = logging.getLogger("llm_gateway")
HEARTBEAT_SECONDS: Final = 3.0
QUEUE_PAUSE: Final = 1.0
# Long enough that workers that have the key get their turn, short against any ttl.
KEYLESS_PAUSE: Final = 10.0


class Round(NamedTuple):
    """What one look at the lanes brought: jobs started, and seconds until looking again can help."""

    started: int
    look_again: float


class Worker:
    """One worker in this process.

    It claims a job only with the breaker's permit for it and a free place to run it, so an open circuit holds
    jobs without touching them.
    """

    def __init__(self, engine: Engine, queue: QueueBackend, tickets: Tickets, options: WorkerOptions) -> None:
        self._engine = engine
        self._queue = queue
        self._tickets = tickets
        self._options = options
        self._clock = engine.parts.clock
        self._settlement = Settlement(engine, queue, tickets)
        self._running = Background()
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._drained = asyncio.Event()
        self._turn = 0
        self._busy: Counter[Lane] = Counter()
        self._keyless = False
        self._canaries: dict[Lane, float] = {}
        self._unanswered: dict[Lane, str] = {}
        self._served: dict[Lane, float] = {}
        self.name = f"worker-{token_hex(6)}"

    @property
    def running(self) -> int:
        """How many jobs it works on."""
        return len(self._running)

    @asynccontextmanager
    async def at_work(self) -> AsyncGenerator[Worker]:
        """Run while the block runs, then drain; when the block raises, jobs go back at once."""
        running = asyncio.create_task(self.run(), name=f"llm_gateway {self.name}")
        self._tickets.workers_here += 1
        try:
            yield self
            self.stop()
            await asyncio.wait({running})
        finally:
            self._tickets.workers_here -= 1
            await stop(running)
        running.result()

    async def run(self) -> None:
        """Work until `stop` is called, then let running jobs end or go back.

        When cancelled, running jobs go back at once.
        """
        duties = [
            asyncio.create_task(self._kept_up(self._beat, HEARTBEAT_SECONDS)),
            asyncio.create_task(self._kept_up(self._sweep, self._options.sweep_seconds)),
        ]
        try:
            await self._claim_until_stopped()
            await self._running.settled(self._options.drain_timeout)
        finally:
            try:
                await self._running.aclose()
            finally:
                await stop(*duties)

    def stop(self) -> None:
        """Claim nothing more and let `run` drain."""
        self._stopping.set()

    async def drained(self) -> None:
        """Return once a look at the lanes found nothing that waits or runs, here or in another process.

        What waits for an operator (a paused or parked lane, a latched account) and lanes of providers that are not
        configured here are left out. The end of another process's last job is noticed within ``sweep_seconds``.
        """
        await self._drained.wait()

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._freed.clear()
            ready = asyncio.create_task(self._queue.wait_ready())
            try:
                round_ = await self._look_round()
                if round_.started == 0:
                    await self._wait_for(ready, round_.look_again)
            except Exception as error:
                # Backends are foreign code, and a worker that dies of one of them would look like an idle one.
                logger.warning("The queue does not answer (%s); trying again", type(error).__name__)
                await self._first_of(self._clock.sleep(QUEUE_PAUSE), self._stopping.wait())
            finally:
                await stop(ready)

    async def _wait_for(self, ready: asyncio.Task[None], seconds: float) -> None:
        if self.running >= self._options.concurrency:
            await self._first_of(self._freed.wait(), self._stopping.wait())
            return
        pause = min(seconds, self._options.sweep_seconds)
        # A job that ends can free a probe slot without any change of state.
        await self._first_of(_done(ready), self._clock.sleep(pause), self._freed.wait(), self._stopping.wait())
        if ready.done() and not ready.cancelled():
            ready.result()  # what a queue raises here must lead to a pause, not to the next look at once

    async def _look_round(self) -> Round:
        lanes = await self._queue.lanes()
        first = self._turn % max(len(lanes), 1)
        started, look_again = 0, math.inf
        for lane in lanes[first:] + lanes[:first]:
            found = await self._look_at(lane)
            started += found.started
            look_again = min(look_again, found.look_again)
        # A round without a free place passes no turn on: two rounds a job would give every turn to the same lane.
        self._turn += int(started > 0)
        if started == 0 and look_again > 0.0 and not any(map(self._is_busy, lanes)):
            self._drained.set()
        else:
            self._drained.clear()
        return Round(started, look_again)

    def _is_busy(self, stats: LaneStats) -> bool:
        """Whether a lane has jobs that this worker can do or wait for without an operator."""
        latched = self._engine.latches.latched(self._engine.account_of(stats.lane))
        shut = latched or stats.gate.paused or stats.gate.parked is not None
        waiting = 0 if shut else stats.ready + stats.delayed
        return self._engine.key_of(stats.lane) is not None and waiting + stats.processing > 0

    async def _look_at(self, stats: LaneStats) -> Round:
        key = self._engine.key_of(stats.lane)
        free = self._free(stats.lane)
        if key is None or free <= 0 or stats.gate.paused:
            return Round(0, math.inf)
        if stats.gate.parked is not None:
            # Its first job is claimed by the next look, which therefore comes at once.
            return Round(0, 0.0 if await self._try_canary(key, stats.gate.parked) else math.inf)
        # Jobs of a claim whose reply was lost count as taken: they come to light only by asking again.
        ready = max(stats.ready, int(stats.lane in self._unanswered))
        if ready == 0:
            return Round(0, math.inf)
        delay = self._engine.parts.limiter.delay(key)
        return Round(0, delay) if delay > 0.0 else await self._claim(key, min(free, ready, self._allowed(key)))

    def _free(self, lane: Lane) -> int:
        """How many jobs of a lane there is a place for."""
        free = self._options.concurrency - self.running
        most = self._options.lane_concurrency
        return free if most is None else min(free, most - self._busy[lane])

    def _allowed(self, key: CircuitKey) -> int:
        """How many jobs the account takes: of a latched one a canary at most, for those beside it would be parked."""
        account, latches = self._engine.account_of(key.lane), self._engine.latches
        if not latches.latched(account):
            return self._options.concurrency
        return int(latches.due(account, self._clock.monotonic()))

    async def _try_canary(self, key: CircuitKey, parked: str) -> bool:
        """Un-park a lane now and then: its first job shows whether the cause has been mended. Tell whether it was."""
        now = self._clock.monotonic()
        account = self._engine.account_of(key.lane)
        # A lane this worker never claimed from was parked by a process that is gone, perhaps with its cause.
        if now >= self._canaries.get(key.lane, -math.inf) and self._engine.latches.due(account, now):
            self._canaries[key.lane] = now + CANARY
            await self._queue.unpark(key.lane, parked)
            return True
        return False

    async def _claim(self, key: CircuitKey, count: int) -> Round:
        breaker = self._engine.parts.breaker
        permits, rejection = self._permits(key, count)
        leases: list[Lease] = []
        try:
            if permits:
                leases = await self._claimed(key.lane, len(permits))
        finally:
            for permit in permits[len(leases) :]:
                breaker.ignore(permit)
        if leases:
            self._canaries[key.lane] = self._clock.monotonic() + CANARY
        for lease, permit in zip(leases, permits, strict=False):
            self._start(lease, permit)
        return Round(len(leases), rejection.retry_in if rejection is not None else math.inf)

    def _start(self, lease: Lease, permit: Permit) -> None:
        lane = lease.job.lane
        self._busy[lane] += 1
        task = self._running.start(self._work(lease, permit), f"job {lease.job.ticket_id}")
        task.add_done_callback(lambda _: self._ended(lane))

    def _ended(self, lane: Lane) -> None:
        self._busy[lane] -= 1
        if not self._busy[lane]:
            del self._busy[lane]
        self._freed.set()

    async def _claimed(self, lane: Lane, count: int) -> list[Lease]:
        """Claim jobs; a claim whose reply was lost is asked again under its own id, so that its jobs come to light."""
        claim_id = self._unanswered.setdefault(lane, token_hex(12))
        leases = await self._queue.claim(
            lane, count, worker=self.name, lease_seconds=self._options.lease_seconds, claim_id=claim_id
        )
        del self._unanswered[lane]
        for surplus in leases[count:]:
            # One that cannot be given back lapses; those that were wanted must not lapse with it.
            with suppress(QueueError):
                await self._queue.finish(surplus, Release(reason=WaitReason.LOCAL_BUSY))
        return leases[:count]

    def _permits(self, key: CircuitKey, count: int) -> tuple[list[Permit], Rejection | None]:
        permits: list[Permit] = []
        while len(permits) < count:
            permit = self._engine.parts.breaker.acquire(key)
            if isinstance(permit, Rejection):
                return permits, permit
            permits.append(permit)
        return permits, None

    async def _work(self, lease: Lease, permit: Permit) -> None:
        call: Call | None = None
        try:
            call = await self._opened(lease)
        finally:
            if call is None:
                self._engine.parts.breaker.ignore(permit)
        if call is None:
            return
        call.permit = permit
        timeout = self._engine.parts.http.attempt_timeout
        work = asyncio.create_task(self._engine.once(call, timeout))
        await self._settlement.tend(lease, work, call)
        self._measure(lease.job.lane)

    async def _opened(self, lease: Lease) -> Call | None:
        """Make the call of a job; ``None`` when the job has failed or expired instead, or was given back."""
        try:
            call = await self._call_of(lease)
        except (UnknownKey, QueueUnavailable) as error:
            await self._leave(lease, error)
            return None
        except LLMGatewayError as error:
            await self._refuse(lease, Fail(error=job_error(error)))
            return None
        except asyncio.CancelledError:
            # Nothing was sent: the job goes back now rather than when its lease lapses, which counts as a crash.
            back = self._queue.finish(lease, Release(reason=WaitReason.SHUTDOWN))
            self._engine.settlements.start(back, f"hand back {lease.job.ticket_id}")
            raise
        # The time to live is looked at last: what is over by now must not be paid for.
        if lease.job.expires_at > self._clock.now():
            return call
        await self._expire(lease)
        return None

    async def _call_of(self, lease: Lease) -> Call:
        stored = read_job(await self._tickets.open_payload(lease.job, lease.payload))
        self._keyless = False
        return self._engine.prepare(stored.request, stored.schema, deadline=math.inf, live=False)

    async def _leave(self, lease: Lease, error: QueueError) -> None:
        """Give back what another process, or this one later, can open. No attempt is spent, the ttl bounds it."""
        if not self._keyless:
            self._keyless = True
            logger.error("Requests are given back because they cannot be opened here: %s", error)
        reason = WaitReason.UNKNOWN_KEY if isinstance(error, UnknownKey) else WaitReason.LOCAL_BUSY
        await self._queue.finish(lease, Release(reason=reason, delay=KEYLESS_PAUSE))

    async def _refuse(self, lease: Lease, disposition: Disposition) -> None:
        logger.error("Ticket %s cannot be read or sent as it is stored", lease.job.ticket_id)
        await self._queue.finish(lease, disposition)

    async def _expire(self, lease: Lease) -> None:
        # Handed back first: a job that expires under a lease is recorded as a call that may be billed.
        await self._queue.finish(lease, Release(reason=WaitReason.DEADLINE))
        await self._queue.sweep()

    def _measure(self, lane: Lane) -> None:
        """Keep a moving average of jobs per second, for estimates of waiting time."""
        now = self._clock.monotonic()
        before, self._served[lane] = self._served.get(lane), now
        if before is None or now <= before:
            return
        rate, known = 1.0 / (now - before), self._tickets.paces.get(lane)
        self._tickets.paces[lane] = rate if known is None else 0.8 * known + 0.2 * rate

    async def _beat(self) -> None:
        lanes = [stats.lane for stats in await self._queue.lanes() if self._engine.key_of(stats.lane) is not None]
        await self._queue.heartbeat(self.name, lanes)

    async def _sweep(self) -> None:
        while (await self._queue.sweep()).more:
            pass

    async def _kept_up(self, duty: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                await duty()
            except Exception as error:
                logger.warning("The queue does not answer (%s); trying again", type(error).__name__)
            await self._clock.sleep(seconds)

    @staticmethod
    async def _first_of(*waits: Coroutine[object, object, object]) -> None:
        tasks = [asyncio.create_task(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                await stop(task)


async def _done(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
