"""The public doubles."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

import anyio
import pytest

from llm_gateway._core.circuit import CircuitChange, CircuitKey, CircuitState, Level, Permit, Rejection
from llm_gateway._core.environments import EVERYWHERE, WORKSHOP, Environment
from llm_gateway._core.jobs import Lane
from llm_gateway._core.lifecycle import TicketState
from llm_gateway._core.observations import Observation, ObservationKind
from llm_gateway._core.outcomes import TicketEvent
from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.responses import FinishReason, Receipt, Usage
from llm_gateway._core.schema import TEXT
from llm_gateway.errors import ProviderUnavailable, QueueError
from llm_gateway.protocols import (
    CircuitBreaker,
    EventPublisher,
    Observer,
    Part,
    PayloadCodec,
    Provider,
    RateLimiter,
    ReceiptSink,
    ResponseCache,
)
from llm_gateway.testing.fakes import (
    FakeBreaker,
    FakeCache,
    FakeCodec,
    FakeLimiter,
    FakeObserver,
    FakeProvider,
    FakePublisher,
    FakeSink,
)

AT = datetime(2026, 1, 1, tzinfo=UTC)
LANE = Lane("fake", "m")
KEY = CircuitKey("fake.test", LANE)
REQUEST = LLMRequest(provider="fake", model="m", system="Be fair.", prompt="Which is better?")
EVENT = TicketEvent(
    event_id="e",
    cursor="1",
    ticket_id="t",
    tenant="",
    version=1,
    state=TicketState.QUEUED,
    reason=None,
    at=AT,
    idempotency_key="k",
)
RECEIPT = Receipt(
    provider="fake",
    endpoint="fake.test",
    key_id="k",
    requested_model="m",
    served_model="m",
    finish_reason=FinishReason.STOP,
    usage=Usage(),
    prompt_sha256="p",
    text_sha256="t",
    sent_at=AT,
    first_byte_at=AT,
    received_at=AT,
)


async def test_each_stands_in_for_its_protocol() -> None:
    """Every double has its protocol's shape, and may run where it says."""
    provider: Provider = FakeProvider()
    breaker: CircuitBreaker = FakeBreaker()
    limiter: RateLimiter = FakeLimiter()
    cache: ResponseCache = FakeCache()
    publisher: EventPublisher = FakePublisher()
    sink: ReceiptSink = FakeSink()
    observer: Observer = FakeObserver()
    codec: PayloadCodec = FakeCodec()

    everywhere: list[Part] = [breaker, limiter, publisher, sink, observer, codec]
    assert [EVERYWHERE] * 6 == [part.allowed_in for part in everywhere]
    assert [WORKSHOP, WORKSHOP] == [provider.allowed_in, cache.allowed_in]
    production = frozenset({Environment.PRODUCTION})
    assert production == FakeProvider(allowed_in=production).allowed_in == FakeCache(allowed_in=production).allowed_in


async def test_provider_answers_as_scripted() -> None:
    """It gives scripted texts, answers and errors in order, then texts of its own, and records each call."""
    provider = FakeProvider()
    call = provider.prepare(REQUEST, TEXT)
    whole = provider.answer(call, "whole")
    error = ProviderUnavailable("down")
    provider.script("text", whole, error)

    assert "text" == (await provider.send(call, timeout=1)).text
    assert whole is await provider.send(call, timeout=2)
    with pytest.raises(ProviderUnavailable) as caught:
        await provider.send(call, timeout=3)
    assert "answer 4" == (await provider.send(call, timeout=4)).text
    assert (error, [call] * 4, [1, 2, 3, 4]) == (caught.value, provider.calls, provider.timeouts)


async def test_provider_answers_never_repeat() -> None:
    """Unscripted answers differ in text and id."""
    provider = FakeProvider()
    call = provider.prepare(REQUEST, TEXT)
    answers = [await provider.send(call, timeout=1) for _ in range(3)]

    assert (3, 3) == (len({answer.text for answer in answers}), len({answer.response_id for answer in answers}))


async def test_provider_holds_calls() -> None:
    """A held call is in flight until released, and keeps the outcome that it had on arrival."""
    provider = FakeProvider()
    call = provider.prepare(REQUEST, TEXT)
    provider.script("first")
    provider.hold()
    sending = asyncio.create_task(provider.send(call, timeout=1))
    await provider.wait_for_calls(1)
    assert not sending.done()

    provider.release()

    assert "first" == (await sending).text


async def test_provider_describes_itself() -> None:
    """Name, endpoint and key are those given; what it prepares carries them and the whole conversation."""
    provider = FakeProvider("mine", endpoint="host", key_id="k1")
    call = provider.prepare(REQUEST, TEXT)

    assert ("mine", "host", "k1", "m") == (call.provider, call.endpoint, call.key_id, call.model)
    assert (call.provider, call.endpoint, call.key_id) == (provider.name, provider.endpoint, provider.key_id)
    assert b"Be fair." in call.body
    assert b"Which is better?" in call.body
    assert call == provider.prepare(REQUEST, TEXT)
    assert [True, True, False] == [provider.serves(call, served) for served in ("m", "m-2026", "mm")]
    assert not provider.freshness.unique_response_ids
    await provider.aclose()
    assert 1 == provider.closed


def test_breaker() -> None:
    """It replies as scripted, else with permits, counts those that are out, and records what it is told."""
    breaker = FakeBreaker()
    no = Rejection(CircuitState.OPEN, 3.0)
    breaker.script(no)

    assert no == breaker.acquire(KEY)
    permits = [permit for _ in range(4) if isinstance(permit := breaker.acquire(KEY), Permit)]
    breaker.success(permits[0])
    breaker.failure(permits[1], Level.MODEL, retry_after=2.0)
    breaker.ignore(permits[2])

    assert ([permits[0]], [(permits[1], Level.MODEL, 2.0)]) == (breaker.successes, breaker.failures)
    assert ([permits[2]], 1, [KEY] * 5) == (breaker.ignored, breaker.out, breaker.acquired)
    assert CircuitState.CLOSED is breaker.snapshot(KEY).state


def test_breaker_announces_and_records_operators() -> None:
    """Listeners hear what is announced; forced and reset lanes are recorded."""
    breaker = FakeBreaker()
    heard: list[CircuitChange] = []
    breaker.subscribe(heard.append)
    change = CircuitChange("fake.test", LANE, CircuitState.CLOSED, CircuitState.OPEN, 15.0)

    breaker.announce(change)
    breaker.force_open(LANE)
    breaker.reset()

    assert ([change], [LANE], [None]) == (heard, breaker.forced, breaker.resets)


def test_limiter() -> None:
    """It delays as scripted, then not, and records who asked and what was penalised."""
    limiter = FakeLimiter()
    limiter.script(1.5)
    limiter.penalise(KEY, 7.0)

    assert [1.5, 0.0] == [limiter.delay(KEY), limiter.delay(KEY)]
    assert ([KEY, KEY], [(KEY, 7.0)]) == (limiter.asked, limiter.penalties)


async def test_cache() -> None:
    """It gives back what was put until it is cleared."""
    cache = FakeCache()
    await cache.put("k", b"v")

    assert (b"v", None) == (await cache.get("k"), await cache.get("other"))
    assert 1 == await cache.clear()
    assert {} == cache.entries


async def test_publisher_fails_as_often_as_asked() -> None:
    """It refuses as often as told, with the error given, then acknowledges."""
    publisher = FakePublisher()
    publisher.fail(1)
    publisher.fail(1, TimeoutError())

    for error in (ConnectionError, TimeoutError):
        with pytest.raises(error):
            await publisher.publish(EVENT)
    await publisher.publish(EVENT)

    assert ([EVENT], [EVENT, EVENT]) == (publisher.events, publisher.refused)


async def test_sink() -> None:
    """It records receipts, and raises while it has an error."""
    sink = FakeSink()
    await sink.write(RECEIPT)
    sink.error = ConnectionError()

    with pytest.raises(ConnectionError):
        await sink.write(RECEIPT)
    assert [RECEIPT] == sink.receipts


def test_observer() -> None:
    """It records observations."""
    observer = FakeObserver()
    noted = Observation(kind=ObservationKind.CALL, provider="fake", model="m")

    observer.observe(noted)

    assert [noted] == observer.observations


async def test_codec_binds_to_the_ticket() -> None:
    """What is sealed is unreadable, opens for its own ticket, and for no other."""
    codec = FakeCodec()
    sealed = await codec.seal(b"an essay", tenant="a", ticket_id="t", kind="payload")

    assert codec.sealed
    assert b"essay" not in sealed
    assert b"an essay" == await codec.open(sealed, tenant="a", ticket_id="t", kind="payload")
    for other in (("b", "t", "payload"), ("a", "u", "payload"), ("a", "t", "result")):
        with pytest.raises(QueueError, match="do not belong"):
            await codec.open(sealed, tenant=other[0], ticket_id=other[1], kind=other[2])


async def test_doubles_need_no_test_runner() -> None:
    """The doubles and the simulated provider import neither pytest nor hypothesis nor a vendor's SDK."""
    code = (
        "import sys, llm_gateway.testing.fakes, llm_gateway.testing.simulated\n"
        "print(sorted({'pytest', 'hypothesis', 'openai', 'anthropic'} & set(sys.modules)))"
    )
    done = await anyio.run_process([sys.executable, "-c", code])

    assert b"[]\n" == done.stdout
