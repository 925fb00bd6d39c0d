"""Bad input is a typed error before any money is spent; nothing is enqueued and nothing is lost."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar, cast

import pytest
from pydantic import JsonValue, SecretStr, TypeAdapter
from tests.client.desk import Desk, outage

from llm_gateway import LLMClient, LLMRequest, Message, Priority, TicketState
from llm_gateway._core.jobs import AdoptedBy, Enqueued, EnqueueReply, NewJob
from llm_gateway._facts import Fault
from llm_gateway.errors import (
    ConfigurationError,
    DurabilityUnknown,
    IdempotencyConflict,
    InvalidRequest,
    LLMGatewayError,
    PayloadTooLarge,
    QueueFull,
    TicketExpired,
    TicketNotFound,
    UnsupportedParameter,
    UnsupportedSchema,
)
from llm_gateway.options import QueueOptions
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.queues.memory import MemoryQueue

CANARY: Final = "the quiet heron folded seven umbrellas"
GOOD: Final[dict[str, object]] = {"provider": "fake", "model": "m-1", "prompt": CANARY}


def made(**changes: object) -> LLMRequest:
    """Make a request."""
    return LLMRequest.model_validate(GOOD | changes)


CIRCULAR: Final[dict[str, JsonValue]] = {}
CIRCULAR["a"] = CIRCULAR
Ask = Callable[[LLMClient, LLMRequest], Awaitable[object]]


async def submit_one(client: LLMClient, request: LLMRequest) -> None:
    """Submit as one of many, and raise what took its ticket's place."""
    good = made(prompt="Hello?")
    before, refused, after = await client.submit_many([good, request, good])
    assert not isinstance(before, LLMGatewayError)
    assert not isinstance(after, LLMGatewayError)
    await client.cancel(before.ticket.id)
    await client.cancel(after.ticket.id)
    assert isinstance(refused, LLMGatewayError)
    raise refused


ASKED: Final[dict[str, Ask]] = {
    "complete": lambda client, request: client.complete(request),
    "raise": lambda client, request: client.complete(request, when_unavailable="raise"),
    "submit": lambda client, request: client.submit(request),
    "submit_many": submit_one,
}


async def require_untouched(desk: Desk, client: LLMClient) -> None:
    """Assert that nothing was sent and nothing waits."""
    assert ((await client.health()).depth, desk.provider.calls) == (0, [])


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ""},
        {"prompt": "  "},
        {"ttl": -1},
        {"ttl": timedelta(days=400)},
        {"ttl": math.inf},
        {"metadata": {"a": object()}},
        {"metadata": {"a": math.nan}},
        {"metadata": {"a": "\ud800"}},
    ],
    ids=str,
)
def test_request_that_cannot_be_made(changes: dict[str, object]) -> None:
    """Empty prompts, absurd ttls and metadata that is not JSON are refused where the request is made."""
    with pytest.raises(InvalidRequest) as caught:
        made(**changes)
    assert CANARY not in f"{caught.value!s}{caught.value!r}"


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a\ud800"},
        {"prompt": None},
        {"prompt": 5},
        {"messages": (Message.user("a").model_copy(update={"parts": 5}),), "prompt": None},
        {"ttl": timedelta(-1)},
        {"ttl": "soon"},
        {"priority": "urgent"},
        {"subjects": 5},
        {"subjects": ("a\ud800",)},
        {"group": "a\ud800"},
        {"idempotency_key": "a\ud800"},
        {"correlation_id": "a\ud800"},
        {"metadata": {"a": object()}},
        {"metadata": {"a": "\ud800"}},
        {"unheard_of": 1},
    ],
    ids=ascii,
)
async def test_copy_that_was_not_validated(desk: Desk, client: LLMClient, ask: Ask, changes: dict[str, object]) -> None:
    """A copy with a value that cannot be used is refused like a request that was made with it."""
    with pytest.raises(InvalidRequest) as caught:
        await ask(client, made().model_copy(update=changes))
    assert CANARY not in f"{caught.value!s}{caught.value!r}"
    await require_untouched(desk, client)


@pytest.mark.parametrize("metadata", [{"a": "\ud800"}, {"a": math.nan}, {"a": object()}, CIRCULAR], ids=ascii)
@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_metadata_changed_afterwards(
    desk: Desk, client: LLMClient, ask: Ask, metadata: dict[str, JsonValue]
) -> None:
    """Metadata that was put into a request once it was made is refused when it cannot be echoed."""
    request = made(metadata={"b": 1})
    request.metadata.update(metadata)
    with pytest.raises(InvalidRequest):
        await ask(client, request)
    await require_untouched(desk, client)


async def test_copy_that_is_validated_late(desk: Desk, client: LLMClient) -> None:
    """A copy with a value that validation would convert is taken with what it converts to."""
    ticket = (await client.submit(made().model_copy(update={"ttl": 5, "priority": "live"}))).ticket
    (job,) = await desk.queue.list_jobs()
    assert (timedelta(seconds=5), Priority.LIVE) == (ticket.expires_at - ticket.created_at, job.priority)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_unknown_provider(desk: Desk, client: LLMClient, ask: Ask) -> None:
    """A provider that is not configured is named, with those that are."""
    with pytest.raises(InvalidRequest, match="use one of: fake") as caught:
        await ask(client, made(provider="nobody"))
    assert CANARY not in str(caught.value)
    await require_untouched(desk, client)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_huge_payload(desk: Desk, ask: Ask) -> None:
    """A request beyond the byte limit is refused before it is sent or stored."""
    parts = replace(desk.parts, queue=QueueOptions(max_payload_bytes=20_000))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        with pytest.raises(PayloadTooLarge) as caught:
            await ask(client, made(prompt=CANARY * 1_000))
        assert CANARY not in str(caught.value)
        await require_untouched(desk, client)


async def test_huge_metadata(desk: Desk) -> None:
    """Metadata counts where it is stored."""
    parts = replace(desk.parts, queue=QueueOptions(max_payload_bytes=20_000))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        with pytest.raises(PayloadTooLarge):
            await client.submit(made(metadata={"a": "x" * 20_000}))
        await require_untouched(desk, client)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_unsupported_parameter(desk: Desk, ask: Ask) -> None:
    """A parameter that the model does not take is refused by name, before anything is sent or stored."""
    openai = OpenAIProvider(SecretStr("sk-test"), base_url="http://127.0.0.1:9/v1")
    async with LLMClient([openai, desk.provider], desk.queue, desk.parts) as client:
        with pytest.raises(UnsupportedParameter, match="temperature") as caught:
            await ask(client, made(provider="openai", model="gpt-5-mini", temperature=0.5))
        assert CANARY not in str(caught.value)
        await require_untouched(desk, client)


@pytest.mark.parametrize(
    "output_type",
    [
        Callable[[], int],
        object(),
        LLMClient,
        object,
        None,
        lambda: 1,
        partial(int),
        "int",
        "no type",
        {"type": "object"},
        [int],
        TypeAdapter(object),
        TypeVar("T"),
    ],
    ids=lambda given: type(given).__name__,
)
async def test_impossible_output_type(desk: Desk, client: LLMClient, output_type: object) -> None:
    """An output type that cannot be validated or described is refused by every way of asking."""
    given = cast("type[object]", output_type)
    for ask in (client.complete, client.submit):
        with pytest.raises(UnsupportedSchema):
            await ask(made(), output_type=given)
    with pytest.raises(UnsupportedSchema):
        await client.submit_many([made()], output_type=given)
    await require_untouched(desk, client)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 1e12, timedelta(days=8)], ids=str)
async def test_absurd_timeout(desk: Desk, client: LLMClient, timeout: float | timedelta) -> None:
    """A timeout that is no bounded time is refused."""
    with pytest.raises(InvalidRequest):
        await client.complete(made(), timeout=timeout)
    await require_untouched(desk, client)


@pytest.mark.parametrize("ticket", ["", "nonsense", "0" * 26, "x" * 10_000, "../../etc", "é\x00"])
async def test_unknown_ticket(client: LLMClient, ticket: str) -> None:
    """A ticket that was never issued is not found, whatever is asked of it and however odd its name."""
    for use in (client.status, client.result, client.cancel):
        with pytest.raises(TicketNotFound):
            await use(ticket)
    with pytest.raises(TicketNotFound):
        await client.erase(ticket=ticket)


async def test_expired_ticket(desk: Desk, client: LLMClient) -> None:
    """A ticket that waited too long is expired, not sent, and still tells its metadata."""
    ticket = (await client.submit(made(ttl=30, metadata={"a": 1}))).ticket.id
    desk.clock.advance(31.0)
    async with client.worker():
        await desk.clock.run_for(10.0)
    with pytest.raises(TicketExpired):
        await client.result(ticket)
    status = await client.status(ticket)
    assert (status.state, status.ticket.metadata, desk.provider.calls) == (TicketState.EXPIRED, {"a": 1}, [])


async def test_foreign_ticket(desk: Desk, client: LLMClient) -> None:
    """Another tenant's ticket is not found, in the words for one that never was."""
    ticket = (await client.for_tenant("a").submit(made())).ticket.id
    told: list[str] = []
    for asked in (ticket, "nonsense"):
        with pytest.raises(TicketNotFound) as caught:
            await client.for_tenant("b").result(asked)
        told.append(caught.value.message)
    assert told[0] == told[1]
    assert (await client.for_tenant("a").status(ticket)).state is TicketState.QUEUED


async def test_key_of_other_content(desk: Desk, client: LLMClient) -> None:
    """An idempotency key that stands for other content is a conflict; the first ticket stays."""
    ticket = (await client.submit(made(idempotency_key="k"))).ticket.id
    other = made(idempotency_key="k", prompt="Something else?")
    for ask in (client.submit, client.complete):
        with pytest.raises(IdempotencyConflict) as caught:
            await ask(other)
        assert CANARY not in str(caught.value)
    assert ((await client.status(ticket)).state, desk.provider.calls) == (TicketState.QUEUED, [])


async def test_without_queue(desk: Desk) -> None:
    """Without a queue there is nothing to submit to, follow or drain, and the error says so."""
    async with desk.client(queue=False) as client:
        for use in (client.submit(made()), client.submit_many([made()]), client.status("t"), client.cancel_group("g")):
            with pytest.raises(ConfigurationError, match="no queue"):
                await use
        with pytest.raises(ConfigurationError, match="no queue"):
            await anext(client.events())
        with pytest.raises(ConfigurationError, match="no queue"):
            await client.worker().__aenter__()


async def test_full_queue(desk: Desk) -> None:
    """A full queue refuses what comes next and keeps what it has."""
    queue = MemoryQueue(QueueOptions(max_depth=2), clock=desk.clock)
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        outcomes = await client.submit_many([made()] * 4)
        refused = [outcome for outcome in outcomes if isinstance(outcome, LLMGatewayError)]
        with pytest.raises(QueueFull):
            await client.submit(made())
        assert ([type(error) for error in refused], (await client.health()).depth) == ([QueueFull] * 2, 2)


class Uncertain(MemoryQueue):
    """A queue that stores, and whose first reply is lost."""

    told = True

    async def enqueue(self, job: NewJob, *, adopted_by: AdoptedBy | None = None) -> Enqueued:
        """Store it, and lose the first reply."""
        enqueued = await super().enqueue(job, adopted_by=adopted_by)
        if self.told:
            return enqueued
        self.told = True
        message = "The reply was lost."
        raise DurabilityUnknown(message)

    async def enqueue_many(self, jobs: Sequence[NewJob]) -> list[EnqueueReply]:
        """Store them one by one."""
        replies: list[EnqueueReply] = []
        for job in jobs:
            try:
                replies.append(await self.enqueue(job))
            except DurabilityUnknown as error:
                replies.append(error)
        return replies


async def submit_first(client: LLMClient, request: LLMRequest) -> None:
    """Submit as one of many, and raise what took its ticket's place."""
    (refused,) = await client.submit_many([request])
    assert isinstance(refused, LLMGatewayError)
    raise refused


@pytest.mark.parametrize(
    "ask",
    [ASKED["submit"], submit_first, ASKED["complete"]],
    ids=["submit", "submit_many", "outage"],
)
async def test_lost_reply(desk: Desk, ask: Ask) -> None:
    """When it is not known whether a request was stored, the error holds it with the key of its one ticket."""
    queue = Uncertain(clock=desk.clock)
    desk.provider.script(outage(Fault.UNKNOWN))
    async with LLMClient([desk.provider], queue, desk.parts) as client:
        queue.told = False
        with pytest.raises(DurabilityUnknown) as caught:
            await ask(client, made())
        again = caught.value.request
        assert isinstance(again, LLMRequest)
        assert again.idempotency_key is not None
        await client.submit(again)
        assert (await client.health()).depth == 1
