"""httpx with its own pool and the JSON by hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from _measure import KEY, Ask, arguments, body, picked, report


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Ask]:
    """Open a client."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, timeout=60.0) as client:

        async def ask() -> str:
            headers = {"content-type": "application/json"}
            response = await client.post(f"{url}/chat/completions", content=body(), headers=headers)
            response.raise_for_status()
            return picked(response.content)[0]

        yield ask


def main(url: str, concurrency: int, calls: int) -> None:
    """Measure and print."""
    report(opened, url, concurrency, calls, packages=("httpx",))


if __name__ == "__main__":
    main(*arguments())
