"""litellm's ``acompletion`` against an OpenAI-compatible endpoint."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import litellm
from _measure import KEY, MODEL, SYSTEM, USER, Ask, arguments, report


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Ask]:
    """There is nothing to open."""

    async def ask() -> str:
        completion = await litellm.acompletion(
            model=f"openai/{MODEL}",
            api_base=url,
            api_key=KEY,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}],
            temperature=0.0,
            max_completion_tokens=600,
            max_retries=0,
        )
        return completion.id

    yield ask


def main(url: str, concurrency: int, calls: int) -> None:
    """Measure and print."""
    report(opened, url, concurrency, calls, packages=("litellm", "openai"))


if __name__ == "__main__":
    main(*arguments())
