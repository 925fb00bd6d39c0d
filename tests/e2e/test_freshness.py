"""Production answers nobody from a cache: identical calls are as many calls, and a replay is caught."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Literal

import pytest
from pydantic import SecretStr
from tests.faults.stage import KEY, VENDORS, question

from llm_gateway import CacheSignal, Completed, LLMClient, LLMGatewayError, Settings
from llm_gateway._core.responses import SignalWeight
from llm_gateway._facts import Fault
from llm_gateway.errors import StaleResponse
from llm_gateway.testing import Faults, SimulatedProvider

MANY: Final = 50
SECONDS: Final = 20.0
HITS: Final[tuple[Mapping[str, str], ...]] = (
    {"X-Cache": "HIT"},
    {"X-Cache": "Hit from cloudfront", "Age": "3"},
    {"Age": "7"},
    {"CF-Cache-Status": "HIT"},
    {"CF-Cache-Status": "STALE"},
    {"cf-aig-cache-status": "HIT"},
    {"Cache-Status": "ExampleCache; hit; ttl=376"},
    {"x-litellm-cache-key": "5b1c"},
    {"helicone-cache": "HIT"},
    {"x-portkey-cache-status": "HIT"},
    {"x-openrouter-cache-status": "HIT"},
)
CLEAN: Final[tuple[Mapping[str, str], ...]] = (
    {"CF-Cache-Status": "DYNAMIC"},
    {"CF-Cache-Status": "MISS", "Age": "0"},
    {"CF-Cache-Status": "BYPASS"},
    {"X-Cache": "Miss from cloudfront", "Via": "1.1 varnish"},
    {"X-Cache": "MISS, MISS", "X-Cache-Hits": "0, 0"},
    {"Cache-Status": "ExampleCache; fwd=miss; stored"},
    {"x-portkey-cache-status": "MISS"},
    {"Cache-Control": "public, max-age=3600"},
)

at_both = pytest.mark.parametrize("vendor", VENDORS)


@asynccontextmanager
async def client_of(
    sim: SimulatedProvider, environment: Literal["production", "staging", "development"] = "production"
) -> AsyncGenerator[LLMClient]:
    """Open a client from settings, as a service does."""
    settings = Settings.model_validate(
        {
            "environment": environment,
            "queue": "none",
            "openai_api_key": SecretStr(KEY),
            "openai_base_url": sim.openai_url,
            "anthropic_api_key": SecretStr(KEY),
            "anthropic_base_url": sim.anthropic_url,
        }
    )
    async with asyncio.timeout(SECONDS), LLMClient.from_settings(settings) as client:
        yield client


async def answered(client: LLMClient, vendor: str) -> Completed[str]:
    """Ask and get a result."""
    return await client.complete(question(vendor), when_unavailable="raise")


def faults_of(told: Completed[str] | LLMGatewayError) -> list[Fault | None]:
    """What each attempt met."""
    attempts = told.response.receipt.attempts if isinstance(told, Completed) else told.attempts
    return [attempt.fault for attempt in attempts]


def proofs(signals: tuple[CacheSignal, ...]) -> list[str]:
    """Name the signals that prove a replay."""
    return [signal.name for signal in signals if signal.weight is SignalWeight.PROOF]


@at_both
async def test_identical_calls(sim: SimulatedProvider, vendor: str) -> None:
    """Fifty identical calls at once are fifty calls upstream and fifty distinct answers."""
    async with client_of(sim) as client:
        outcomes = await asyncio.gather(*(answered(client, vendor) for _ in range(MANY)))

    ids = {outcome.response.receipt.response_id for outcome in outcomes}
    assert (MANY, MANY, set(sim.response_ids)) == (sim.call_count, len(ids), ids)
    assert {("live", ())} == {(one.response.receipt.source, one.response.receipt.cache_signals) for one in outcomes}


@at_both
async def test_repeated_calls(sim: SimulatedProvider, vendor: str) -> None:
    """The same question again, one after the other, is asked again, and says that nothing may be stored."""
    async with client_of(sim) as client:
        ids = {(await answered(client, vendor)).response.receipt.response_id for _ in range(3)}

    assert (3, 3) == (sim.call_count, len(ids))
    assert {"no-store, no-cache"} == {call.headers["cache-control"] for call in sim.calls}


@at_both
@pytest.mark.parametrize("headers", HITS, ids="+".join)
async def test_one_hit(sim: SimulatedProvider, headers: Mapping[str, str], vendor: str) -> None:
    """A proven hit is refused and asked again once past the cache, and the receipt tells of both."""
    async with client_of(sim) as client:
        sim.script(None, Faults.replay(headers))
        first = await answered(client, vendor)
        completed = await answered(client, vendor)

    receipt = completed.response.receipt
    assert ([Fault.STALE_RESPONSE, None], 3) == (faults_of(completed), sim.call_count)
    assert {first.response.receipt.response_id, receipt.response_id} == {sim.response_ids[0], sim.response_ids[2]}
    assert [] == proofs(receipt.cache_signals)
    assert ("llm-gateway-fresh=" in sim.calls[1].path, "llm-gateway-fresh=" in sim.calls[2].path) == (False, True)
    assert "no-cache" == sim.calls[2].headers["pragma"]


@at_both
@pytest.mark.parametrize("environment", ["production", "staging"])
@pytest.mark.parametrize("headers", HITS, ids="+".join)
async def test_two_hits(
    sim: SimulatedProvider, headers: Mapping[str, str], environment: Literal["production", "staging"], vendor: str
) -> None:
    """A header alone proves a hit, and a cache that answers twice is an error after two calls."""
    async with client_of(sim, environment) as client:
        sim.outage(Faults.marked(headers))
        with pytest.raises(StaleResponse) as caught:
            await answered(client, vendor)
        health = await client.health()

    assert (Fault.STALE_RESPONSE, [Fault.STALE_RESPONSE] * 2) == (caught.value.fault, faults_of(caught.value))
    assert (2, 0) == (sim.call_count, health.depth)


@at_both
async def test_verbatim_replay(sim: SimulatedProvider, vendor: str) -> None:
    """A replay without any mark is told by the id of its answer, which came before."""
    async with client_of(sim) as client:
        sim.script(None, Faults.replay())
        first, second = [await answered(client, vendor) for _ in range(2)]
        assert [Fault.STALE_RESPONSE, None] == faults_of(second)
        assert first.response.receipt.response_id != second.response.receipt.response_id
        sim.script(Faults.replay(), Faults.replay())
        with pytest.raises(StaleResponse):
            await answered(client, vendor)

    assert 5 == sim.call_count


@at_both
async def test_replay_to_many(sim: SimulatedProvider, vendor: str) -> None:
    """A cache that answers ten callers at once with one earlier answer is caught by each of them."""
    async with client_of(sim) as client:
        await answered(client, vendor)
        sim.outage(Faults.replay())
        outcomes = await asyncio.gather(*(answered(client, vendor) for _ in range(10)), return_exceptions=True)

    assert [StaleResponse] * 10 == [type(outcome) for outcome in outcomes]


@at_both
async def test_uncounted_text(sim: SimulatedProvider, vendor: str) -> None:
    """Text that cost no tokens at a vendor who counts them was not made for this call."""
    async with client_of(sim) as client:
        sim.outage(Faults.ZERO_USAGE)
        with pytest.raises(StaleResponse):
            await answered(client, vendor)
    assert 2 == sim.call_count


@at_both
@pytest.mark.parametrize("headers", HITS, ids="+".join)
async def test_development(
    sim: SimulatedProvider, headers: Mapping[str, str], vendor: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In development a hit is logged and marked in the receipt, and the answer is given."""
    async with client_of(sim, "development") as client:
        sim.outage(Faults.marked(headers))
        with caplog.at_level(logging.WARNING, logger="llm_gateway"):
            completed = await answered(client, vendor)

    assert 1 == sim.call_count
    assert {name.lower() for name in headers} >= set(proofs(completed.response.receipt.cache_signals)) > set()
    assert 1 == len([record for record in caplog.records if "from a cache on the way" in record.getMessage()])


@at_both
@pytest.mark.parametrize("headers", CLEAN, ids=lambda headers: "+".join(headers.values()))
async def test_clean_headers(sim: SimulatedProvider, headers: Mapping[str, str], vendor: str) -> None:
    """What an honest network adds proves nothing: the answer is taken after one call."""
    async with client_of(sim) as client:
        sim.outage(Faults.marked(headers))
        completed = await answered(client, vendor)

    assert ([None], 1) == (faults_of(completed), sim.call_count)
    assert [] == proofs(completed.response.receipt.cache_signals)


async def test_old_answer(sim: SimulatedProvider) -> None:
    """An answer said to be made an hour ago is suspicious, which is recorded and refuses nothing."""
    async with client_of(sim) as client:
        sim.outage(Faults.OLD_CREATED)
        completed = await answered(client, "openai")

    signals = completed.response.receipt.cache_signals
    assert [("created_before_sending", SignalWeight.SUSPICION)] == [(one.name, one.weight) for one in signals]
    assert 1 == sim.call_count
