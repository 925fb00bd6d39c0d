"""What is handed in by mistake is refused with the word that helps, and what is set by mistake is noticed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, cast

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._facts import Fault
from llm_gateway._mapping import Progress
from llm_gateway.errors import ClientClosed, ConfigurationError, ErrorInfo, InvalidRequest, QuotaExhausted
from llm_gateway.settings import settings_of_process
from llm_gateway.worker import Worker

TEXT = cast("LLMRequest", "Which essay is better?")
NUMBER = cast("float", "5")
TWO = cast("int", "2")
NOBODY = cast("str", None)
THREE = cast("str", 3)
NONE = cast("list[LLMRequest]", None)
HALF = "a\ud800"
QUEUED = cast("Literal['queue']", "queued")
FUNCTION = cast("type[int]", lambda: 1)
nameless = cast("Callable[[str, str], LLMRequest]", LLMRequest)
MISTAKES: dict[str, Callable[[LLMClient, LLMRequest], Awaitable[object]]] = {
    "a text to complete": lambda client, _: client.complete(TEXT),
    "a text to submit": lambda client, _: client.submit(TEXT),
    "nothing to submit": lambda client, _: client.submit_many(NONE),
    "one request to submit as many": lambda client, question: client.submit_many(cast("list[LLMRequest]", question)),
    "a text to submit as many": lambda client, _: client.submit_many(cast("list[LLMRequest]", "ab")),
    "a timeout as text": lambda client, question: client.complete(question, timeout=NUMBER),
    "true for a second": lambda client, question: client.complete(question, timeout=True),
    "endless digits for a timeout": lambda client, question: client.complete(question, timeout=10**400),
    "no timeout": lambda client, question: client.complete(question, timeout=cast("float", None)),
    "a ticket for its id": lambda client, question: client.result(cast("str", question)),
    "a status of no id": lambda client, question: client.status(cast("str", question)),
    "a cancel of no id": lambda client, question: client.cancel(cast("str", question)),
    "a cancel of no group": lambda client, _: client.cancel_group(NOBODY),
    "a cancel of an unnamed group": lambda client, _: client.cancel_group(""),
    "an erasure of a number": lambda client, _: client.erase(ticket=THREE),
    "an erasure of an unnamed subject": lambda client, _: client.erase(subject=""),
    "negative retries": lambda client, question: client.complete(question, output_retries=-1),
    "retries as text": lambda client, question: client.complete(question, output_retries=TWO),
    "true for one retry": lambda client, question: client.complete(question, output_retries=True),
    "another word for queue": lambda client, question: client.complete(question, when_unavailable=QUEUED),
    "events of a number": lambda client, _: anext(client.events(group=THREE)),
    "events after a number": lambda client, _: anext(client.events(after=THREE)),
    "events after a word": lambda client, _: anext(client.events(after="yesterday")),
    "events after endless digits": lambda client, _: anext(client.events(after="9" * 5_000)),
    "events after more than any store counts": lambda client, _: anext(client.events(after="9" * 19)),
    "a map of nothing": lambda client, _: anext(client.map(NONE)),
    "a map of one request": lambda client, question: anext(client.map(cast("list[LLMRequest]", question))),
    "a map of a text": lambda client, _: anext(client.map(cast("list[LLMRequest]", "ab"))),
    "a map without time": lambda client, question: anext(client.map([question] * 3, timeout=-1)),
    "samples as text": lambda client, question: anext(client.map([question], samples=TWO)),
    "concurrency as text": lambda client, question: anext(client.map([question], concurrency=TWO)),
    "no samples": lambda client, question: anext(client.map([question], samples=0)),
    "progress to a number": lambda client, question: anext(client.map([question], progress=cast("Progress", 3))),
    "a map of functions": lambda client, question: anext(client.map([question], output_type=FUNCTION)),
    "a tenant that is none": lambda client, question: client.for_tenant(NOBODY).submit(question),
    "a tenant without a name": lambda client, question: client.for_tenant("").submit(question),
    "half a character for an id": lambda client, _: client.result(HALF),
    "a status of half a character": lambda client, _: client.status(HALF),
    "a cancel of half a character": lambda client, _: client.cancel(HALF),
    "a requeue of half a character": lambda client, _: client.requeue(HALF),
    "an erasure of half a character": lambda client, _: client.erase(ticket=HALF),
    "a subject of half a character": lambda client, _: client.erase(subject=HALF),
    "a group of half a character": lambda client, _: client.cancel_group(HALF),
    "events of half a character": lambda client, _: anext(client.events(group=HALF)),
    "events after half a character": lambda client, _: anext(client.events(after=HALF)),
    "a tenant of half a character": lambda client, question: client.for_tenant(HALF).submit(question),
    "fields without names": lambda client, _: client.submit(nameless("fake", "m-1")),
}
WORKERS: dict[str, Callable[[LLMClient], AbstractAsyncContextManager[Worker]]] = {
    "text": lambda client: client.worker(concurrency=TWO),
    "a word": lambda client: client.worker(concurrency=cast("int", "x")),
    "true": lambda client: client.worker(concurrency=True),
    "none": lambda client: client.worker(concurrency=0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_refused(desk: Desk, client: LLMClient, question: LLMRequest, mistake: str) -> None:
    """A slip is an InvalidRequest that quotes nothing, asks nobody and stores nothing."""
    with pytest.raises(InvalidRequest) as caught:
        async with asyncio.timeout(5):
            await MISTAKES[mistake](client, question)
    assert "Which essay" not in str(caught.value)
    assert (desk.provider.calls, (await client.health()).depth) == ([], 0)


@pytest.mark.parametrize("mistake", WORKERS)
async def test_refused_worker(client: LLMClient, mistake: str) -> None:
    """A worker is started with a whole number of places or not at all."""
    with pytest.raises(ConfigurationError, match="concurrency"):
        await WORKERS[mistake](client).__aenter__()


async def test_map_with_mistakes(desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """What is no request is refused in its own place, once for each sample, and stops nobody else."""
    items = [item async for item in client.map([question, TEXT, question], samples=2)]
    told = {(item.index, item.sample): type(item.outcome) for item in items}
    assert {
        (0, 0): Completed,
        (0, 1): Completed,
        (1, 0): InvalidRequest,
        (1, 1): InvalidRequest,
        (2, 0): Completed,
        (2, 1): Completed,
    } == told
    assert len(desk.provider.calls) == 4


async def test_submit_many_with_mistakes(client: LLMClient, question: LLMRequest) -> None:
    """What is no request is refused in its own place, and the others get their tickets."""
    outcomes = await client.submit_many([question, TEXT, question])
    assert [Pending, InvalidRequest, Pending] == [type(outcome) for outcome in outcomes]


async def test_map_when_closed(desk: Desk, question: LLMRequest) -> None:
    """Mapping with a client that is not open is refused once, and not for each request."""
    client = desk.client()
    with pytest.raises(ClientClosed):
        client.map([question] * 3)


async def test_used_in_a_plain_thread(client: LLMClient, question: LLMRequest) -> None:
    """A client that is used where no event loop runs says where it belongs."""
    with pytest.raises(ConfigurationError, match="another event loop"):
        await asyncio.to_thread(client.map, [question])


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
