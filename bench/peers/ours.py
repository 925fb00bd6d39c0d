"""llm_gateway, built from the environment: production without a queue, or development with its memory queue."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import KEY, MODEL, SYSTEM, USER, Ask, arguments, report

from llm_gateway import Completed, LLMClient, LLMRequest

PRODUCTION = {"LLM_GATEWAY_ENVIRONMENT": "production", "LLM_GATEWAY_QUEUE": "none"}
DEVELOPMENT = {"LLM_GATEWAY_ENVIRONMENT": "development", "LLM_GATEWAY_QUEUE": "auto"}


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Ask]:
    """Open a client."""
    os.environ.update(DEVELOPMENT if "development" in sys.argv else PRODUCTION)
    os.environ.update({"LLM_GATEWAY_OPENAI_API_KEY": KEY, "LLM_GATEWAY_OPENAI_BASE_URL": url})
    async with LLMClient.from_settings() as client:

        async def ask() -> str:
            request = LLMRequest(
                provider="openai", model=MODEL, system=SYSTEM, prompt=USER, temperature=0.0, max_output_tokens=600
            )
            match await client.complete(request, timeout=60.0):
                case Completed(response=response):
                    return response.receipt.response_id or ""
                case pending:
                    raise RuntimeError(repr(pending))

        yield ask


def main(url: str, concurrency: int, calls: int) -> None:
    """Measure and print."""
    report(opened, url, concurrency, calls, packages=("llm-gateway", "httpx-aiohttp", "aiohttp", "pydantic"))


if __name__ == "__main__":
    main(*arguments())
