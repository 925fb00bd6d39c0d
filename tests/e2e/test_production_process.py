"""What a process that runs in production has loaded after it has worked."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

import pytest
from tests.faults.stage import KEY

from llm_gateway.testing import Faults, SimulatedProvider

SECONDS: Final = 60.0
PROGRAM: Final = """
import asyncio, json, sys
from llm_gateway import LLMClient, LLMRequest
from llm_gateway.errors import LLMGatewayError

async def ask(client, provider, model):
    request = LLMRequest(provider=provider, model=model, prompt="Which essay is better?")
    try:
        return (await client.complete(request, timeout=10)).response.receipt.source
    except LLMGatewayError as error:
        return type(error).__name__

async def main():
    async with LLMClient.from_settings() as client:
        said = [await ask(client, "openai", "gpt-4o") for _ in range(2)]
        said += [await ask(client, "anthropic", "claude-haiku-4-5") for _ in range(2)]
        health = await client.health()
    loaded = [name for name in sys.modules if name.startswith("llm_gateway")]
    print(json.dumps({"said": said, "environment": health.environment, "queue": health.queue, "loaded": loaded}))

asyncio.run(main())
"""
NEVER_LOADED: Final = (
    "llm_gateway.caches.dev",
    "llm_gateway.providers.mock",
    "llm_gateway.queues.memory",
    "llm_gateway.testing",
)


@pytest.mark.parametrize("named", [{}, {"ENVIRONMENT": "production"}, {"LLM_GATEWAY_ENVIRONMENT": "staging"}])
async def test_production_process(sim: SimulatedProvider, named: dict[str, str]) -> None:
    """A process in production, which is also what an unset environment means, works without what could replay."""
    environment = {
        "LLM_GATEWAY_QUEUE": "none",
        "LLM_GATEWAY_OPENAI_API_KEY": KEY,
        "LLM_GATEWAY_OPENAI_BASE_URL": sim.openai_url,
        "LLM_GATEWAY_ANTHROPIC_API_KEY": KEY,
        "LLM_GATEWAY_ANTHROPIC_BASE_URL": sim.anthropic_url,
        **named,
    }
    sim.script(None, Faults.BAD_UTF8, None, None, Faults.CONTEXT_TOO_LONG)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", PROGRAM, env=environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(SECONDS):
        output, _ = await process.communicate()

    assert 0 == process.returncode
    told = json.loads(output)
    assert ["live", "live", "live", "ContextTooLong"] == told["said"]
    assert (next(iter(named.values()), "production"), None) == (told["environment"], told["queue"])
    assert "llm_gateway.providers.openai" in told["loaded"]
    assert [] == [name for name in told["loaded"] if name.startswith(NEVER_LOADED)]
