"""A provider that runs on loopback: real HTTP, the vendors' reply shapes, and every fault on request.

::

    async with SimulatedProvider() as sim:
        client = LLMClient(...)                  # with base URL sim.openai_url or sim.anthropic_url
        sim.script(Faults.OVERLOADED)            # the next call
        sim.outage(Faults.REFUSED)               # every call, until
        sim.recover()
"""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, Self, cast

from pydantic import JsonValue

from llm_gateway._facts import MASK
from llm_gateway._null import SystemClock
from llm_gateway.protocols import Clock
from llm_gateway.testing._sim_http import HOST, HttpReply, HttpRequest, LoopbackServer, Pause, Send, Stage, Step
from llm_gateway.testing._sim_judge import Answerer, BradleyTerryJudge, UnanswerableQuestion, unique_answer
from llm_gateway.testing._sim_shapes import (
    SERVED,
    Answer,
    Question,
    Refused,
    Vendor,
    VendorError,
    answer_reply,
    error_reply,
    read_question,
    tokens_in,
)
from llm_gateway.testing.faults import ORDINARY, Exchange, Faults, Plan, SimulatedFault

__all__ = [
    "Answerer",
    "BradleyTerryJudge",
    "Faults",
    "Question",
    "SimulatedCall",
    "SimulatedFault",
    "SimulatedProvider",
    "UnanswerableQuestion",
    "Vendor",
]

ROUTES: Final[Mapping[str, Vendor]] = {"/v1/chat/completions": Vendor.OPENAI, "/v1/messages": Vendor.ANTHROPIC}
SECRET: Final = frozenset({"authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"})
ANSWER_IDS: Final[Mapping[Vendor, str]] = {Vendor.OPENAI: "chatcmpl-", Vendor.ANTHROPIC: "msg_01"}
KEY_MISSING: Final[Mapping[Vendor, VendorError]] = {
    Vendor.OPENAI: VendorError(401, "invalid_request_error", "You did not provide an API key."),
    Vendor.ANTHROPIC: VendorError(401, "authentication_error", "x-api-key header is required"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCall:
    """One call that arrived.

    Attributes:
        at: UTC time by the provider's clock.
        number: Its place among all calls, from 1.
        path: Path and query.
        vendor: Whose protocol it spoke.
        model: Model asked for; ``""`` when the body names none.
        body: The request's JSON; empty when it is none.
        headers: Header names in lower case; values of keys are masked.
        outcome: ``ok``, the name of the fault it met, or ``refused: …`` for a wrong request.
        response_id: Id of the answer that was sent in full.
    """

    at: datetime
    number: int
    path: str
    vendor: Vendor
    model: str
    body: Mapping[str, JsonValue] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    outcome: str = "ok"
    response_id: str | None = None


class SimulatedProvider:
    """OpenAI Chat Completions and Anthropic Messages on a port of 127.0.0.1, unary.

    Args:
        answer: Who answers: a `BradleyTerryJudge` or any function; by default a short text that never comes twice.
        latency: Seconds before a reply, or a function that gives them for a call.
        served_models: Snapshot that serves each alias, beside the well-known ones.
        clock: Time of log, replies and pauses; the machine's own by default.
        tls: Context to serve https with; ``None``: plain HTTP.
    """

    def __init__(
        self,
        *,
        answer: Answerer = unique_answer,
        latency: float | Callable[[SimulatedCall], float] = 0.0,
        served_models: Mapping[str, str] | None = None,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._answer = answer
        self._latency = latency
        self._served = {**SERVED, **(served_models or {})}
        self._clock = clock or SystemClock()
        self._scheme = "http" if tls is None else "https"
        self._script: deque[SimulatedFault] = deque()
        self._conditions: list[tuple[Callable[[SimulatedCall], bool], SimulatedFault]] = []
        self._outage: SimulatedFault | None = None
        self._calls: list[SimulatedCall] = []
        self._earlier: dict[Vendor, tuple[HttpReply, str]] = {}
        self._arrived = asyncio.Event()
        self._released = asyncio.Event()
        self._server = LoopbackServer(Stage(self._respond, self._clock.sleep, self._wait_released), tls=tls)

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.aclose()

    def __repr__(self) -> str:
        state = "ok" if self._outage is None else self._outage.name
        return f"SimulatedProvider(port={self._server.port}, calls={len(self._calls)}, state={state!r})"

    @property
    def openai_url(self) -> str:
        """Base URL for OpenAI clients."""
        return f"{self.anthropic_url}/v1"

    @property
    def anthropic_url(self) -> str:
        """Base URL for Anthropic clients."""
        return f"{self._scheme}://{HOST}:{self._server.port}"

    @property
    def calls(self) -> tuple[SimulatedCall, ...]:
        """Every call that arrived in full, oldest first."""
        return tuple(self._calls)

    @property
    def call_count(self) -> int:
        """How many calls arrived."""
        return len(self._calls)

    @property
    def response_ids(self) -> tuple[str, ...]:
        """Ids of the answers that were sent in full, repeats included."""
        return tuple(call.response_id for call in self._calls if call.response_id is not None)

    @property
    def outcomes(self) -> Counter[str]:
        """How many calls met which outcome."""
        return Counter(call.outcome for call in self._calls)

    def script(self, *faults: SimulatedFault | None) -> None:
        """Answer the next calls with these faults, in order; ``None`` is an ordinary answer.

        Raises:
            ValueError: for a fault that refuses connections, since no call arrives that it could answer.
        """
        if any(fault is not None and fault.refuses for fault in faults):
            reason = "refused connections are an outage: use outage(Faults.REFUSED)"
            raise ValueError(reason)
        self._script.extend(fault or ORDINARY for fault in faults)

    def outage(self, fault: SimulatedFault = Faults.OVERLOADED) -> None:
        """Meet every call with *fault* until `recover`. What is scripted still comes first."""
        self._outage = fault
        if fault.refuses:
            self._server.refuse()
        else:
            self._server.accept()

    def when(self, predicate: Callable[[SimulatedCall], bool], fault: SimulatedFault) -> None:
        """Meet the calls that *predicate* picks with *fault* until `recover`."""
        self._conditions.append((predicate, fault))

    def recover(self) -> None:
        """End outage, conditions and script. Calls that hang go on hanging until `release`."""
        self._outage = None
        self._conditions.clear()
        self._script.clear()
        self._server.accept()

    def release(self) -> None:
        """Let the calls that hang now have their answer."""
        self._released.set()
        self._released = asyncio.Event()

    async def wait_for_calls(self, count: int) -> None:
        """Return once *count* calls have arrived in all."""
        while len(self._calls) < count:
            await self._arrived.wait()

    async def _wait_released(self) -> None:
        await self._released.wait()

    def _respond(self, request: HttpRequest) -> tuple[Step, ...]:
        vendor = ROUTES.get(request.target.partition("?")[0])
        if vendor is None or request.method != "POST":
            lost = VendorError(404, "invalid_request_error", "Unknown request URL")
            return (Send(self._refuse(vendor or Vendor.OPENAI, lost).encode()),)
        call = self._read_call(vendor, request)
        plan, outcome = self._decide(call)
        seen = replace(call, outcome=outcome, response_id=plan.response_id)
        self._calls.append(seen)
        self._arrived.set()
        self._arrived = asyncio.Event()
        return (*self._wait(seen), *plan.steps)

    def _read_call(self, vendor: Vendor, request: HttpRequest) -> SimulatedCall:
        body = _json_object(request.body)
        return SimulatedCall(
            at=self._clock.now(),
            number=len(self._calls) + 1,
            path=request.target,
            vendor=vendor,
            model=str(body.get("model", "")),
            body=body,
            headers={name: MASK if name in SECRET else value for name, value in request.headers.items()},
        )

    def _decide(self, call: SimulatedCall) -> tuple[Plan, str]:
        try:
            answer = self._make_answer(call)
        except Refused as refused:
            return Plan((Send(self._refuse(call.vendor, refused.error).encode()),)), f"refused: {refused}"
        exchange = Exchange(
            vendor=call.vendor,
            answer=answer,
            reply=lambda given: answer_reply(call.vendor, given, _request_id(), self._clock.now()),
            refuse=lambda error: self._refuse(call.vendor, error),
            earlier=self._earlier.get(call.vendor),
        )
        fault = self._fault_for(call)
        plan = fault.plan(exchange)
        if plan.repeatable is not None:
            self._earlier[call.vendor] = plan.repeatable
        return plan, fault.name

    def _fault_for(self, call: SimulatedCall) -> SimulatedFault:
        if self._script:
            return self._script.popleft()
        picked = next((fault for predicate, fault in self._conditions if predicate(call)), None)
        return picked or self._outage or ORDINARY

    def _make_answer(self, call: SimulatedCall) -> Answer:
        if not SECRET & call.headers.keys():
            raise Refused(KEY_MISSING[call.vendor])
        question = read_question(call.vendor, dict(call.body), call.number)
        try:
            text = self._answer(question)
        except UnanswerableQuestion as error:
            raise Refused(VendorError(400, "invalid_request_error", str(error))) from None
        return Answer(
            text=text,
            id=ANSWER_IDS[call.vendor] + uuid.uuid4().hex,
            model=self._served.get(question.model, question.model),
            created=call.at,
            prompt_tokens=tokens_in(question.system + question.prompt),
            completion_tokens=tokens_in(text),
        )

    def _refuse(self, vendor: Vendor, error: VendorError) -> HttpReply:
        return error_reply(vendor, error, _request_id(), self._clock.now())

    def _wait(self, call: SimulatedCall) -> tuple[Step, ...]:
        seconds = self._latency(call) if callable(self._latency) else self._latency
        return (Pause(seconds),) if seconds > 0.0 else ()


def _request_id() -> str:
    return f"req_{uuid.uuid4().hex}"


def _json_object(body: bytes) -> dict[str, JsonValue]:
    try:
        read = cast("JsonValue", json.loads(body))
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
