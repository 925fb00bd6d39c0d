"""What all peers share: the question, and how their calls are counted."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version

__all__ = [
    "KEY",
    "MODEL",
    "SYSTEM",
    "USER",
    "Ask",
    "Opened",
    "Picked",
    "arguments",
    "asked",
    "body",
    "picked",
    "report",
]

KEY = "sk-bench"
MODEL = "gpt-4o-mini"
SYSTEM = "You are an impartial assessor of pupils' essays. Answer with JSON: winner, confidence, reason."
USER = "Which essay is better?\n\n" + "The sea keeps its own calendar, and the harbour reads it aloud. " * 48
WARM_UP = 200

Picked = tuple[str, str, str, str, int, int]
Ask = Callable[[], Awaitable[str]]
Opened = Callable[[str], AbstractAsyncContextManager[Ask]]


def body() -> bytes:
    """Write the request as JSON, afresh for each call as every library does."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": USER}]
    asked = {"model": MODEL, "messages": messages, "temperature": 0.0, "max_completion_tokens": 600}
    return json.dumps(asked).encode()


def picked(content: bytes) -> Picked:
    """Read the fields that a caller needs: id, model, finish reason, text and tokens."""
    answer = json.loads(content)
    choice, usage = answer["choices"][0], answer["usage"]
    text = choice["message"]["content"]
    finish = choice["finish_reason"]
    return answer["id"], answer["model"], finish, text, usage["prompt_tokens"], usage["completion_tokens"]


async def asked(ask: Ask, concurrency: int, calls: int) -> int:
    """Make *calls* calls, *concurrency* at a time; return how many distinct ids came back."""
    turns = iter(range(calls))
    ids: set[str] = set()

    async def caller() -> None:
        for _ in turns:
            ids.add(await ask())

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return len(ids)


async def _measured(opened: Opened, url: str, concurrency: int, calls: int) -> dict[str, float]:
    async with opened(url) as ask:
        await ask()
        result = {"first_answer_at": time.monotonic(), "first_answer_cpu": time.process_time()}
        if calls == 0:
            return result
        await asked(ask, concurrency, max(WARM_UP, 2 * concurrency))
        wall, cpu = time.perf_counter(), time.process_time()
        distinct = await asked(ask, concurrency, calls)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        if distinct < calls:
            message = f"{calls - distinct} answers came twice"
            raise RuntimeError(message)
        return result | {"cpu_us": cpu / calls * 1e6, "per_second": calls / wall}


def report(opened: Opened, url: str, concurrency: int, calls: int, *, packages: tuple[str, ...]) -> None:
    """Measure and print one line of JSON; with no *calls*, only how long the first answer took."""
    result: dict[str, object] = dict(asyncio.run(_measured(opened, url, concurrency, calls)))
    print(json.dumps(result | {"versions": {name: version(name) for name in packages}}))


def arguments() -> tuple[str, int, int]:
    """Read ``URL CONCURRENCY CALLS`` from the command line."""
    url, concurrency, calls = sys.argv[1:4]
    return url, int(concurrency), int(calls)
