"""Submit while the provider is out, see the ticket wait, and fetch the answer once it is back.

A simulated provider answers over real HTTP on loopback, so this runs without a key: ``python examples/outage.py``.
"""

from __future__ import annotations

import asyncio

from pydantic import SecretStr

from llm_gateway import Completed, Environment, LLMClient, LLMRequest, Pending, Settings
from llm_gateway.options import BreakerOptions
from llm_gateway.testing.simulated import SimulatedProvider

FIRST = LLMRequest(provider="anthropic", model="claude-haiku-4-5", prompt="Name a river.", correlation_id="r-1")
SECOND = LLMRequest(provider="anthropic", model="claude-haiku-4-5", prompt="Name a lake.", correlation_id="r-2")


async def ride_out(client: LLMClient, sim: SimulatedProvider) -> None:
    """Lose nothing while the provider is out."""
    sim.outage()
    asked = await client.complete(FIRST, timeout=10)
    print(f"asked during the outage: {asked.status}")
    submitted = await client.submit(SECOND)
    status = await client.status(submitted.ticket.id)
    print(f"submitted: {status.status} ({status.state.value}), attempts spent: {status.attempts}")

    sim.recover()
    async with client.worker(concurrency=2):
        for outcome in (asked, submitted):
            if isinstance(outcome, Pending):
                await fetch(client, outcome.ticket.id)


async def fetch(client: LLMClient, ticket_id: str) -> None:
    """Wait for the answer of a ticket and tell how it came."""
    match await client.result(ticket_id, timeout=30):
        case Completed(response=response, correlation_id=asked):
            way = "live" if response.receipt.ticket_id is None else "by way of the queue"
            print(f"answer to {asked}: {response.finish_reason.value}, {way}")
        case Pending(ticket=ticket):
            print(f"still waiting: {ticket.reason}")


async def main() -> None:
    """Break the provider, and mend it."""
    async with SimulatedProvider() as sim:
        settings = Settings(
            environment=Environment.DEVELOPMENT,
            anthropic_api_key=SecretStr("sk-simulated"),
            anthropic_base_url=sim.anthropic_url,
            queue="memory",
            breaker=BreakerOptions(open_time=1.0),
        )
        async with LLMClient.from_settings(settings) as client:
            await ride_out(client, sim)


asyncio.run(main())
