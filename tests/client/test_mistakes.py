"""What is handed in by mistake is refused with the word that helps, and what is set by mistake is noticed."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import cast

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import LLMClient, LLMRequest
from llm_gateway._facts import Fault
from llm_gateway.errors import ErrorInfo, InvalidRequest, QuotaExhausted
from llm_gateway.settings import settings_of_process

TEXT = cast("LLMRequest", "Which essay is better?")
NUMBER = cast("float", "5")
MISTAKES: dict[str, Callable[[LLMClient, LLMRequest], Awaitable[object]]] = {
    "a text to complete": lambda client, _: client.complete(TEXT),
    "a text to submit": lambda client, _: client.submit(TEXT),
    "texts to submit": lambda client, _: client.submit_many([TEXT]),
    "a timeout as text": lambda client, question: client.complete(question, timeout=NUMBER),
    "no timeout": lambda client, question: client.complete(question, timeout=cast("float", None)),
    "a ticket for its id": lambda client, question: client.result(cast("str", question)),
    "a status of no id": lambda client, question: client.status(cast("str", question)),
    "a cancel of no id": lambda client, question: client.cancel(cast("str", question)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_refused(desk: Desk, client: LLMClient, question: LLMRequest, mistake: str) -> None:
    """A slip is an InvalidRequest that quotes nothing, asks nobody and stores nothing."""
    with pytest.raises(InvalidRequest) as caught:
        await MISTAKES[mistake](client, question)
    assert "Which essay" not in str(caught.value)
    assert (desk.provider.calls, (await client.health()).depth) == ([], 0)


async def test_map_of_texts(client: LLMClient) -> None:
    """Mapping over texts is refused like asking with one."""
    with pytest.raises(InvalidRequest):
        _ = [item async for item in client.map([TEXT])]


async def test_unconfigured_vendor(client: LLMClient, question: LLMRequest) -> None:
    """A vendor without a key is refused with the name of the variable that would configure it."""
    with pytest.raises(InvalidRequest) as caught:
        await client.complete(question.model_copy(update={"provider": "openai"}))
    assert "LLM_GATEWAY_OPENAI_API_KEY" in str(caught.value)


async def test_latch_says_so(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A call that a latch refuses says that it was not sent, and when the next one will be."""
    desk.provider.script(QuotaExhausted("No money.", info=ErrorInfo(fault=Fault.QUOTA)))
    with pytest.raises(QuotaExhausted):
        await client.complete(question)
    desk.clock.advance(100.0)
    with pytest.raises(QuotaExhausted) as caught:
        await client.complete(question)
    assert (caught.value.fault, caught.value.retry_after) == (Fault.LATCHED, 800.0)
    assert "latched" in str(caught.value)


async def test_health_without_queue(desk: Desk, question: LLMRequest) -> None:
    """Circuits and latches of what was asked live are told without a queue too."""
    async with desk.client(queue=False) as client:
        desk.provider.script(*[outage(Fault.CONNECT)] * 3)
        with pytest.raises(Exception, match="out"):
            await client.complete(question)
        (lane,) = (await client.health()).lanes
    assert (str(lane.lane), lane.circuit.value, lane.latched) == ("fake/m-1", "open", False)


def test_unknown_variable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A variable with our prefix that is no setting is named in a warning; known ones are not."""
    monkeypatch.setenv("LLM_GATEWAY_QEUE", "none")
    monkeypatch.setenv("LLM_GATEWAY_WORKER__LEASE_SECONDS", "3")
    with caplog.at_level(logging.WARNING, logger="llm_gateway"):
        settings = settings_of_process()
    assert [record.getMessage() for record in caplog.records] == ["LLM_GATEWAY_QEUE is no setting of llm_gateway"]
    assert settings.worker.lease_seconds == 3.0
