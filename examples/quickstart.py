"""The first call. It needs nothing that runs and no key: the mock provider answers, in development only.

Run it with ``ENVIRONMENT=development python examples/quickstart.py``.
"""

from __future__ import annotations

import asyncio

from llm_gateway import LLMClient, LLMRequest


async def main() -> None:
    """Ask once and print the outcome."""
    async with LLMClient.from_settings() as client:
        print(await client.complete(LLMRequest(provider="mock", model="mock-1", prompt="Say hello.")))


asyncio.run(main())
