"""Contract point 4: events that leave, and the right to take them out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import anyio
import pytest

from llm_gateway.errors import TicketNotFound
from llm_gateway.options import QueueOptions
from llm_gateway.testing.conformance.bench import LEASE, PATIENCE, TENANT, TTL, QueueSuite, check, same

__all__ = ["RelaySuite"]


class RelaySuite(QueueSuite):
    """The outboxes: what stands in them, and who may take it out."""

    async def test_outbox_is_written_only_when_asked(self) -> None:
        """Without an outbox nothing piles up."""
        async with self.bench(outbox=False) as b:
            await b.complete(await b.take())
            same(await b.unrelayed(), [])
            stats = await b.queue.stats()
            same((stats.outbox, stats.outbox_oldest_at), (0, None))

    async def test_outbox_is_read_in_order_and_acknowledged(self) -> None:
        """The events of a ticket leave oldest first, and stay until they are acknowledged."""
        async with self.bench() as b:
            lease = await b.take()
            await b.complete(lease)
            shard = await b.shard_of(lease.job.ticket_id)
            first = await b.queue.unrelayed(shard, limit=2)
            same([event.version for event in first], [1, 2])
            same(await b.queue.unrelayed(shard, limit=2), first)
            check(await b.queue.lead(shard, "relay", LEASE), "nobody leads")
            for _ in range(2):
                check(await b.queue.relayed(shard, first[-1].cursor, "relay"), "the lead was lost")
            same([event.version for event in await b.queue.unrelayed(shard)], [3])
            same((await b.queue.stats()).outbox, 1)

    async def test_oldest_event_is_known(self) -> None:
        """The counts tell when the oldest event happened that has not left."""
        async with self.bench() as b:
            first = await b.put()
            b.clock.advance(5)
            await b.put()
            same((await b.queue.stats()).outbox_oldest_at, first.updated_at)
            await b.relay_all()
            same((await b.queue.stats()).outbox_oldest_at, None)
            b.clock.advance(5)
            third = await b.put()
            same((await b.queue.stats()).outbox_oldest_at, third.updated_at)

    async def test_ticket_stays_in_one_shard(self) -> None:
        """All events of a ticket are in one shard, in the order of its versions."""
        async with self.bench() as b:
            for number in range(20):
                lease = await b.take(b.job(f"key-of-{number}"))
                await b.complete(lease)
            homes: dict[str, set[int]] = {}
            for shard in range(b.queue.outbox_shards):
                for event in await b.queue.unrelayed(shard):
                    homes.setdefault(event.ticket_id, set()).add(shard)
            same({len(shards) for shards in homes.values()}, {1})
            same({tuple(event.version for event in await b.told(ticket)) for ticket in homes}, {(1, 2, 3)})

    async def test_relay_is_woken(self) -> None:
        """A relay that waits returns at the next event of its shard, and at once while there is one."""
        async with self.bench() as b:
            job = b.job()
            shard = await b.shard_of((await b.put(job)).ticket_id)
            await b.relay_all()
            await self.returns(
                lambda: b.queue.wait_unrelayed(shard), when=lambda: b.queue.cancel(TENANT, job.ticket_id)
            )
            with anyio.fail_after(PATIENCE):
                await b.queue.wait_unrelayed(shard)

    async def test_one_relay_leads(self) -> None:
        """While one token leads a shard no other does; it may renew, and leads until its time has passed."""
        async with self.bench() as b:
            same([await b.queue.lead(0, token, LEASE) for token in ("one", "two", "one")], [True, False, True])
            b.clock.advance(LEASE - 1)
            check(await b.queue.lead(0, "one", LEASE), "the leader could not renew")
            b.clock.advance(LEASE - 1)
            check(not await b.queue.lead(0, "two", LEASE), "the renewed lease was ignored")
            b.clock.advance(1)
            check(await b.queue.lead(0, "two", LEASE), "the lease did not lapse")
            check(not await b.queue.lead(0, "one", LEASE), "the lead was taken from its new holder")

    async def test_shards_are_led_apart(self) -> None:
        """Leading one shard does not hinder leading another."""
        async with self.bench() as b:
            for shard in range(b.queue.outbox_shards):
                check(await b.queue.lead(shard, f"relay-{shard}", LEASE), "another shard's lead was in the way")

    async def test_lead_is_given_back(self) -> None:
        """Whoever leads can give the lead back at once; nobody can give back another's."""
        async with self.bench() as b:
            await b.queue.lead(0, "one", LEASE)
            await b.queue.yield_lead(0, "two")
            check(not await b.queue.lead(0, "two", LEASE), "the lead was given back by a stranger")
            await b.queue.yield_lead(0, "one")
            check(await b.queue.lead(0, "two", LEASE), "the lead was not given back")
            await b.queue.yield_lead(0, "one")
            check(not await b.queue.lead(0, "three", LEASE), "the lead was given back by who had it before")

    async def test_only_the_leader_acknowledges(self) -> None:
        """An acknowledgement of who never led, whose lease has lapsed or who was followed changes nothing."""
        async with self.bench() as b:
            shard = await b.shard_of((await b.put()).ticket_id)
            (event,) = await b.queue.unrelayed(shard)

            async def refused(token: str) -> bool:
                reply = await b.queue.relayed(shard, event.cursor, token)
                return not reply and await b.queue.unrelayed(shard) == [event]

            check(await refused("one"), "a stranger acknowledged")
            await b.queue.lead(shard, "one", LEASE)
            check(await refused("two"), "a standby acknowledged")
            b.clock.advance(LEASE)
            check(await refused("one"), "a lapsed lease was enough")
            await b.queue.lead(shard, "two", LEASE)
            check(await refused("one"), "the former leader acknowledged")
            check(await b.queue.relayed(shard, event.cursor, "two"), "the leader was refused")
            same(await b.unrelayed(), [])

    async def test_erased_ticket_is_told_to_the_end(self) -> None:
        """What an erased ticket has still to tell is kept until it has left, however late its relay is."""
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=100))) as b:
            view = await b.put()
            shard = await b.shard_of(view.ticket_id)
            await b.queue.erase(TENANT, ticket_id=view.ticket_id)
            first, last = await b.queue.unrelayed(shard)
            await b.queue.lead(shard, "one", 2 * TTL)
            await b.queue.relayed(shard, first.cursor, "one")
            b.clock.advance(TTL + 100)
            await b.queue.sweep()
            same([event.version for event in await b.queue.unrelayed(shard)], [last.version])
            await b.queue.relayed(shard, last.cursor, "one")
            await b.queue.sweep()
            same((await b.queue.stats()).outbox, 0)

    async def test_closed_outbox(self) -> None:
        """An outbox closes for its leader when all has left; then nothing waits to leave, and retention runs."""
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=100))) as b:
            lease = await b.take()
            shard = await b.shard_of(lease.job.ticket_id)
            check(not await b.queue.close_outbox(shard, "one"), "a stranger closed the outbox")
            await b.queue.lead(shard, "one", LEASE)
            check(not await b.queue.close_outbox(shard, "one"), "events that had not left were dropped")
            check(await b.queue.relayed(shard, (await b.unrelayed())[-1].cursor, "one"), "the leader was refused")
            check(await b.queue.close_outbox(shard, "one"), "the outbox was not closed")
            await b.complete(lease)
            same(await b.unrelayed(), [])
            same((await b.queue.stats()).outbox, 0)
            b.clock.advance(100)
            await b.queue.sweep()
            with pytest.raises(TicketNotFound):
                await b.queue.result(TENANT, lease.job.ticket_id)

    async def test_outbox_opens_again(self) -> None:
        """After a close, a start that publishes has the outbox written again, from then on."""
        async with self.bench() as b:
            for shard in range(b.queue.outbox_shards):
                await b.queue.lead(shard, "one", LEASE)
                check(await b.queue.close_outbox(shard, "one"), "an empty outbox was not closed")
            await b.put()
            await b.queue.start(outbox=True)
            view = await b.put()
            same([event.ticket_id for event in await b.unrelayed()], [view.ticket_id])

    async def test_result_is_kept_from_its_relay_on(self) -> None:
        """Retention starts when the terminal event has left; then the ticket goes."""
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=100))) as b:
            lease = await b.take(replace(b.job(), group="g"))
            await b.complete(lease)
            b.clock.advance(1000)
            await b.queue.sweep()
            same(await b.queue.result(TENANT, lease.job.ticket_id), b"the answer")
            await b.relay_all()
            b.clock.advance(99)
            await b.queue.sweep()
            same(await b.queue.result(TENANT, lease.job.ticket_id), b"the answer")
            b.clock.advance(1)
            await b.queue.sweep()
            with pytest.raises(TicketNotFound):
                await b.queue.result(TENANT, lease.job.ticket_id)

    async def test_result_is_kept_until_its_own_event_has_left(self) -> None:
        """Retention starts when the terminal event has left, not when an earlier one of the ticket has."""
        async with self.bench(QueueOptions(result_retention=timedelta(seconds=100))) as b:
            lease = await b.take()
            await b.complete(lease)
            ticket = lease.job.ticket_id
            shard = await b.shard_of(ticket)
            stored, *_ = await b.queue.unrelayed(shard)
            check(await b.queue.lead(shard, "relay", 10_000), "nobody leads")
            check(await b.queue.relayed(shard, stored.cursor, "relay"), "the lead was lost")
            b.clock.advance(1000)
            await b.queue.sweep()
            same(await b.queue.result(TENANT, ticket), b"the answer")
            *_, last = await b.queue.unrelayed(shard)
            check(await b.queue.relayed(shard, last.cursor, "relay"), "the lead was lost")
            b.clock.advance(100)
            await b.queue.sweep()
            with pytest.raises(TicketNotFound):
                await b.queue.result(TENANT, ticket)

    async def test_acknowledging_again_brings_nothing_back(self) -> None:
        """An acknowledgement of an earlier event than the last changes nothing."""
        async with self.bench() as b:
            lease = await b.take()
            await b.complete(lease)
            shard = await b.shard_of(lease.job.ticket_id)
            first, second, third = await b.queue.unrelayed(shard)
            check(await b.queue.lead(shard, "relay", LEASE), "nobody leads")
            for event in (second, first):
                check(await b.queue.relayed(shard, event.cursor, "relay"), "the lead was lost")
            same(await b.queue.unrelayed(shard), [third])

    async def test_outbox_begins_when_it_is_asked_for(self) -> None:
        """What happened before the outbox was asked for does not leave; what happens afterwards does."""
        async with self.bench(outbox=False) as b:
            await b.put()
            await b.queue.start(outbox=True)
            same(await b.unrelayed(), [])
            later = await b.put()
            same([event.ticket_id for event in await b.unrelayed()], [later.ticket_id])

    async def test_erased_ticket_is_told_of_and_then_gone(self) -> None:
        """Of an erased ticket the end still leaves, with its echo; then nothing is left, and its key gets free."""
        options = QueueOptions(result_retention=timedelta(seconds=100))
        async with self.bench(options) as b:
            job = replace(b.job("k", ttl=500), echo=b'{"a": 1}')
            await b.put(job)
            await b.queue.erase(TENANT, ticket_id=job.ticket_id)
            same([event.view.echo for event in await b.told(job.ticket_id)], [b'{"a": 1}'] * 2)
            b.clock.advance(1000)
            await b.queue.sweep()
            same(len(await b.relay_all()), 2)
            await b.queue.sweep()
            check((await b.queue.enqueue(b.job("k"))).created, "the key was never freed")

    async def test_erasing_what_has_left_leaves_nothing(self) -> None:
        """Of a ticket whose events have all left, erasing leaves nothing but its key until that gets free."""
        options = QueueOptions(result_retention=timedelta(seconds=100))
        async with self.bench(options) as b:
            lease = await b.take(b.job("k", ttl=500))
            await b.complete(lease)
            await b.relay_all()
            await b.queue.erase(TENANT, ticket_id=lease.job.ticket_id)
            b.clock.advance(599)
            await b.queue.sweep()
            check(not (await b.queue.enqueue(b.job("k"))).created, "the key was freed too early")
            b.clock.advance(1)
            await b.queue.sweep()
            check((await b.queue.enqueue(b.job("k"))).created, "the key was never freed")

    async def test_erased_ticket_keeps_its_key_when_it_has_left(self) -> None:
        """Once the end of an erased ticket has left, nothing of it is kept but its key, until that gets free."""
        async with self.bench() as b:
            await b.put(replace(b.job("k"), echo=b'{"a": 1}'))
            await b.queue.erase(TENANT, ticket_id=(await b.relay_all())[-1].ticket_id)
            same([event.view.echo for event in await b.relay_all()], [b'{"a": 1}'])
            check(not (await b.queue.enqueue(b.job("k"))).created, "an erased request came back")
