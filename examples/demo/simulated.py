"""The run against a simulated provider that breaks down half-way."""

from __future__ import annotations

from typing import Final

from pydantic import SecretStr

from examples.demo.material import load_abilities
from examples.demo.report import Report, make_console
from examples.demo.session import CONCURRENCY, Judge, Plan, Session, conclude, library_log
from llm_gateway import Environment, LLMClient, Settings
from llm_gateway.options import BreakerOptions, RetryOptions
from llm_gateway.testing.simulated import BradleyTerryJudge, Faults, SimulatedCall, SimulatedProvider

__all__ = ["run_simulated"]

JUDGE: Final = Judge("openai", "gpt-4.1-mini")
OPEN_SECONDS: Final = 2.0
FETCH_SECONDS: Final = 60.0


async def run_simulated(calls: int, *, seed: int) -> int:
    """Ask *calls* judgements through an outage, show what became of them, and return the exit code."""
    plan = Plan.of(calls, JUDGE, seed=seed)
    abilities = {plan.essays[name]: ability for name, ability in load_abilities().items()}
    judge = BradleyTerryJudge(abilities, seed=seed)
    report = Report(make_console(), calls)
    async with SimulatedProvider(answer=judge, latency=_latency) as sim:
        async with LLMClient.from_settings(_settings(sim)) as client:
            session = Session(client, plan.requests, report)
            with report, library_log(report):
                await _through_an_outage(session, sim)
        report.note("The provider is simulated: nothing was charged. The cost is its model's list price.")
        return conclude(session, plan, provider_calls=sim.call_count)


def _latency(call: SimulatedCall) -> float:
    """From 30 to 60 ms."""
    return 0.03 + 0.01 * (call.number % 4)


def _settings(sim: SimulatedProvider) -> Settings:
    return Settings(
        environment=Environment.DEVELOPMENT,
        queue="memory",
        dev_cache=False,
        openai_api_key=SecretStr("sk-simulated"),
        openai_base_url=sim.openai_url,
        breaker=BreakerOptions(open_time=OPEN_SECONDS),
        retry=RetryOptions(attempts=2, base=0.1, throttled_base=0.1),
    )


async def _through_an_outage(session: Session, sim: SimulatedProvider) -> None:
    calls = len(session.requests)
    half, last = calls // 2, calls - calls // 10
    session.report.note(f"asking {calls} judgements at {sim.openai_url}, {CONCURRENCY} at a time")
    await session.ask(range(half))
    await _break_down(session, sim, range(half, last))
    async with session.client.worker(concurrency=CONCURRENCY):
        await _recover(session, sim)
        await session.fetch_all(timeout=FETCH_SECONDS)
        session.report.note(f"the queue is empty: {len(session.tally.fetched)} tickets have their answers")
        await session.ask(range(last, calls))
        await session.fetch_all(timeout=FETCH_SECONDS)


async def _break_down(session: Session, sim: SimulatedProvider, numbers: range) -> None:
    note = session.report.note
    sim.outage(Faults.OVERLOADED)
    note("the provider breaks down: every call gets 503 overloaded", style="bold red")
    tripping, rest = numbers[:CONCURRENCY], numbers[CONCURRENCY:]
    await session.ask(tripping)
    before = sim.call_count
    await session.ask(rest)
    reached = sim.call_count - before
    note(f"{len(rest)} more questions while the circuit is open: {reached} calls reached the provider")
    for pending in session.first_tickets(3):
        note(f'  ticket {pending.ticket.id}: status "{pending.status}", reason "{pending.ticket.reason}"')
    for lane in (await session.client.health()).lanes:
        note(f"  health of {lane.lane}: circuit {lane.circuit.value}, {lane.ready + lane.delayed} requests wait")


async def _recover(session: Session, sim: SimulatedProvider) -> None:
    note = session.report.note
    waiting, before = len(session.tally.tickets), sim.call_count
    note(f"a worker stands by; {waiting} requests wait until the circuit lets a probe through")
    await sim.wait_for_calls(before + 1)
    note(f"a cheap probe: {sim.call_count - before} call for {waiting} requests, and the provider is still down")
    sim.recover()
    note("the provider recovers; the next probe finds out", style="bold green")
