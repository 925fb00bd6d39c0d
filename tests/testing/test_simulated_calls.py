"""Which calls the simulated provider takes, in which order faults meet them, and by which clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import JsonValue

from llm_gateway.protocols import Clock
from llm_gateway.testing.simulated import Faults, SimulatedCall, SimulatedProvider

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
QUESTION = "Which essay is better?"


class StoppedClock(Clock):
    """Stands still and notes how long it was asked to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> datetime:
        return START

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedProvider]:
    async with SimulatedProvider() as simulated:
        yield simulated


async def ask(sim: SimulatedProvider, model: str, fields: Mapping[str, JsonValue] | None = None) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], **(fields or {})}
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "Bearer k"}) as client:
        return await client.post(f"{sim.openai_url}/chat/completions", json=body)


async def test_order_of_faults(sim: SimulatedProvider) -> None:
    """Script comes before conditions, conditions before the outage, and recovery ends them all."""
    sim.outage(Faults.HTML)
    sim.when(lambda call: call.model == "gpt-4o-mini", Faults.EMPTY)
    sim.script(None, Faults.WRONG_SHAPE)
    for _ in range(3):
        await ask(sim, "gpt-4o-mini")
    await ask(sim, "gpt-4o")
    sim.script(Faults.EMPTY)
    sim.recover()
    await ask(sim, "gpt-4o-mini")

    assert ["ok", "wrong shape", "empty 200", "HTML under 200", "ok"] == [call.outcome for call in sim.calls]
    assert 2 == sim.outcomes["ok"]


@pytest.mark.parametrize(
    "fields",
    [{"messages": []}, {"messages": "x"}, {"model": None}, {"stream": True}],
    ids=lambda fields: next(iter(fields)),
)
async def test_wrong_requests(sim: SimulatedProvider, fields: dict[str, JsonValue]) -> None:
    """A wrong request is answered 400, is logged, and uses up no scripted fault."""
    sim.script(Faults.EMPTY)

    response = await ask(sim, "gpt-4o", fields)

    assert (400, "invalid_request_error") == (response.status_code, response.json()["error"]["type"])
    assert sim.calls[0].outcome.startswith("refused: ")
    assert b"" == (await ask(sim, "gpt-4o")).content


async def test_anthropic_needs_max_tokens_and_key(sim: SimulatedProvider) -> None:
    """Anthropic refuses a request without max_tokens, and either vendor one without a key."""
    async with httpx.AsyncClient(trust_env=False) as client:
        url, body = f"{sim.anthropic_url}/v1/messages", {"model": "m", "messages": [{"role": "user", "content": "x"}]}
        short = await client.post(url, json=body, headers={"x-api-key": "k"})
        keyless = await client.post(url, json=body)

    assert (400, 401) == (short.status_code, keyless.status_code)
    assert "authentication_error" == keyless.json()["error"]["type"]


async def test_a_body_that_is_no_json_object(sim: SimulatedProvider) -> None:
    """A body that is no JSON object is a wrong request."""
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "Bearer k"}) as client:
        codes = [
            (await client.post(f"{sim.openai_url}/chat/completions", content=body)).status_code
            for body in (b"", b"[]", b"{", b"\xff")
        ]

    assert [400] * 4 == codes
    assert [{}] * 4 == [dict(call.body) for call in sim.calls]


async def test_unknown_paths_are_no_calls(sim: SimulatedProvider) -> None:
    """Another path or method is 404 and is not counted."""
    async with httpx.AsyncClient(trust_env=False) as client:
        codes = [
            (await client.get(f"{sim.openai_url}/models")).status_code,
            (await client.get(f"{sim.anthropic_url}/v1/messages")).status_code,
        ]

    assert ([404, 404], 0) == (codes, sim.call_count)


async def test_clock_and_latency() -> None:
    """Times and pauses are those of the clock that was given; latency can depend on the call."""
    clock = StoppedClock()

    def latency(call: SimulatedCall) -> float:
        return 2.5 if call.number == 1 else 0.0

    async with SimulatedProvider(clock=clock, latency=latency) as sim:
        sim.script(None, Faults.slow_body(9))
        reply = (await ask(sim, "gpt-4o-mini")).json()
        response = await ask(sim, "gpt-4o")

    assert int(START.timestamp()) == reply["created"]
    assert [2.5] == clock.waits[:1]
    assert [9.0] * len(response.content) == clock.waits[1:]
    assert ("Sun, 01 Mar 2026 12:00:00 GMT", START) == (response.headers["date"], sim.calls[0].at)


async def test_served_models() -> None:
    """An alias is served by the snapshot given for it, an unknown model by itself."""
    async with SimulatedProvider(served_models={"judge": "judge-2026-01-01"}) as sim:
        served = [(await ask(sim, model)).json()["model"] for model in ("judge", "other")]

    assert ["judge-2026-01-01", "other"] == served
