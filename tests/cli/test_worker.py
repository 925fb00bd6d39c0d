"""``llm-gateway worker`` as a process: draining, stopping, ending when nothing is left."""

from __future__ import annotations

import signal

from tests.cli.stage import KEY, Stage

from llm_gateway import Lane
from llm_gateway.queues.sqlite import SqliteQueue
from llm_gateway.testing import Faults


async def test_until_empty(stage: Stage) -> None:
    """It answers what waits, each once, and ends well when nothing is left."""
    tickets = await stage.submitted(5)
    done = await stage.ran("worker", "--until-empty")
    assert (0, 5) == (done.code, stage.sim.call_count)
    assert ["completed"] * 5 == await stage.states(tickets)
    assert "Nothing is left in the queue." in done.err
    assert KEY not in done.err


async def test_until_empty_of_an_empty_queue(stage: Stage) -> None:
    """With nothing to do it ends at once."""
    done = await stage.ran("worker", "--until-empty")
    assert (0, 0) == (done.code, stage.sim.call_count)


async def test_until_empty_tells_what_it_leaves(stage: Stage) -> None:
    """Requests that wait for an operator, in paused and parked lanes or behind a latched account, are told."""
    await stage.submitted(3, model="paused")
    await stage.submitted(1)
    await stage.submitted(2, model="gpt-4o-mini")
    queue = SqliteQueue(stage.file)
    await queue.start(outbox=False)
    await queue.pause(Lane("openai", "paused"))
    await queue.aclose()
    stage.sim.outage(Faults.QUOTA)
    done = await stage.ran("worker", "--until-empty", "--concurrency", "1")
    assert 0 == done.code
    assert "3 in paused lanes" in done.err
    assert "1 parked" in done.err
    assert "2 behind an account that waits for an operator" in done.err


async def test_until_empty_leaves_foreign_lanes(stage: Stage) -> None:
    """A worker without the key of a provider leaves its requests and says so."""
    await stage.submitted(2)
    done = await stage.having(LLM_GATEWAY_OPENAI_API_KEY="").ran("worker", "--until-empty")
    assert (0, 0) == (done.code, stage.sim.call_count)
    assert "2 of providers that are not configured here" in done.err


async def test_sigterm_drains(stage: Stage) -> None:
    """At SIGTERM it claims nothing more, lets the running request end, and exits with 0."""
    tickets = await stage.submitted(3)
    stage.sim.outage(Faults.HANG)
    async with stage.running("worker", "--concurrency", "1") as worker:
        await stage.sim.wait_for_calls(1)
        worker.process.send_signal(signal.SIGTERM)
        await worker.line("claims nothing more")
        stage.sim.recover()
        stage.sim.release()
        code, _ = await worker.ended()
    assert (0, 1) == (code, stage.sim.call_count)
    assert ["completed", "queued", "queued"] == sorted(await stage.states(tickets))


async def test_drain_timeout_hands_back(stage: Stage) -> None:
    """What is not done at the end of the drain timeout goes back unspent, at once and not when its lease lapses."""
    (ticket,) = await stage.submitted(1)
    stage.sim.outage(Faults.HANG)
    async with stage.running("worker", "--drain-timeout", "0.1") as worker:
        await stage.sim.wait_for_calls(1)
        worker.process.send_signal(signal.SIGINT)
        code, _ = await worker.ended()
    shown = (await stage.ran("queue", "show", ticket, "--json")).document
    assert (0, "queued", "shutdown", 0, 0) == (code, *(shown[name] for name in SPENT))


async def test_second_signal_hands_back_at_once(stage: Stage) -> None:
    """A second signal does not wait for the running request, however long the drain timeout is."""
    (ticket,) = await stage.submitted(1)
    stage.sim.outage(Faults.HANG)
    async with stage.running("worker", "--drain-timeout", "3600") as worker:
        await stage.sim.wait_for_calls(1)
        worker.process.send_signal(signal.SIGTERM)
        await worker.line("claims nothing more")
        worker.process.send_signal(signal.SIGTERM)
        code, _ = await worker.ended()
    shown = (await stage.ran("queue", "show", ticket, "--json")).document
    assert (0, "queued", "shutdown", 0, 0) == (code, *(shown[name] for name in SPENT))


async def test_production_without_key(stage: Stage) -> None:
    """Settings that make no worker are one line with the next step and exit code 2."""
    done = await stage.having(ENVIRONMENT="production", LLM_GATEWAY_OPENAI_API_KEY="").ran("worker")
    assert (2, "", 1) == (done.code, done.out, done.err.count("\n"))
    assert "LLM_GATEWAY_OPENAI_API_KEY" in done.err


SPENT = ("state", "reason", "attempts", "crashes")
