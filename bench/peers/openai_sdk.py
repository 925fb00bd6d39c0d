"""The openai SDK as its README shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from _measure import KEY, MODEL, SYSTEM, USER, Ask, arguments, report
from openai import AsyncOpenAI


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Ask]:
    """Open a client."""
    async with AsyncOpenAI(api_key=KEY, base_url=url, max_retries=0) as client:

        async def ask() -> str:
            completion = await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}],
                temperature=0.0,
                max_completion_tokens=600,
            )
            return completion.id

        yield ask


def main(url: str, concurrency: int, calls: int) -> None:
    """Measure and print."""
    report(opened, url, concurrency, calls, packages=("openai",))


if __name__ == "__main__":
    main(*arguments())
