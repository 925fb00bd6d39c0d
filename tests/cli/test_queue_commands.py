"""``llm-gateway queue``: looking at tickets and acting on them, without a provider's key."""

from __future__ import annotations

from typing import cast

import pytest
from tests.cli.stage import Stage

from llm_gateway import Lane
from llm_gateway.cli.desk import WINDOW
from llm_gateway.cli.looking import drained
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import Faults

PROMPT = "Which is better"


@pytest.fixture
def desk(stage: Stage) -> Stage:
    """An operator's shell in production, without any key."""
    return stage.having(ENVIRONMENT="production", LLM_GATEWAY_OPENAI_API_KEY="")


async def failed(stage: Stage, count: int) -> list[str]:
    """Make tickets that failed."""
    tickets = await stage.submitted(count)
    stage.sim.outage(Faults.CONTEXT_TOO_LONG)
    assert 0 == (await stage.ran("worker", "--until-empty")).code
    stage.sim.recover()
    return tickets


async def test_stats(stage: Stage, desk: Stage) -> None:
    """The counts are a table for people and one document for programs."""
    await stage.submitted(3)
    text, counted = await desk.ran("queue", "stats"), await desk.ran("queue", "stats", "--json")
    assert (0, "") == (text.code, text.err)
    assert "3 of " in text.out
    assert 3 == counted.document["depth"]
    assert [("openai/gpt-4o", 3)] == [(lane["lane"], lane["ready"]) for lane in counted.rows("lanes")]


async def test_list_filters(stage: Stage, desk: Stage) -> None:
    """Tickets are listed newest first, by state, group, lane and tenant, and no more than asked."""
    first = await stage.submitted(2, group="batch-7")
    second = await stage.submitted(1, model="gpt-4o-mini")

    async def listed(*options: str) -> list[object]:
        return [ticket["ticket_id"] for ticket in (await desk.ran("queue", "list", "--json", *options)).rows("tickets")]

    assert [*second, *reversed(first)] == await listed()
    assert list(reversed(first)) == await listed("--group", "batch-7")
    assert second == await listed("--lane", "openai/gpt-4o-mini")
    assert first[-1:] == await listed("--state", "queued", "--group", "batch-7", "--limit", "1")
    assert [] == await listed("--state", "failed")
    assert [] == await listed("--tenant", "school-2")


async def test_list_is_aligned(stage: Stage, desk: Stage) -> None:
    """Columns stand under their titles, whatever a caller wrote into a group's name."""
    await stage.submitted(1, group="\x9b31mred")
    out = (await desk.ran("queue", "list")).out
    title, row = out.splitlines()
    assert (title.index("group"), "\x9b" in out) == (row.index("?31mred"), False)


async def test_show_keeps_the_prompt(stage: Stage, desk: Stage) -> None:
    """A ticket is shown without what it asks."""
    (ticket,) = await stage.submitted(1, group="batch-7")
    text, json = await desk.ran("queue", "show", ticket), await desk.ran("queue", "show", ticket, "--json")
    assert (0, 0) == (text.code, json.code)
    assert ("batch-7", "queued", "openai/gpt-4o") == tuple(json.document[name] for name in ("group", "state", "lane"))
    assert PROMPT not in text.out + json.out
    assert "payload" not in json.document


async def test_show_with_payload(stage: Stage, desk: Stage) -> None:
    """What a ticket asks is shown to whoever wants it, until it ends and the payload is dropped."""
    (ticket,) = await stage.submitted(1)
    assert PROMPT in str((await desk.ran("queue", "show", ticket, "--payload", "--json")).document["payload"])
    assert PROMPT in (await desk.ran("queue", "show", ticket, "--payload")).out
    await desk.ran("queue", "cancel", ticket)
    assert (await desk.ran("queue", "show", ticket, "--payload", "--json")).document["payload"] is None


async def test_list_is_bounded(stage: Stage, desk: Stage) -> None:
    """A filter looks at the newest 1000 tickets and says so, rather than scanning the queue."""
    await stage.submitted(1, group="old")
    await stage.submitted(1000)
    done = await desk.ran("queue", "list", "--group", "old", "--json")
    assert ([], 1000) == (done.rows("tickets"), done.document["looked_at"])
    assert "newest 1000 tickets only" in (await desk.ran("queue", "list", "--group", "old")).err


async def test_unknown_ticket(stage: Stage, desk: Stage) -> None:
    """A ticket that is not there, or another tenant's, is one line and exit code 1."""
    (ticket,) = await stage.submitted(1)
    for arguments in (["show", "nothing"], ["show", ticket, "--tenant", "school-2"]):
        done = await desk.ran("queue", *arguments)
        assert (1, "", 1) == (done.code, done.out, done.err.count("\n"))


async def test_cancel(stage: Stage, desk: Stage) -> None:
    """One ticket is cancelled without a question; what is not there is told and does not stop the rest."""
    first, second = await stage.submitted(2)
    assert 0 == (await desk.ran("queue", "cancel", first)).code
    done = await desk.ran("queue", "cancel", "nothing", second, "--yes", "--json")
    assert 1 == done.code
    assert [{"ticket_id": second, "state": "cancelled"}] == done.rows("tickets")
    assert [("nothing", "TicketNotFound")] == [(one["ticket_id"], one["error"]) for one in done.rows("errors")]
    assert ["cancelled", "cancelled"] == await stage.states([first, second])


async def test_asks_before_many(stage: Stage, desk: Stage) -> None:
    """More than one ticket is not touched unless somebody agrees or --yes says so."""
    tickets = await stage.submitted(2, group="batch-7")
    for arguments in (["cancel", *tickets], ["cancel", "--group", "batch-7"], ["erase", "--subject", "pupil-1"]):
        done = await desk.ran("queue", *arguments)
        assert (2, True) == (done.code, "--yes" in done.err)
    assert ["queued", "queued"] == await stage.states(tickets)
    done = await desk.ran("queue", "cancel", "--group", "batch-7", "--yes", "--json")
    assert {"group": "batch-7", "cancelled": 2} == done.document
    assert ["cancelled", "cancelled"] == await stage.states(tickets)


@pytest.mark.parametrize("arguments", [["cancel"], ["cancel", "x", "--group", "g"], ["erase"], ["requeue"]])
async def test_names_tickets_in_one_way(desk: Stage, arguments: list[str]) -> None:
    """A command that names no tickets, or names them twice, is refused."""
    await desk.submitted(0)
    done = await desk.ran("queue", *arguments)
    assert (2, True) == (done.code, "Name either tickets or" in done.err)


async def test_requeue(stage: Stage, desk: Stage) -> None:
    """Failed tickets become new ones, which a worker answers; a ticket that has not failed is refused."""
    tickets = await failed(stage, 3)
    done = await desk.ran("queue", "requeue", tickets[0], "--json")
    (made,) = done.rows("tickets")
    assert tickets[0] == made["ticket_id"]
    rest = await desk.ran("queue", "requeue", "--failed", "--yes", "--json")
    assert set(tickets) == {one["ticket_id"] for one in rest.rows("tickets")}
    assert 1 == (await desk.ran("queue", "requeue", str(made["requeued_as"]))).code
    assert 0 == (await stage.ran("worker", "--until-empty")).code
    states = await stage.states([str(one["requeued_as"]) for one in rest.rows("tickets")])
    assert ["completed"] * 3 == states


async def test_erase(stage: Stage, desk: Stage) -> None:
    """What a ticket held is removed, and the ticket is gone."""
    (ticket,) = await stage.submitted(1)
    done = await desk.ran("queue", "erase", ticket, "--json")
    assert [(ticket, "erased")] == [(one["ticket_id"], one["state"]) for one in done.rows("tickets")]
    assert 1 == (await desk.ran("queue", "show", ticket)).code
    assert PROMPT.encode() not in stage.file.read_bytes()


async def test_change_is_told_to_the_service_that_publishes(stage: Stage, desk: Stage) -> None:
    """Where a service follows events, an operator's change waits for it; where none does, none piles up."""
    first, second = await stage.submitted(2)
    await desk.ran("queue", "cancel", first)
    assert 0 == (await desk.ran("queue", "stats", "--json")).document["outbox"]
    queue = SqliteQueue(stage.file)
    await queue.start(outbox=True)
    await queue.aclose()
    await desk.ran("queue", "cancel", second)
    assert 1 == (await desk.ran("queue", "stats", "--json")).document["outbox"]


async def test_erase_everything(stage: Stage, desk: Stage) -> None:
    """Everything of a tenant goes at once, once that is confirmed."""
    await stage.submitted(2)
    assert 2 == (await desk.ran("queue", "erase", "--everything")).code
    report = (await desk.ran("queue", "erase", "--everything", "--yes", "--json")).document
    assert (2, 2) == (len(cast("list[str]", report["tickets"])), report["cancelled"])
    assert [] == (await desk.ran("queue", "list", "--json")).rows("tickets")


async def test_lanes(stage: Stage, desk: Stage) -> None:
    """A lane is paused, resumed and reset by its name; one that is not there is refused with those that are."""
    await stage.submitted(1)

    async def gate(*arguments: str) -> object:
        return (await desk.ran("lane", *arguments, "--json")).document["gate"]

    opened = {"circuit": "closed", "not_before": None, "max_in_flight": None, "paused": False, "parked": None}
    assert {**opened, "paused": True} == await gate("pause", "openai/gpt-4o")
    assert {**opened, "paused": True, "max_in_flight": 3} == await gate("limit", "openai/gpt-4o", "3")
    assert {**opened, "paused": True} == await gate("limit", "openai/gpt-4o", "none")
    assert opened == await gate("resume", "openai/gpt-4o")
    queue = SqliteQueue(stage.file)
    await queue.start(outbox=False)
    await queue.set_gate(Lane("openai", "gpt-4o"), circuit="open", not_before=None)
    await queue.aclose()
    assert "circuit open" in (await desk.ran("lane", "list")).out
    assert opened == await gate("reset", "openai/gpt-4o")
    wrong = await desk.ran("lane", "pause", "openai/gpt-5")
    assert (1, True) == (wrong.code, "openai/gpt-4o" in wrong.err)
    assert 2 == (await desk.ran("lane", "pause", "gpt-4o")).code
    assert ["openai/gpt-4o"] == [lane["lane"] for lane in (await desk.ran("lane", "list", "--json")).rows("lanes")]


async def test_no_file_is_made(stage: Stage) -> None:
    """Looking at a queue file that is not there makes none, and names the path that was meant."""
    done = await stage.ran("queue", "stats")
    assert (2, "", False) == (done.code, done.out, stage.file.exists())
    assert f"There is no queue at {stage.file}." in done.err


async def test_when_it_will_be_done(stage: Stage) -> None:
    """Looking twice tells the pace and when the queue will be empty, which at a standstill is never."""
    await stage.submitted(2)
    done = await stage.ran("queue", "stats", "--over", "0.1", "--json")
    assert (0.0, None) == (done.document["drained_per_minute"], done.document["empty_in_seconds"])
    assert "not at this pace" in (await stage.ran("queue", "stats", "--over", "0")).out
    assert {"drained_per_minute": 60.0, "empty_in_seconds": 30} == drained(90, 30, 60.0)
    assert {"drained_per_minute": 30.0, "empty_in_seconds": 0} == drained(30, 0, 60.0)


async def test_drop_outbox(stage: Stage, desk: Stage) -> None:
    """Events that nobody publishes any more are dropped, and no more are written; while somebody does, nothing is."""
    queue = SqliteQueue(stage.file)
    await queue.start(outbox=True)
    await stage.submitted(3)
    assert await queue.lead(0, "service", 30.0)
    refused = await desk.ran("queue", "drop-outbox", "--yes")
    assert (1, True) == (refused.code, "A service that publishes" in refused.err)
    assert 3 == len(await queue.unrelayed(0))
    await queue.yield_lead(0, "service")
    await queue.aclose()
    assert {"dropped": 3} == (await desk.ran("queue", "drop-outbox", "--yes", "--json")).document
    await stage.submitted(1)
    assert 0 == (await desk.ran("queue", "stats", "--json")).document["outbox"]


async def test_failed_ones_are_found_behind_many(stage: Stage, desk: Stage) -> None:
    """Failed tickets are listed, however many newer ones there are than the list looks at."""
    (ticket,) = await failed(stage, 1)
    await stage.submitted(WINDOW + 1)
    listed = (await desk.ran("queue", "list", "--state", "failed", "--json")).rows("tickets")
    assert [ticket] == [found["ticket_id"] for found in listed]
