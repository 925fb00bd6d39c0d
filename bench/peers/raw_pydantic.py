"""httpx over aiohttp's pool with the answer read by pydantic: what a careful script would start up with."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
from _measure import KEY, Ask, arguments, body, report
from httpx_aiohttp import AiohttpTransport
from pydantic import BaseModel


class Said(BaseModel):
    """The answer's text."""

    content: str


class Choice(BaseModel):
    """One answer."""

    message: Said
    finish_reason: str


class Completion(BaseModel):
    """The whole reply."""

    id: str
    model: str
    choices: list[Choice]
    usage: dict[str, object]


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
            return Completion.model_validate_json(response.content).id

        yield ask


def main(url: str, concurrency: int, calls: int) -> None:
    """Measure and print."""
    report(opened, url, concurrency, calls, packages=("pydantic", "httpx-aiohttp"))


if __name__ == "__main__":
    main(*arguments())
