"""A key, a line of an essay and a line of an answer, unique each, are sent through every fault and looked for."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final, TypeVar

import pytest
from pydantic import BaseModel, JsonValue
from tests.faults.stage import MIB, VENDORS, Desk, Stage, opened, question

from llm_gateway import Completed, LLMClient, Pending
from llm_gateway.errors import InvalidOutput, LLMGatewayError
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.testing._sim_http import Close, Reset, Send
from llm_gateway.testing.faults import Plan, SimulatedFault

T = TypeVar("T")
KEY: Final = "sk-canary-7d1f09c2e6b84a35"
ESSAY: Final = "The heron of Skagen forgave the lighthouse nothing."
ANSWER: Final = "A juror in Visby weighed the amber twice."
# Pieces too: what is cut short or quoted in part is a leak all the same.
CANARIES: Final = (KEY, "7d1f09c2e6b84a35", ESSAY, "heron of Skagen", ANSWER, "juror in Visby")
LOGGERS: Final = ("", "llm_gateway", "httpx", "httpcore", "aiohttp", "aiohttp.client", "asyncio")
TIMEOUT: Final = 1.0
LONG: Final = 10.0
ECHO: Final = f"You sent {ESSAY} with {KEY} and would get {ANSWER}"
ECHO_ERROR: Final[JsonValue] = {"error": {"message": ECHO, "type": ECHO, "code": ECHO, "param": ECHO}}


class Verdict(BaseModel):
    """What is asked for, and what no prose is."""

    winner: int


def raw(name: str, data: str) -> SimulatedFault:
    """Send *data* in place of a reply."""
    return SimulatedFault(name, lambda _: Plan((Send(data.encode()), Close())))


CATALOGUE: Final = (
    *(fault for fault in vars(Faults).values() if isinstance(fault, SimulatedFault)),
    Faults.slow_headers(),
    Faults.slow_body(),
    Faults.giant_header(),
    Faults.gzip_bomb(4 * MIB),
    Faults.rate_limited("600"),
    Faults.rate_limited("99999999999"),
    Faults.served_model("another-model"),
    Faults.replay({"X-Cache": "HIT"}),
    Faults.marked({"Age": "7"}),
)
ECHOES: Final = (
    *(Faults.status(code, ECHO_ERROR) for code in (200, 400, 401, 402, 404, 409, 413, 429, 500, 503)),
    Faults.status(200, ECHO.encode()),
    Faults.status(502, f"<html>{ECHO}</html>".encode(), {"Content-Type": "text/html"}),
    Faults.status(429, ECHO_ERROR, {"Retry-After": ECHO}),
    Faults.status(307, b"", {"Location": f"https://{KEY}.example/{ESSAY}"}),
    Faults.served_model(ECHO),
    Faults.marked({"Content-Encoding": ECHO}),
    Faults.marked({"Content-Type": ECHO}),
    raw("echo in status line", f"HTTP/1.1 9999 {ECHO}\r\n\r\n"),
    raw("echo in header", f"HTTP/1.1 200 OK\r\n{ECHO}\r\n\r\n"),
    raw("echo in place of HTTP", ECHO),
    raw("echo in chunk size", f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{ECHO}\r\n"),
    SimulatedFault("echo and reset", lambda _: Plan((Send(ECHO.encode()), Reset()))),
)


class Ear(logging.Handler):
    """Keeps what every record says in any way: message, arguments, traceback."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(f"{record.name}: {self.format(record)} {record.args!r} {record.__dict__!r}")


@pytest.fixture
def ear() -> Iterator[Ear]:
    """Hear everything at DEBUG."""
    listening = Ear()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(listening)
    yield listening
    logging.getLogger().removeHandler(listening)
    for logger, level in before:
        logger.setLevel(level)


@contextmanager
def debugging() -> Generator[None]:
    """Let the event loop say all it can."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    yield
    loop.set_debug(False)


def said_by_error(error: BaseException) -> Iterator[str]:
    """Everything that shows when an error is printed, logged, formatted or sent elsewhere."""
    yield from (str(error), repr(error), repr(error.args), "".join(traceback.format_exception(error)))
    yield from (repr(link) for link in (error.__cause__, error.__context__))
    if isinstance(error, LLMGatewayError):
        yield from (repr(error.info), repr(vars(error)), repr(asdict(error.info)))
        yield pickle.dumps(error.info).decode("latin-1")


def said_by_outcome(outcome: Completed[T] | Pending) -> Iterator[str]:
    """Everything that shows of an outcome but the answer itself, which is asked for by name."""
    yield from (str(outcome), repr(outcome))
    if isinstance(outcome, Completed):
        yield from (repr(outcome.response), repr(asdict(outcome.response.receipt)))
    else:
        yield repr(asdict(outcome.ticket))


async def said_by_call(client: LLMClient, vendor: str, output_type: type[object] = str) -> list[str]:
    """Ask once and give all that shows of the outcome."""
    asked = question(vendor, prompt=f"Judge this: {ESSAY}")
    try:
        outcome = await client.complete(asked, output_type=output_type, timeout=TIMEOUT)
    except LLMGatewayError as error:
        return [str(asked), repr(asked), *said_by_error(error)]
    said = [*said_by_outcome(outcome)]
    if isinstance(outcome, Pending):
        said.append(repr(await client.status(outcome.ticket.id)))
    return said


async def said_by_stage(stage: Stage) -> list[str]:
    """Give all that shows of the client and its parts."""
    events = [shown for event in stage.events for shown in (repr(event), repr(asdict(event)))]
    parts = [repr(part) for part in (stage.client, stage.gate, stage.queue, *stage.providers)]
    return [*events, *parts, repr(stage.observer.observations), repr(await stage.client.health())]


def leaks(said: list[str]) -> list[str]:
    """Name each canary that shows, and show where."""
    return [f"{canary!r} in {text[:2000]}" for text in said for canary in CANARIES if canary in text]


async def test_the_ear_hears(ear: Ear) -> None:
    """What is logged anywhere is heard, or the other tests would prove nothing."""
    for name in LOGGERS:
        logging.getLogger(name).debug("%s", KEY)
    assert len(LOGGERS) == len([text for text in ear.heard if KEY in text])
    assert leaks([f"x {ESSAY} y"])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("queue", [True, False], ids=["queue", "no queue"])
async def test_success(ear: Ear, vendor: str, *, queue: bool) -> None:
    """A call that succeeds shows neither key nor essay nor answer."""
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim, opened(sim, Desk(queue=queue, key=KEY)) as stage:
        with debugging():
            said = await said_by_call(stage.client, vendor)
            completed = await stage.client.complete(question(vendor), timeout=TIMEOUT)
        assert isinstance(completed, Completed)
        assert ANSWER == completed.response.text
        assert [] == leaks([*said, *await said_by_stage(stage), *ear.heard])


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("fault", [*CATALOGUE, *ECHOES], ids=lambda fault: fault.name[:24])
async def test_every_fault(ear: Ear, fault: SimulatedFault, vendor: str) -> None:
    """No fault of a live call shows key, essay or answer, even if the provider sends them back."""
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim, opened(sim, Desk(key=KEY)) as stage:
        sim.outage(fault)
        with debugging():
            said = await said_by_call(stage.client, vendor)
        assert [] == leaks([*said, *await said_by_stage(stage), *ear.heard])


@pytest.mark.parametrize("fault", [*CATALOGUE, *ECHOES], ids=lambda fault: fault.name[:24])
async def test_every_fault_in_a_worker(ear: Ear, fault: SimulatedFault) -> None:
    """No fault of a queued call shows them either: not in its status, not in its events."""
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim, opened(sim, Desk(key=KEY)) as stage:
        sim.outage(fault)
        pending = await stage.client.submit(question(prompt=f"Judge this: {ESSAY}"))
        async with asyncio.timeout(LONG), stage.client.worker(concurrency=1, drain_timeout=LONG):
            await (stage.queue.wait_for_looks(3) if fault.refuses else sim.wait_for_calls(1))
        status = await stage.client.status(pending.ticket.id)
        said = [repr(pending), repr(status), repr(asdict(status)), *await said_by_result(stage, pending)]
        assert [] == leaks([*said, *await said_by_stage(stage), *ear.heard])


async def said_by_result(stage: Stage, pending: Pending) -> list[str]:
    """Fetch what became of a ticket and give all that shows of it."""
    try:
        return [*said_by_outcome(await stage.client.result(pending.ticket.id))]
    except LLMGatewayError as error:
        return [*said_by_error(error)]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_invalid_output(ear: Ear, vendor: str) -> None:
    """An answer that is not of the output type shows nothing of itself."""
    async with SimulatedProvider(answer=lambda _: ANSWER) as sim, opened(sim, Desk(key=KEY)) as stage:
        said = await said_by_call(stage.client, vendor, Verdict)
        assert any(InvalidOutput.__name__ in text for text in said)
        assert [] == leaks([*said, *await said_by_stage(stage), *ear.heard])
