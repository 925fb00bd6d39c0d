"""Ask a judge for a structured verdict and act on how the call ended.

A simulated provider answers over real HTTP on loopback: no key is needed.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, SecretStr

from llm_gateway import Completed, Environment, LLMClient, LLMRequest, Pending, Settings
from llm_gateway.errors import LLMGatewayError
from llm_gateway.testing.simulated import BradleyTerryJudge, SimulatedProvider

FIRST = "Rain falls. It is wet. The end."
SECOND = "All night the rain had argued with the roof; by morning the roof was losing."


class Verdict(BaseModel):
    """Which essay is better, and why."""

    winner: Literal["Essay A", "Essay B"]
    justification: str


async def judge(client: LLMClient) -> None:
    """Ask once and tell which of the three ways the call ended."""
    prompt = f"Which essay is better?\n\nEssay A:\n{FIRST}\n\nEssay B:\n{SECOND}"
    request = LLMRequest(provider="openai", model="gpt-4.1-mini", prompt=prompt)
    try:
        outcome = await client.complete(request, output_type=Verdict, timeout=10)
    except LLMGatewayError as error:
        print(f"error: {error}")
        return
    match outcome:
        case Completed(response=response) if response.output is not None:
            print(f"winner: {response.output.winner}")
            print(f"served by {response.receipt.served_model}, {response.usage.output_tokens} tokens of output")
        case Completed(response=response):
            print(f"no verdict: {response.finish_reason.value}")
        case Pending(ticket=ticket):
            print(f"later: ask for ticket {ticket.id}")


async def main() -> None:
    """Judge one pair."""
    async with SimulatedProvider(answer=BradleyTerryJudge({FIRST: -3.0, SECOND: 3.0}, noise=0.0)) as sim:
        settings = Settings(
            environment=Environment.DEVELOPMENT, openai_api_key=SecretStr("sk-sim"), openai_base_url=sim.openai_url
        )
        async with LLMClient.from_settings(settings) as client:
            await judge(client)


asyncio.run(main())
