"""Rounds of everything that can befall a job, each of which has to leave a queue as the one before left it.

A round submits, claims, finishes in every way, loses workers, cancels, expires, parks, resumes, erases and relays, all
at once, under tenants, groups, subjects and keys that no other round has. Then it waits until every job has been
forgotten, and reads what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, Protocol

from llm_gateway._core.jobs import (
    Complete,
    Disposition,
    Fail,
    JobError,
    Lane,
    Lease,
    NewJob,
    Park,
    ParkScope,
    Release,
    Retry,
)
from llm_gateway._core.requests import Priority
from llm_gateway._facts import Fault
from llm_gateway.errors import QueueError, TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.protocols import QueueBackend

__all__ = ["OPTIONS", "Census", "Reading", "Soak", "growth"]

RETENTION: Final = timedelta(seconds=0.2)
OPTIONS: Final = QueueOptions(result_retention=RETENTION, dead_letter_retention=RETENTION, max_crashes=2)
TTLS: Final = (0.2, 0.6, 1.0)
LEASE: Final = 0.15
LANES: Final = tuple(Lane("simulated", f"judge-{number}") for number in range(3))
# Nobody claims from the last one: its jobs only expire or are cancelled.
SERVED: Final = LANES[:-1]
TENANTS: Final = 10
AT_ONCE: Final = 10
WORKERS: Final = 3
SWEPT: Final = 1_000
SETTLED_WITHIN: Final = 60.0
LEAD_SECONDS: Final = 5.0
BOOM: Final = JobError(type="MalformedResponse", message="The answer was cut.", fault=Fault.MALFORMED)
PAYLOAD: Final = b"the sealed request" * 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was left after a round.

    Attributes:
        jobs: How many had been submitted until then.
        kinds: Keys, or rows, of each kind. All that must not grow.
        elements: What all of them hold.
        bytes: Memory without the log of events, or the file, which is as large as it ever had to be.
        log: Events in the log, which is bounded.
        resident: Of this process, in bytes.
        strays: What neither ends by itself nor is found from anywhere, in the midst of the round or after it.
    """

    jobs: int
    kinds: Mapping[str, int]
    elements: int
    bytes: int
    log: int
    resident: int
    strays: tuple[str, ...]


class Census(Protocol):
    """Looks at what a queue has stored."""

    async def unsettled(self) -> int:
        """Count what still has to go by itself."""
        ...

    async def strays(self) -> list[str]:
        """Name what neither ends by itself nor is found from anywhere. Nothing may change meanwhile."""
        ...

    async def read(self, jobs: int, strays: Sequence[str]) -> Reading:
        """Read what is left."""
        ...


class Soak:
    """A queue that is kept busy.

    Args:
        queue: Started, with an outbox, under `OPTIONS`.
        census: Looks at the same queue.
        jobs: How many a round submits.
        seed: Of all that is left to chance.
    """

    def __init__(self, queue: QueueBackend, census: Census, *, jobs: int, seed: int = 1) -> None:
        self._queue = queue
        self._census = census
        self._jobs = jobs
        self._random = Random(seed)
        self._round = 0
        self._submitted = 0
        self._tickets: list[tuple[str, str]] = []
        self._over = asyncio.Event()

    async def rounds(self, more: Callable[[int], bool]) -> AsyncIterator[Reading]:
        """Do rounds as long as *more* says so of the number done."""
        while more(self._round):
            yield await self.round()

    async def round(self) -> Reading:
        """Do one round.

        Raises:
            TimeoutError: something does not go.
        """
        self._round += 1
        self._over.clear()
        self._tickets.clear()
        async with asyncio.TaskGroup() as tasks:
            for number in range(WORKERS):
                tasks.create_task(self._work(f"worker-{number}"))
            tasks.create_task(self._relay_and_sweep())
            await self._submit()
            await self._keep_keys()
            self._over.set()
        strays = await self._census.strays()
        async with asyncio.timeout(SETTLED_WITHIN):
            await self._settle()
        return await self._census.read(self._submitted, [*strays, *await self._census.strays()])

    async def _submit(self) -> None:
        for _ in range(0, self._jobs, AT_ONCE):
            jobs = [self._job() for _ in range(AT_ONCE)]
            await self._queue.enqueue_many(jobs)
            self._submitted += len(jobs)
            self._tickets += [(job.tenant, job.ticket_id) for job in jobs]
            with suppress(TicketNotFound):
                await self._disturb()

    def _job(self) -> NewJob:
        pick, now = self._random, datetime.now(UTC)
        tenant, key = self._tenant(), f"key-{self._round}-{pick.getrandbits(64):x}"
        return NewJob(
            ticket_id=self._queue.mint(tenant, key),
            tenant=tenant,
            lane=pick.choice(LANES),
            idempotency_key=key,
            fingerprint=f"content of {key}",
            priority=pick.choice(list(Priority)),
            created_at=now,
            expires_at=now + timedelta(seconds=pick.choice(TTLS)),
            not_before=now + timedelta(seconds=0.05) if pick.random() < 0.2 else None,
            group=self._group() if pick.random() < 0.5 else None,
            subjects=(self._subject(),) if pick.random() < 0.5 else (),
            echo=b'{"metadata":{}}',
            payload=PAYLOAD,
        )

    def _tenant(self) -> str:
        return f"tenant-{self._round}-{self._random.randrange(TENANTS)}"

    def _group(self) -> str:
        return f"group-{self._round}-{self._random.randrange(3)}"

    def _subject(self) -> str:
        return f"subject-{self._round}-{self._random.randrange(3)}"

    async def _disturb(self) -> None:
        """Cancel, erase, pause or resume something."""
        tenant, ticket = self._random.choice(self._tickets)
        lane = self._random.choice(LANES)
        match self._random.randrange(12):
            case 0 | 1:
                await self._queue.cancel(tenant, ticket)
            case 2:
                await self._queue.cancel_group(tenant, self._group())
            case 3:
                await self._queue.erase(tenant, ticket_id=ticket)
            case 4:
                await self._queue.erase(tenant, subject=self._subject())
            case 5:
                await self._queue.erase(self._tenant(), everything=True)
            case 6:
                await self._queue.pause(lane)
            case _:
                # More often than lanes are paused and parked: most of the time there is something to claim.
                await self._resume()

    async def _resume(self) -> None:
        for lane in LANES:
            await self._queue.resume(lane)

    async def _keep_keys(self) -> None:
        """Keep and drop what is a tenant's, and ask for pins that every round has."""
        for number in range(TENANTS):
            tenant = f"tenant-{self._round}-{number}"
            await self._queue.keep_tenant_key(tenant, b"wrapped")
            await self._queue.drop_tenant_key(tenant)
        for number in range(3):
            await self._queue.pin("tenant", f"group-{number}", LANES[0], "model-1")

    async def _work(self, name: str) -> None:
        while not self._over.is_set():
            for lane in SERVED:
                claim_id = f"claim-{self._random.getrandbits(64):x}"
                leases = await self._queue.claim(lane, 4, worker=name, lease_seconds=LEASE, claim_id=claim_id)
                for lease in leases:
                    await self._end(lease)

    async def _end(self, lease: Lease) -> None:
        if self._random.random() < 0.1:
            # This worker was lost.
            return
        if self._random.random() < 0.1:
            await self._queue.extend(lease, LEASE)
        await self._queue.finish(lease, self._disposition())

    def _disposition(self) -> Disposition:
        pick = self._random.random()
        if pick < 0.6:
            return Complete(result=b"the answer" * 10)
        others: list[Disposition] = [
            Fail(error=BOOM),
            Fail(error=BOOM, park_group="model_changed"),
            Retry(error=BOOM, delay=0.02, max_attempts=3),
            Release(reason="circuit_open", delay=0.02),
            Park(reason="needs_operator"),
            Park(reason="model_changed", scope=ParkScope.GROUP),
            Park(reason="needs_operator", scope=ParkScope.LANE),
        ]
        return self._random.choice(others)

    async def _relay_and_sweep(self) -> None:
        while not self._over.is_set():
            await self._relay()
            await self._queue.sweep(SWEPT)

    async def _relay(self) -> None:
        for shard in range(self._queue.outbox_shards):
            events = await self._queue.unrelayed(shard, limit=SWEPT)
            if events and await self._queue.lead(shard, "relay", LEAD_SECONDS):
                await self._queue.relayed(shard, events[-1].cursor, "relay")

    async def _settle(self) -> None:
        """Let everything end, be told and be forgotten: by time, of which nothing but its effect is looked at."""
        await self._resume()
        while await self._census.unsettled():
            with suppress(QueueError):
                await self._relay()
                await self._queue.sweep(SWEPT)


def growth(readings: Sequence[Reading], *, slack: int, resident_slack: int) -> list[str]:
    """Tell what grew.

    Args:
        readings: Of all rounds, in order; the first third fills what is bounded.
        slack: By how many bytes the stored may vary.
        resident_slack: By how many this process may.
    """
    full = readings[len(readings) // 3 :]
    first, last = full[0], full[-1]
    told = [f"stray: {name}" for reading in readings for name in reading.strays]
    for kind in sorted({*first.kinds, *last.kinds}):
        before, after = first.kinds.get(kind, 0), last.kinds.get(kind, 0)
        if after > before:
            told.append(f"{kind}: {before} at first, {after} in the end")
    if last.elements > first.elements:
        told.append(f"elements: {first.elements} at first, {last.elements} in the end")
    if last.bytes > first.bytes + slack:
        told.append(f"bytes: {first.bytes} at first, {last.bytes} in the end")
    if last.resident > first.resident + resident_slack:
        told.append(f"resident: {first.resident} at first, {last.resident} in the end")
    return told
