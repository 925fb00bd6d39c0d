"""Parts are foreign code: whatever they raise, a call ends in an outcome or a typed error that quotes nothing."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final, TypeVar, cast

import pytest
from tests.client.desk import Desk, outage

from llm_gateway import Completed, LLMClient, LLMRequest, Pending
from llm_gateway._facts import Fault
from llm_gateway._shields import ShieldedQueue
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import (
    ConfigurationError,
    DurabilityUnknown,
    InvalidRequest,
    LLMGatewayError,
    ModelMismatch,
    ProviderError,
    ProviderUnavailable,
    QueueUnavailable,
    RateLimited,
)
from llm_gateway.protocols import PayloadCodec, Provider, QueueBackend
from llm_gateway.testing import FakeBreaker, FakeCache, FakeLimiter, FakeObserver

T = TypeVar("T")
SECRET: Final = "Which essay is better?"
Ask = Callable[[LLMClient, LLMRequest], Awaitable[object]]


class Breaking:
    """A part of which some methods raise what quotes the prompt."""

    def __init__(self, part: object, methods: frozenset[str], error: type[BaseException]) -> None:
        self._part = part
        self.methods = methods
        self._error = error

    def __getattr__(self, name: str) -> object:
        """Pass on what does not raise."""
        method = getattr(self._part, name)
        if name not in self.methods:
            return method

        def raising(*_: object, **__: object) -> object:
            raise self._error(SECRET)

        async def raising_later(*_: object, **__: object) -> object:
            await asyncio.sleep(0)
            raise self._error(SECRET)

        return raising_later if inspect.iscoroutinefunction(method) else raising


def breaking(part: T, *methods: str, error: type[BaseException] = RuntimeError) -> T:
    """Return the part with methods that raise."""
    return cast("T", Breaking(part, frozenset(methods), error))


@pytest.fixture(autouse=True)
def nothing_quoted(caplog: pytest.LogCaptureFixture) -> object:
    """See to it that no test makes the log quote a prompt."""
    yield
    assert [record.getMessage() for record in caplog.records if SECRET in record.getMessage()] == []


def require_told(error: LLMGatewayError, *words: str) -> None:
    """Assert that an error names these and that neither it nor what hangs on it quotes the prompt."""
    assert [] == [word for word in words if word not in error.message]
    assert SECRET not in "".join(traceback.format_exception(error))
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


async def test_observer(desk: Desk, question: LLMRequest, caplog: pytest.LogCaptureFixture) -> None:
    """An observer that raises changes no outcome, live or queued, and is logged by class."""
    parts = replace(desk.parts, observer=breaking(FakeObserver(), "observe"))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        assert isinstance(await client.complete(question), Completed)
        ticket = (await client.submit(question)).ticket.id
        async with client.worker():
            assert isinstance(await client.result(ticket, timeout=5), Completed)
    assert len(desk.provider.calls) == 2
    assert "Breaking raised RuntimeError in observe." in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("methods", [("get",), ("put",), ("get", "put")], ids=str)
async def test_cache(desk: Desk, question: LLMRequest, methods: tuple[str, ...]) -> None:
    """A cache that raises has no entry, and costs nobody the answer that it was to keep."""
    parts = replace(desk.parts, cache=breaking(FakeCache(), *methods))
    async with LLMClient([desk.provider], desk.queue, parts) as client:
        for _ in range(2):
            assert isinstance(await client.complete(question), Completed)
    assert len(desk.provider.calls) == 2


async def test_damaged_entry(desk: Desk, question: LLMRequest) -> None:
    """An entry of the cache that cannot be read counts as missing, and is written anew."""
    cache = FakeCache()
    async with LLMClient([desk.provider], None, replace(desk.parts, cache=cache)) as client:
        await client.complete(question)
        cache.entries = dict.fromkeys(cache.entries, b"{")
        asked = [await client.complete(question) for _ in range(2)]
    assert [outcome.response.receipt.source for outcome in asked if isinstance(outcome, Completed)] == [
        "live",
        "dev_cache",
    ]


async def refusal_in_many(client: LLMClient, question: LLMRequest) -> None:
    """Submit as one of many, and raise what took its ticket's place."""
    (refused,) = await client.submit_many([question])
    assert isinstance(refused, LLMGatewayError)
    raise refused


ASKED: Final[dict[str, Ask]] = {
    "complete": lambda client, question: client.complete(question),
    "submit": lambda client, question: client.submit(question),
    "submit_many": refusal_in_many,
}


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_prepare(desk: Desk, question: LLMRequest, ask: Ask) -> None:
    """An adapter that breaks while it writes a request is named in a typed error before anything is sent or stored."""
    async with LLMClient([breaking(desk.provider, "prepare")], desk.queue, desk.parts) as client:
        with pytest.raises(ProviderError) as caught:
            await ask(client, question)
        assert (await client.health()).depth == 0
    require_told(caught.value, "Breaking raised RuntimeError in prepare")
    assert (caught.value.fault, caught.value.provider, caught.value.model) == (Fault.BROKEN_PART, "fake", "m-1")


class Vague(Breaking):
    """A provider that returns nothing where it should return something."""

    def __getattr__(self, name: str) -> object:
        """Pass on what is not vague."""
        if name not in self.methods:
            return super().__getattr__(name)

        def nothing(*_: object, **__: object) -> None:
            pass

        async def nothing_later(*_: object, **__: object) -> None:
            pass

        return nothing_later if name == "send" else nothing


@pytest.mark.parametrize("method", ["prepare", "send"])
async def test_nothing_returned(desk: Desk, question: LLMRequest, method: str) -> None:
    """An adapter that returns nothing is named in a typed error."""
    provider = cast("Provider", Vague(desk.provider, frozenset({method}), RuntimeError))
    async with LLMClient([provider], None, desk.parts) as client:
        with pytest.raises(ProviderError) as caught:
            await client.complete(question)
    require_told(caught.value, "Vague", "NoneType instead of a P")


@pytest.mark.parametrize("queue", [True, False])
async def test_serves(desk: Desk, question: LLMRequest, *, queue: bool) -> None:
    """When an adapter cannot tell whose answer it is, the answer is not used, and not paid for a second time."""
    async with LLMClient([breaking(desk.provider, "serves")], desk.queue if queue else None, desk.parts) as client:
        with pytest.raises(ModelMismatch) as caught:
            await client.complete(question)
    require_told(caught.value, "Breaking raised RuntimeError in serves")
    assert [(a.fault, a.possibly_billed) for a in caught.value.attempts] == [(Fault.MODEL_MISMATCH, True)]
    assert len(desk.provider.calls) == 1


@pytest.mark.parametrize("queue", [True, False])
async def test_nobody_admits(desk: Desk, question: LLMRequest, *, queue: bool) -> None:
    """When breaker or limiter cannot say whether a call may go, it does not go, and no ticket is made of it."""
    broken = {
        "acquire": replace(desk.parts, breaker=breaking(FakeBreaker(), "acquire")),
        "delay": replace(desk.parts, limiter=breaking(FakeLimiter(), "delay")),
    }
    for method, parts in broken.items():
        async with LLMClient([desk.provider], desk.queue if queue else None, parts) as client:
            with pytest.raises(ConfigurationError) as caught:
                await client.complete(question)
            assert (await client.health()).depth == 0
        require_told(caught.value, f"Breaking raised RuntimeError in {method}")
    assert desk.provider.calls == []


async def test_breaker_that_is_told(desk: Desk, question: LLMRequest) -> None:
    """A breaker that raises when it is told of an outcome changes none."""
    breaker = breaking(FakeBreaker(), "success", "failure", "ignore")
    async with LLMClient([desk.provider], None, replace(desk.parts, breaker=breaker)) as client:
        assert isinstance(await client.complete(question), Completed)
        for fault in (Fault.TLS, Fault.BAD_REQUEST):
            desk.provider.script(outage(fault))
            with pytest.raises(ProviderUnavailable) as caught:
                await client.complete(question)
            assert caught.value.fault is fault


async def test_limiter_that_is_told(desk: Desk, question: LLMRequest) -> None:
    """A limiter that raises when a provider asks to wait does not hide that it did."""
    desk.provider.script(RateLimited("Slow down.", info=outage(Fault.ACCELERATION).info))
    parts = replace(desk.parts, limiter=breaking(FakeLimiter(), "penalise"))
    async with LLMClient([desk.provider], None, parts) as client:
        with pytest.raises(RateLimited, match="Slow down"):
            await client.complete(question)


async def test_breaker_without_state(desk: Desk, question: LLMRequest) -> None:
    """A breaker that does not tell its state takes nobody's ticket away, and health says that it is broken."""
    async with LLMClient(
        [desk.provider], desk.queue, replace(desk.parts, breaker=breaking(FakeBreaker(), "snapshot"))
    ) as client:
        assert isinstance(await client.submit(question), Pending)
        assert [Pending] == [type(outcome) for outcome in await client.submit_many([question])]
        with pytest.raises(ConfigurationError) as caught:
            await client.health()
    require_told(caught.value, "Breaking raised RuntimeError in snapshot")


def test_breaker_without_listeners(desk: Desk) -> None:
    """A breaker that takes no listeners is refused where the client is made."""
    with pytest.raises(ConfigurationError, match="RuntimeError in subscribe"):
        LLMClient([desk.provider], None, replace(desk.parts, breaker=breaking(FakeBreaker(), "subscribe")))


@pytest.mark.parametrize("method", ["seal", "digest"])
async def test_codec_while_storing(desk: Desk, question: LLMRequest, method: str) -> None:
    """A codec that raises is one that cannot be reached: nothing is stored, and the caller may ask again."""
    codec = cast("PayloadCodec", breaking(PlainCodec(), method))
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, codec=codec)) as client:
        for ask in ASKED.values():
            desk.provider.script(outage(Fault.TLS))
            with pytest.raises(QueueUnavailable) as caught:
                await ask(client, question)
            require_told(caught.value, f"Breaking raised RuntimeError in {method}")
        assert (await client.health()).depth == 0


async def test_codec_while_reading(desk: Desk, question: LLMRequest) -> None:
    """A request that a codec fails to open waits unspent until it can; the answer too."""
    codec = Breaking(PlainCodec(), frozenset({"open"}), RuntimeError)
    parts = replace(desk.parts, codec=cast("PayloadCodec", codec))
    async with LLMClient([desk.provider], desk.queue, parts) as client, client.worker():
        ticket = (await client.submit(question)).ticket.id
        await desk.clock.run_for(15.0)
        waiting = await client.status(ticket)
        codec.methods = frozenset()
        await desk.clock.run_for(15.0)
        assert isinstance(await client.result(ticket), Completed)
        codec.methods = frozenset({"open"})
        with pytest.raises(QueueUnavailable) as caught:
            await client.result(ticket)
    assert (waiting.state.value, waiting.attempts) == ("queued", 0)
    require_told(caught.value, "Breaking raised RuntimeError in open")


async def test_codec_that_does_not_shred(desk: Desk) -> None:
    """When it is not known whether a tenant's key is gone, the error says so."""
    codec = cast("PayloadCodec", breaking(PlainCodec(), "shred"))
    async with LLMClient([desk.provider], desk.queue, replace(desk.parts, codec=codec)) as client:
        with pytest.raises(DurabilityUnknown) as caught:
            await client.erase(everything=True)
    require_told(caught.value, "Breaking raised RuntimeError in shred")


async def waited(client: LLMClient, question: LLMRequest) -> object:
    """Wait for the end of a ticket."""
    return await client.result((await client.submit(question)).ticket.id, timeout=5)


async def dead_letter(client: LLMClient) -> object:
    """Ask a request again that is still waiting."""
    ticket = await client.submit(LLMRequest(provider="fake", model="m-1", prompt=SECRET))
    return await client.requeue(ticket.ticket.id)


READ: Final[dict[str, tuple[str, Ask]]] = {
    "mint": ("mint", lambda client, question: client.submit(question)),
    "find": (
        "find",
        lambda client, question: client.complete(question.model_copy(update={"idempotency_key": "k"})),
    ),
    "get": ("get", lambda client, _: client.status("t")),
    "result": ("get", lambda client, _: client.result("t")),
    "payload": ("payload", lambda client, _: dead_letter(client)),
    "stats": ("stats", lambda client, _: client.health()),
    "events": ("events", lambda client, _: anext(client.events())),
    "ended": ("ended", waited),
    "pin": ("pin", lambda client, question: client.complete(question.model_copy(update={"group": "g"}), timeout=1)),
}
CHANGED: Final[dict[str, tuple[str, Ask]]] = {
    "cancel": ("cancel", lambda client, _: client.cancel("t")),
    "cancel_group": ("cancel_group", lambda client, _: client.cancel_group("g")),
    "erase": ("erase", lambda client, _: client.erase(subject="s")),
    "drop_tenant_key": ("drop_tenant_key", lambda client, _: client.erase(everything=True)),
}


@pytest.mark.parametrize("error", [ValueError, TimeoutError, OSError])
@pytest.mark.parametrize("use", [*READ, *CHANGED])
async def test_queue(desk: Desk, question: LLMRequest, use: str, error: type[Exception]) -> None:
    """A queue that raises what is no error of this library is named in one: unreached, or with what nobody knows."""
    method, ask = (READ | CHANGED)[use]
    queue = breaking(desk.queue, method, error=error)
    async with LLMClient([desk.provider], cast("QueueBackend", queue), desk.parts) as client:
        kind = DurabilityUnknown if method in CHANGED else QueueUnavailable
        running = asyncio.ensure_future(ask(client, question))
        await desk.clock.run_for(10.0)
        with pytest.raises(kind) as caught:
            await running
    assert type(caught.value) is kind
    require_told(caught.value, *([] if method == "pin" else [f"Breaking raised {error.__name__} in {method}"]))


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
async def test_queue_that_may_have_stored(desk: Desk, question: LLMRequest, ask: Ask) -> None:
    """When nobody knows whether a request was stored, the error holds it with the key of its one ticket."""
    queue = breaking(desk.queue, "enqueue", "enqueue_many")
    desk.provider.script(outage(Fault.TLS))
    async with LLMClient([desk.provider], cast("QueueBackend", queue), desk.parts) as client:
        with pytest.raises(DurabilityUnknown) as caught:
            await ask(client, question)
    require_told(caught.value, "Breaking raised RuntimeError in enqueue")
    again = caught.value.request
    assert isinstance(again, LLMRequest)
    assert again.idempotency_key is not None
    assert "Submit error.request again" in str(caught.value)


async def test_many_that_may_have_been_stored(desk: Desk, question: LLMRequest) -> None:
    """Each of many has its own error with its own key, and what was refused before stays refused."""
    other = question.model_copy(update={"provider": "nobody"})
    queue = breaking(desk.queue, "enqueue_many")
    async with LLMClient([desk.provider], cast("QueueBackend", queue), desk.parts) as client:
        outcomes = await client.submit_many([question, other, question])
    unknown = [outcome.request for outcome in outcomes if isinstance(outcome, DurabilityUnknown)]
    keys = {request.idempotency_key for request in unknown if isinstance(request, LLMRequest)}
    assert ([type(outcome) for outcome in outcomes], len(keys)) == (
        [DurabilityUnknown, InvalidRequest, DurabilityUnknown],
        2,
    )


async def test_queue_that_does_not_start(desk: Desk) -> None:
    """A queue that cannot be opened is a typed error where the client is opened."""
    client = LLMClient([desk.provider], cast("QueueBackend", breaking(desk.queue, "start")), desk.parts)
    with pytest.raises(QueueUnavailable) as caught:
        await client.__aenter__()
    require_told(caught.value, "Breaking raised RuntimeError in start")


async def test_parts_that_do_not_close(desk: Desk, question: LLMRequest) -> None:
    """A part that cannot be closed keeps no other open, and does not hide how the block ended."""
    first = breaking(desk.provider, "aclose")
    queue = cast("QueueBackend", breaking(desk.queue, "aclose"))
    second = type(desk.provider)("second")
    with pytest.raises(InvalidRequest, match="use one of"):
        async with LLMClient([first, second], queue, desk.parts) as client:
            await client.complete(question.model_copy(update={"provider": "nobody"}))
    assert second.closed == 1


@pytest.mark.parametrize("part", ["queue", "provider"])
async def test_cancellation_passes(desk: Desk, question: LLMRequest, part: str) -> None:
    """Being cancelled is no failure of a part."""
    queue = breaking(desk.queue, "find", error=asyncio.CancelledError) if part == "queue" else desk.queue
    provider = breaking(desk.provider, "prepare", error=asyncio.CancelledError) if part == "provider" else desk.provider
    async with LLMClient([provider], cast("QueueBackend", queue), desk.parts) as client:
        with pytest.raises(asyncio.CancelledError):
            await client.complete(question.model_copy(update={"idempotency_key": "k"}))


def test_whole_contract() -> None:
    """A shielded queue passes on all that the contract of a queue asks for, and inherits no empty method of it."""
    asked = {name for name in dir(QueueBackend) if not name.startswith("_")}
    assert {"allowed_in"} == asked - vars(ShieldedQueue).keys()
