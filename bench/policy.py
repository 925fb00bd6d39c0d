"""What the policies cost without I/O: breaker, retry, freshness and receipt, around a provider that answers at once.

Run as ``python bench/policy.py ROUNDS CALLS``; prints CPU microseconds per call, one list per way of calling.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

from llm_gateway import Environment, LLMClient, LLMRequest, Parts
from llm_gateway._core.environments import EVERYWHERE
from llm_gateway._core.freshness import FreshnessProfile
from llm_gateway._core.responses import FinishReason, PreparedCall, ProviderAnswer, Usage
from llm_gateway._core.schema import OutputSchema, output_type_of
from llm_gateway._engine import Engine
from llm_gateway.breakers.gate import CircuitGate
from llm_gateway.limits.retry_after import RetryAfterLimiter
from llm_gateway.protocols import Provider

__all__ = ["InstantProvider"]

REQUEST = LLMRequest(provider="instant", model="m", prompt="Which essay is better?")
PREPARED = PreparedCall(
    provider="instant",
    endpoint="instant.test",
    key_id="k",
    model="m",
    path="/",
    body=b"{}",
    prompt_sha256="0" * 64,
    adapter="instant-1",
)
HEADERS = {"content-type": "application/json", "cf-cache-status": "DYNAMIC", "x-request-id": "r"}
USAGE = Usage(input_tokens=812, output_tokens=61)
VERDICT = "Essay A argues; essay B repeats its claim. " * 4


class InstantProvider(Provider):
    """Answers at once with a fresh id, and does nothing else."""

    name = "instant"
    endpoint = "instant.test"
    key_id = "k"
    allowed_in = EVERYWHERE
    freshness = FreshnessProfile()

    def __init__(self) -> None:
        self._numbers = count(1)

    def prepare(self, request: LLMRequest, schema: OutputSchema) -> PreparedCall:
        """Return what was made beforehand."""
        return PREPARED

    async def send(self, call: PreparedCall, *, timeout: float) -> ProviderAnswer:
        """Answer."""
        now = datetime.now(UTC)
        return ProviderAnswer(
            text=VERDICT,
            finish_reason=FinishReason.STOP,
            usage=USAGE,
            served_model="m",
            response_id=f"chatcmpl-{next(self._numbers)}",
            provider_request_id="r",
            created=now,
            headers=HEADERS,
            sent_at=now,
            first_byte_at=now,
            received_at=now,
        )

    def serves(self, call: PreparedCall, served_model: str) -> bool:
        """Take the model itself."""
        return served_model == call.model

    async def aclose(self) -> None:
        """Hold nothing."""


async def timed(ask: Callable[[], Awaitable[object]], calls: int) -> float:
    """Return the CPU microseconds of one call."""
    before = time.process_time()
    for _ in range(calls):
        await ask()
    return (time.process_time() - before) / calls * 1e6


def ways(client: LLMClient, parts: Parts) -> dict[str, Callable[[], Awaitable[object]]]:
    """Name the ways of calling: the provider alone, the policies around it, and the whole public call."""
    schema = output_type_of(str).schema
    provider = InstantProvider()
    engine = Engine([InstantProvider()], None, parts, Environment.PRODUCTION)

    async def bare() -> object:
        return await provider.send(provider.prepare(REQUEST, schema), timeout=60.0)

    async def policies() -> object:
        call = engine.prepare(REQUEST, schema, deadline=time.monotonic() + 60.0)
        return await engine.live(call, 60.0)

    async def complete() -> object:
        return await client.complete(REQUEST, timeout=60.0)

    return {"bare": bare, "policies": policies, "complete": complete}


def wired() -> Parts:
    """Make the parts that settings would wire in production."""
    return Parts(environment=Environment.PRODUCTION, breaker=CircuitGate(), limiter=RetryAfterLimiter())


async def main(rounds: int, calls: int) -> None:
    """Measure every way in each round, each time beginning with another."""
    results: dict[str, list[float]] = {"bare": [], "policies": [], "complete": []}
    async with LLMClient([InstantProvider()], None, wired()) as client:
        asks = ways(client, wired())
        for ask in asks.values():
            await timed(ask, calls)
        for turn in range(rounds):
            for position in range(len(results)):
                name = list(results)[(turn + position) % len(results)]
                results[name].append(await timed(asks[name], calls))
    print(json.dumps(results))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
