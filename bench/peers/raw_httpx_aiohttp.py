"""httpx over aiohttp's pool and the JSON by hand: what a call costs at least."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from _measure import KEY, Ask, arguments, body, picked, report
from httpx_aiohttp import AiohttpTransport


@asynccontextmanager
async def opened(url: str) -> AsyncGenerator[Ask]:
    """Open a client; it loads no authorities, for plain HTTP needs none."""
    transport = AiohttpTransport(verify=False)
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(transport=transport, headers=headers, timeout=60.0) as client:

        async def ask() -> str:
            headers = {"content-type": "application/json"}
            response = await client.post(f"{url}/chat/completions", content=body(), headers=headers)
            response.raise_for_status()
            return picked(response.content)[0]

        yield ask


def main(url: str, concurrency: int, calls: int) -> None:
    """Measure and print."""
    report(opened, url, concurrency, calls, packages=("httpx", "httpx-aiohttp", "aiohttp"))


if __name__ == "__main__":
    main(*arguments())
