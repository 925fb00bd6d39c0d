"""Commands that change tickets. More than one at a time is asked about first."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex
from typing import cast

from llm_gateway._core.lifecycle import TicketState
from llm_gateway.cli.desk import OperatorDesk
from llm_gateway.cli.documents import Document
from llm_gateway.cli.looking import newest
from llm_gateway.cli.showing import Table, note, plain, show, show_json
from llm_gateway.errors import ConfigurationError, LLMGatewayError, QueueError
from llm_gateway.protocols import QueueBackend

__all__ = ["cancel", "drop_outbox", "erase", "requeue"]

DECLINED = 1
LEADING = 30.0
PAGE = 1000


async def cancel(desk: OperatorDesk, options: Namespace) -> int:
    """Cancel tickets, or a group."""
    require_one_way(options, "--group", chosen=options.group is not None)

    async def one(ticket_id: str) -> Document:
        job = await desk.queue.cancel(options.tenant, ticket_id)
        return {"ticket_id": ticket_id, "state": job.state}

    if options.group is None:
        return await _each(options, options.tickets, "Cancel", one)
    if not agreed(options, f"Cancel every ticket of the group {options.group}?"):
        return DECLINED
    count = await desk.queue.cancel_group(options.tenant, options.group)
    return _told(options, {"group": options.group, "cancelled": count}, f"Cancelled {count} tickets.")


async def requeue(desk: OperatorDesk, options: Namespace) -> int:
    """Make new tickets of failed ones."""
    require_one_way(options, "--failed", chosen=options.failed)
    tickets: Sequence[str] = options.tickets
    if options.failed:
        jobs, _ = await newest(desk, options, tenant=options.tenant, state=TicketState.FAILED)
        tickets = [job.ticket_id for job in jobs]
        if not tickets:
            note("None of these tickets has failed.")

    async def one(ticket_id: str) -> Document:
        ticket = (await desk.of(options.tenant).requeue(ticket_id)).ticket
        return {"ticket_id": ticket_id, "state": TicketState.QUEUED, "requeued_as": ticket.id}

    return await _each(options, tickets, "Requeue", one)


async def erase(desk: OperatorDesk, options: Namespace) -> int:
    """Cancel tickets and remove what they hold."""
    require_one_way(options, "--subject or --everything", chosen=options.subject is not None or options.everything)
    client = desk.of(options.tenant)

    async def one(ticket_id: str) -> Document:
        report = await client.erase(ticket=ticket_id)
        return {"ticket_id": ticket_id, "state": "erased", "removed": report.removed}

    if options.tickets:
        return await _each(options, options.tickets, "Erase", one)
    if options.everything:
        if not agreed(options, f"Erase everything of {named(options.tenant)}, and its key?"):
            return DECLINED
        report = await client.erase(everything=True)
    else:
        if not agreed(options, f"Erase everything of {named(options.tenant)} that names this subject?"):
            return DECLINED
        report = await client.erase(subject=options.subject)
    document = {"tickets": report.tickets, "cancelled": report.cancelled, "removed": report.removed}
    return _told(options, document, f"Erased {len(report.tickets)} tickets, {report.cancelled} of them not ended.")


async def drop_outbox(desk: OperatorDesk, options: Namespace) -> int:
    """Drop the events that nobody takes any more, and have no further ones written."""
    if not agreed(options, "Drop every event that has not left yet, and write no more of them?"):
        return DECLINED
    token = f"operator-{token_hex(6)}"
    dropped = [await _dropped(desk.queue, shard, token) for shard in range(desk.queue.outbox_shards)]
    return _told(options, {"dropped": sum(dropped)}, f"Dropped {sum(dropped)} events; no more are written.")


async def _dropped(queue: QueueBackend, shard: int, token: str) -> int:
    dropped = 0
    try:
        while await queue.lead(shard, token, LEADING):
            if await queue.close_outbox(shard, token):
                return dropped
            events = await queue.unrelayed(shard, PAGE)
            if events and await queue.relayed(shard, events[-1].cursor, token):
                dropped += len(events)
    finally:
        await queue.yield_lead(shard, token)
    message = "A service that publishes is taking these events."
    raise QueueError(message, next_step="Stop every service with a publisher first; it would write them again.")


def require_one_way(options: Namespace, other: str, *, chosen: bool) -> None:
    """Refuse a command that names no tickets, or names them in two ways.

    Raises:
        ConfigurationError: it does.
    """
    if bool(options.tickets) == chosen:
        message = f"Name either tickets or {other}."
        raise ConfigurationError(message, next_step="See --help of this command.")


def named(tenant: str) -> str:
    """Say whose tickets are meant."""
    return f"the tenant {tenant}" if tenant else "the requests without a tenant"


def agreed(options: Namespace, question: str) -> bool:
    """Ask the operator, unless ``--yes`` said so already.

    Raises:
        ConfigurationError: there is nobody to ask.
    """
    if options.yes:
        return True
    if not sys.stdin.isatty():
        message = "This acts on more than one ticket."
        raise ConfigurationError(message, next_step="Repeat it with --yes.")
    sys.stderr.write(f"{plain(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def _each(
    options: Namespace, tickets: Sequence[str], verb: str, one: Callable[[str], Awaitable[Document]]
) -> int:
    """Act on tickets one after the other: what fails for one is told and stops no other."""
    if len(tickets) > 1 and not agreed(options, f"{verb} {len(tickets)} tickets?"):
        return DECLINED
    done: list[Document] = []
    failed: list[Document] = []
    for ticket_id in tickets:
        try:
            done.append(await one(ticket_id))
        except LLMGatewayError as error:
            note(f"llm-gateway: {ticket_id}: {error}")
            failed.append({"ticket_id": ticket_id, "error": type(error).__name__, "message": error.message})
    if options.json:
        show_json({"tickets": done, "errors": failed})
    elif done:
        titles = list(done[0])
        show(Table(titles, [[_cell(document[title]) for title in titles] for document in done]))
    return 1 if failed else 0


def _told(options: Namespace, document: Document, sentence: str) -> int:
    if options.json:
        show_json(document)
    else:
        sys.stdout.write(f"{sentence}\n")
    return 0


def _cell(value: object) -> object:
    return ", ".join(cast("tuple[str, ...]", value)) if isinstance(value, tuple) else value
