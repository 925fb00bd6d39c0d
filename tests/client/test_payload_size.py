"""The byte limit of a request, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.client.desk import Desk

from llm_gateway import Completed, LLMClient, LLMRequest
from llm_gateway._core.payloads import write_echo
from llm_gateway._core.schema import TEXT
from llm_gateway.errors import PayloadTooLarge
from llm_gateway.options import QueueOptions

BARE: dict[str, object] = {"metadata": {}}


@pytest.mark.parametrize(
    "echoed",
    [BARE, {"metadata": {"pair": 7}}, BARE | {"trace_context": {"traceparent": "00-1-2-01"}}],
    ids=["bare", "metadata", "trace"],
)
async def test_limit_is_exact(desk: Desk, question: LLMRequest, echoed: dict[str, object]) -> None:
    """A body of just the limit is sent, and one byte more is not; what is echoed counts where there is some."""
    asked = question.model_copy(update=echoed)
    size = len(desk.provider.prepare(asked, TEXT).body) + (len(write_echo(asked)) if echoed != BARE else 0)
    exact, short = (replace(desk.parts, queue=QueueOptions(max_payload_bytes=most)) for most in (size, size - 1))
    async with LLMClient([desk.provider], None, exact) as client:
        assert isinstance(await client.complete(asked), Completed)
    async with LLMClient([desk.provider], None, short) as client:
        with pytest.raises(PayloadTooLarge):
            await client.complete(asked)
    assert 1 == len(desk.provider.calls)
