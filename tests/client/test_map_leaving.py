"""Whoever leaves a map early leaves nothing behind, and a single draw is the request itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

from tests.client.desk import Desk

from llm_gateway import Item, LLMClient, LLMRequest
from llm_gateway._core.observations import ObservationKind
from llm_gateway._facts import Fault
from llm_gateway.errors import InvalidRequest


async def test_calls_have_ended_by_then(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Leaving returns when what was still being asked has been stopped and counted, not before."""
    base = asyncio.all_tasks()
    desk.provider.hold()
    requests = [question.model_copy(update={"provider": "nobody"}), question]
    stream = cast("AsyncGenerator[Item[str]]", client.map(requests, concurrency=2))
    first = await anext(stream)
    await desk.provider.wait_for_calls(1)
    await stream.aclose()
    tried = [seen.fault for seen in desk.observer.observations if seen.kind is ObservationKind.ATTEMPT]
    assert isinstance(first.outcome, InvalidRequest)
    assert ([Fault.CANCELLED], set()) == (tried, asyncio.all_tasks() - base)


async def test_single_draw_keeps_its_key(client: LLMClient, question: LLMRequest) -> None:
    """A request that is drawn once is asked under the key it came with; only several draws need keys of their own."""
    keyed = question.model_copy(update={"idempotency_key": "judgement-1"})
    keys = [
        [item.request.idempotency_key async for item in client.map([keyed], samples=samples, concurrency=1)]
        for samples in (1, 2)
    ]
    assert [["judgement-1"], ["judgement-1:0", "judgement-1:1"]] == keys
