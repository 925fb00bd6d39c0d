"""A key and a sentence of a prompt, pushed through every ending, show up nowhere but where they belong."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Final

import pytest
from pydantic import BaseModel, SecretStr
from tests.client.desk import Desk

from llm_gateway import LLMClient, LLMGatewayError, LLMRequest, TicketEvent
from llm_gateway._core.faults import ERROR_OF
from llm_gateway._facts import Fault, Masked, Sent
from llm_gateway._null import SystemClock
from llm_gateway.codecs.plain import PlainCodec
from llm_gateway.errors import ErrorInfo, ProviderError
from llm_gateway.protocols import Provider
from llm_gateway.providers.anthropic import AnthropicProvider
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.testing.faults import SimulatedFault

KEY: Final = "sk-canary-3f1e9c77d2"
SENTENCE: Final = "the quiet heron folded seven umbrellas"
ANSWER: Final = "nine violet kettles hummed at noon"
SECRETS: Final = (KEY, SENTENCE, ANSWER)
FAULTS: Final = [fault for fault in Fault if fault is not Fault.CANCELLED]


class Verdict(BaseModel):
    """What a judge says."""

    winner: str


class Trace:
    """Collects everything that is shown while a test runs."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def see(self, *things: object) -> None:
        """Note how things show themselves, errors with their tracebacks."""
        for thing in things:
            self.shown += [str(thing), repr(thing)]
            if isinstance(thing, BaseException):
                self.shown.append("".join(traceback.format_exception(thing)))
                self.see(vars(thing))

    def require_none(self) -> None:
        """Assert that no secret was shown."""
        leaks = [(secret, text[:400]) for secret in SECRETS for text in self.shown if secret in text]
        assert leaks == []


class Breaking(PlainCodec):
    """Gives back bytes that are no stored request, and quote one."""

    async def open(self, data: bytes, *, tenant: str, ticket_id: str, kind: str) -> bytes:
        """Cut the end off."""
        return data[:-5]


class Recording(logging.Handler):
    """Formats every record in full, as a log file would have it."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.NOTSET)
        self._trace = trace
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(args)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Note one record."""
        self._trace.shown.append(self.format(record))


@pytest.fixture
def trace() -> Iterator[Trace]:
    """Everything that is shown, logs of all libraries at DEBUG included."""
    trace, root = Trace(), logging.getLogger()
    recording, level = Recording(trace), root.level
    root.addHandler(recording)
    root.setLevel(logging.DEBUG)
    yield trace
    root.removeHandler(recording)
    root.setLevel(level)


@pytest.fixture
async def client(desk: Desk, trace: Trace) -> AsyncIterator[LLMClient]:
    """An open client whose events are watched."""

    def watch(event: TicketEvent) -> None:
        trace.see(event, event.receipt, event.error)

    async with LLMClient([desk.provider], desk.queue, desk.parts, on_event=watch) as opened:
        yield opened


@pytest.fixture
def question() -> LLMRequest:
    """A question whose every text is secret."""
    return LLMRequest(
        provider="fake", model="m-1", system=SENTENCE, prompt=SENTENCE, metadata={"note": SENTENCE}, correlation_id="c"
    )


def engine_of(client: LLMClient) -> object:
    """Return what carries out a client's calls."""
    return vars(client)["_engine"]


async def looked_at(trace: Trace, desk: Desk, client: LLMClient) -> None:
    """Show everything that can be shown of a client and what it did."""
    trace.see(client, vars(client), *map(vars, [engine_of(client)]), desk.queue, await client.health())
    trace.see(*desk.observer.observations, *desk.sink.receipts, *desk.provider.calls)
    for job in await desk.queue.list_jobs():
        status = await client.status(job.ticket_id)
        trace.see(job.error, job.history, status, status.ticket, status.error)
    trace.see(*asyncio.all_tasks())


def failure(fault: Fault) -> LLMGatewayError:
    """Make the error an adapter raises, with the vendor's text masked."""
    info = ErrorInfo(
        fault=fault,
        provider="fake",
        key_id="k",
        status=400,
        code="some_code",
        sent=Sent.YES,
        detail=Masked(f"you sent {SENTENCE} with {KEY}"),
    )
    return ERROR_OF.get(fault, ProviderError)("The vendor said no.", info=info)


def test_it_would_find_one(trace: Trace) -> None:
    """The search itself finds what a careless log line or error shows."""
    logging.getLogger("llm_gateway").warning("answer was %s", ANSWER)
    trace.see(ValueError(SENTENCE))
    with pytest.raises(AssertionError):
        trace.require_none()


async def test_success(trace: Trace, desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """A result shows neither prompt nor answer unless it is asked for them."""
    desk.provider.script(ANSWER)
    outcome = await client.complete(question)
    trace.see(outcome, question)
    await looked_at(trace, desk, client)
    trace.require_none()


@pytest.mark.parametrize("fault", FAULTS)
async def test_faults(trace: Trace, desk: Desk, client: LLMClient, question: LLMRequest, *, fault: Fault) -> None:
    """No fault of a live call shows a secret, as a ticket or as an error."""
    desk.provider.script(*[failure(fault) for _ in range(8)])
    for asking in (client.complete(question), client.complete(question, when_unavailable="raise")):
        task = asyncio.ensure_future(asking)
        await desk.clock.run_for(60.0)
        try:
            trace.see(await task)
        except LLMGatewayError as error:
            trace.see(error)
    await looked_at(trace, desk, client)
    trace.require_none()


@pytest.mark.parametrize("fault", FAULTS)
async def test_worker_faults(
    trace: Trace, desk: Desk, client: LLMClient, question: LLMRequest, *, fault: Fault
) -> None:
    """No fault of a queued request shows a secret, in its ticket, its events or the log."""
    desk.provider.script(*[failure(fault) for _ in range(8)])
    pending = await client.submit(question)
    trace.see(pending)
    async with client.worker():
        await desk.clock.run_for(5.0)
        try:
            trace.see(await client.result(pending.ticket.id))
        except LLMGatewayError as error:
            trace.see(error)
        await looked_at(trace, desk, client)
    trace.require_none()


@pytest.mark.parametrize(
    "answer", [ANSWER, f'{{"{ANSWER}": 1}}', f'{{"winner": ["{ANSWER}"]}}', f'{{"winner": "{ANSWER}'], ids=range(4)
)
async def test_invalid_output(
    trace: Trace, desk: Desk, client: LLMClient, question: LLMRequest, *, answer: str
) -> None:
    """An answer that is not valid is shown neither by the live call nor by the worker that refuses it."""
    desk.provider.script(answer, answer)
    with pytest.raises(LLMGatewayError) as caught:
        await client.complete(question, output_type=Verdict)
    trace.see(caught.value)
    pending = await client.submit(question, output_type=Verdict)
    async with client.worker():
        with pytest.raises(LLMGatewayError) as failed:
            await client.result(pending.ticket.id, output_type=Verdict, timeout=5)
    trace.see(failed.value)
    await looked_at(trace, desk, client)
    trace.require_none()


async def test_foreign_code(trace: Trace, desk: Desk, client: LLMClient, question: LLMRequest) -> None:
    """Whatever an adapter, a sink or a handler raises is told by its class alone."""
    desk.sink.error = OSError(f"could not write {SENTENCE}")
    desk.provider.script(ANSWER, RuntimeError(f"{SENTENCE} {KEY}"), ValueError(ANSWER), KeyError(SENTENCE))
    trace.see(await client.complete(question), await client.complete(question))
    with pytest.raises(LLMGatewayError) as caught:
        await client.complete(question, when_unavailable="raise")
    trace.see(caught.value)
    async with client.worker():
        await desk.clock.run_for(5.0)
    await looked_at(trace, desk, client)
    trace.require_none()


async def test_failing_handler(trace: Trace, desk: Desk, question: LLMRequest) -> None:
    """A handler that raises what it was given does not put it in the log."""

    def raise_it(event: TicketEvent) -> None:
        raise ValueError(str(event.metadata))

    async with LLMClient([desk.provider], desk.queue, desk.parts, on_event=raise_it) as client:
        await client.submit(question)
        await desk.clock.run_for(5.0)
    assert any("failed with ValueError" in text for text in trace.shown)
    trace.require_none()


async def test_damaged_payload(trace: Trace, desk: Desk, question: LLMRequest) -> None:
    """A stored request that cannot be read fails its ticket without being quoted."""
    async with desk.client() as client:
        ticket = (await client.submit(question)).ticket.id
        codec = Breaking()
        parts = replace(desk.parts, codec=codec)
        async with LLMClient([desk.provider], desk.queue, parts) as other, other.worker():
            await desk.clock.run_for(5.0)
        with pytest.raises(LLMGatewayError) as caught:
            await client.result(ticket)
        trace.see(caught.value)
        await looked_at(trace, desk, client)
    assert desk.provider.calls == []
    trace.require_none()


@pytest.mark.parametrize("vendor", ["openai", "anthropic"])
@pytest.mark.parametrize(
    "fault",
    [
        Faults.BAD_KEY,
        Faults.SERVER_ERROR,
        Faults.INVALID_JSON,
        Faults.WRONG_SHAPE,
        Faults.HTML,
        Faults.RESET,
        Faults.QUOTA,
    ],
    ids=lambda fault: fault.name,
)
async def test_over_http(trace: Trace, desk: Desk, question: LLMRequest, *, vendor: str, fault: SimulatedFault) -> None:
    """Nothing leaks over real HTTP either, where every library logs at DEBUG what it does."""
    model = "gpt-5-mini" if vendor == "openai" else "claude-haiku-4-5"
    asked = question.model_copy(update={"provider": vendor, "model": model})
    async with SimulatedProvider() as sim:
        providers: list[Provider] = [
            OpenAIProvider(SecretStr(KEY), base_url=sim.openai_url),
            AnthropicProvider(SecretStr(KEY), base_url=sim.anthropic_url),
        ]
        sim.outage(fault)
        async with LLMClient(providers, desk.queue, replace(desk.parts, clock=SystemClock())) as client:
            for asking in (
                client.complete(asked, timeout=5),
                client.complete(asked, timeout=5, when_unavailable="raise"),
            ):
                try:
                    trace.see(await asking)
                except LLMGatewayError as error:
                    trace.see(error)
            sim.recover()
            trace.see(*providers)
            await looked_at(trace, desk, client)
        assert sim.calls
    trace.require_none()
