"""Everything that can go wrong between a client and a provider, each under a name.

A fault decides, before anything is sent, which steps the simulated provider takes in place of an ordinary reply.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import Final

from pydantic import JsonValue

from llm_gateway.testing._sim_http import Close, CloseWhenReused, Hold, HttpReply, Pause, Reset, Send, Step
from llm_gateway.testing._sim_shapes import Answer, Vendor, VendorError

__all__ = ["ORDINARY", "Exchange", "Faults", "Plan", "SimulatedFault"]

MIB: Final = 1024 * 1024
HALF: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One call and what it would ordinarily get.

    Attributes:
        vendor: Whose protocol is spoken.
        answer: The ordinary answer.
        reply: Writes an answer as an HTTP reply.
        refuse: Writes an error as an HTTP reply.
        earlier: The latest ordinary reply of this vendor before, and its answer's id.
    """

    vendor: Vendor
    answer: Answer
    reply: Callable[[Answer], HttpReply] = field(repr=False)
    refuse: Callable[[VendorError], HttpReply] = field(repr=False)
    earlier: tuple[HttpReply, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done about one call.

    Attributes:
        steps: Played in order.
        response_id: Id of the answer that the client can read, if it can read one.
        repeatable: What a later replay repeats: the reply, and its answer's id.
    """

    steps: tuple[Step, ...]
    response_id: str | None = None
    repeatable: tuple[HttpReply, str] | None = None


@dataclass(frozen=True, slots=True)
class SimulatedFault:
    """One way of not answering as one should.

    Attributes:
        name: Shown in the log of calls.
        plan: Decides the steps for one call.
        refuses: True when connections are refused, so that no call arrives at all.
    """

    name: str
    plan: Callable[[Exchange], Plan] = field(repr=False, compare=False)
    refuses: bool = False


def _wire(name: str, make: Callable[[HttpReply], tuple[Step, ...]]) -> SimulatedFault:
    return SimulatedFault(name, lambda exchange: Plan(make(exchange.reply(exchange.answer))))


def _body(name: str, make: Callable[[bytes], bytes], *headers: tuple[str, str]) -> SimulatedFault:
    def steps(good: HttpReply) -> tuple[Step, ...]:
        return (Send(HttpReply(200, make(good.body), good.headers).adding(headers).encode()),)

    return _wire(name, steps)


def _answered(name: str, change: Callable[[Exchange], Answer]) -> SimulatedFault:
    def plan(exchange: Exchange) -> Plan:
        answer = change(exchange)
        return Plan((Send(exchange.reply(answer).encode()),), answer.id)

    return SimulatedFault(name, plan)


def _error(name: str, openai: VendorError, anthropic: VendorError, *headers: tuple[str, str]) -> SimulatedFault:
    def plan(exchange: Exchange) -> Plan:
        error = openai if exchange.vendor is Vendor.OPENAI else anthropic
        return Plan((Send(exchange.refuse(error).adding(headers).encode()),))

    return SimulatedFault(name, plan)


def _drip(data: bytes, seconds: float) -> tuple[Step, ...]:
    return tuple(step for byte in data for step in (Send(bytes((byte,))), Pause(seconds)))


def _split(good: HttpReply) -> tuple[bytes, bytes]:
    return good.head(("Content-Length", str(len(good.body)))), good.body


def _half(body: bytes) -> bytes:
    return body[: len(body) // HALF]


@lru_cache(maxsize=2)
def _bomb(size: int) -> bytes:
    return gzip.compress(b" " * size, compresslevel=1, mtime=0)


def _not_a_number(body: bytes) -> bytes:
    written = json.loads(body)
    written["usage"] = dict.fromkeys(written["usage"], float("nan"))
    return json.dumps(written).encode()


def _ordinary(exchange: Exchange) -> Plan:
    reply = exchange.reply(exchange.answer)
    return Plan((Send(reply.encode()),), exchange.answer.id, (reply, exchange.answer.id))


ORDINARY: Final = SimulatedFault("ok", _ordinary)


def _under_200(exchange: Exchange) -> Plan:
    error = VendorError(200, "overloaded_error", "The server is overloaded.", "server_is_overloaded")
    return Plan((Send(exchange.refuse(error).encode()),))


def _in_vendor(openai: str, anthropic: str, *, text: str | None = None) -> Callable[[Exchange], Answer]:
    def change(exchange: Exchange) -> Answer:
        finish = openai if exchange.vendor is Vendor.OPENAI else anthropic
        return replace(exchange.answer, finish=finish, text=exchange.answer.text if text is None else text)

    return change


def _refusal(exchange: Exchange) -> Answer:
    if exchange.vendor is Vendor.OPENAI:
        return replace(exchange.answer, refusal="I cannot help with that.")
    return replace(exchange.answer, text="", finish="refusal")


def _cut(exchange: Exchange) -> Answer:
    return replace(_in_vendor("length", "max_tokens")(exchange), text=exchange.answer.text[:5])


def _without_usage(exchange: Exchange) -> Answer:
    return replace(exchange.answer, prompt_tokens=0, completion_tokens=0)


def _dated(exchange: Exchange) -> Answer:
    return replace(exchange.answer, created=exchange.answer.created - timedelta(hours=1))


ERROR_TYPES: Final[Mapping[int, tuple[str, str]]] = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("invalid_request_error", "authentication_error"),
    402: ("insufficient_quota", "billing_error"),
    403: ("invalid_request_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    413: ("invalid_request_error", "request_too_large"),
    429: ("requests", "rate_limit_error"),
    503: ("service_unavailable_error", "overloaded_error"),
    504: ("server_error", "timeout_error"),
    529: ("service_unavailable_error", "overloaded_error"),
}


class Faults:
    """The catalogue. Constants are faults; the functions make one with its particulars."""

    # The connection
    REFUSED: Final = SimulatedFault("refused", lambda _: Plan((Reset(),)), refuses=True)
    RESET: Final = _wire("reset", lambda _: (Reset(),))
    CLOSED: Final = _wire("closed before headers", lambda _: (Close(),))
    STALE_KEEP_ALIVE: Final = SimulatedFault(
        "stale keep-alive",
        lambda exchange: Plan((Send(exchange.reply(exchange.answer).encode()), CloseWhenReused()), exchange.answer.id),
    )
    HANG: Final = _wire("hang", lambda good: (Hold(), Send(good.encode())))
    HANG_IN_BODY: Final = _wire(
        "hang in body", lambda good: (Send(good.encode()[:-1]), Hold(), Send(good.encode()[-1:]))
    )
    RESET_IN_BODY: Final = _wire("reset in body", lambda good: (Send(good.encode()[:-1]), Pause(0), Reset()))

    # The framing
    SHORT_BODY: Final = _wire("short of content-length", lambda good: (Send(good.encode()[:-1]), Close()))
    CHUNKED_CUT: Final = _wire(
        "chunked cut",
        lambda good: (
            Send(good.head(("Transfer-Encoding", "chunked")) + b"%x\r\n%b\r\n" % (len(good.body), good.body)),
            Close(),
        ),
    )
    UNFRAMED_CUT: Final = _wire(
        "cut without length", lambda good: (Send(good.head(("Connection", "close")) + _half(good.body)), Close())
    )
    BAD_STATUS_LINE: Final = _wire("bad status line", lambda _: (Send(b"HTTP/1.1 9999 ???\r\n\r\n"), Close()))
    GARBAGE: Final = _wire("not HTTP", lambda _: (Send(b"\x00\x01 this is no HTTP \xff\r\n\r\n"), Close()))

    # The body
    INVALID_JSON: Final = _body("invalid JSON", _half)
    NAN: Final = _body("NaN in JSON", _not_a_number)
    BAD_UTF8: Final = _body("bad UTF-8", lambda body: body.replace(b'"id"', b'"caf\xc3": 0, "id"', 1))
    HTML: Final = _body(
        "HTML under 200", lambda _: b"<html>Log in to the network</html>", ("Content-Type", "text/html")
    )
    EMPTY: Final = _body("empty 200", lambda _: b"")
    WRONG_CONTENT_TYPE: Final = _body("wrong content type", lambda body: body, ("Content-Type", "text/plain"))
    WRONG_SHAPE: Final = _body("wrong shape", lambda _: b'{"ok": true}')
    CORRUPT_GZIP: Final = _body("corrupt gzip", lambda _: b"\x1f\x8b\x08garbage!!", ("Content-Encoding", "gzip"))
    ERROR_UNDER_200: Final = SimulatedFault("error under 200", _under_200)

    # The vendor's errors
    SERVER_ERROR: Final = _error(
        "server error",
        VendorError(500, "server_error", "The server had an error while processing your request."),
        VendorError(500, "api_error", "Internal server error"),
    )
    OVERLOADED: Final = _error(
        "overloaded",
        VendorError(503, "service_unavailable_error", "The server is overloaded.", "server_is_overloaded"),
        VendorError(529, "overloaded_error", "Overloaded"),
    )
    ACCELERATION: Final = _error(
        "acceleration",
        VendorError(429, "requests", "Slow down: increase your rate gradually.", "slow_down"),
        VendorError(429, "rate_limit_error", "Your rate rose too fast.", "ramp_limit_exceeded"),
    )
    QUOTA: Final = _error(
        "quota",
        VendorError(429, "insufficient_quota", "You exceeded your current quota.", "insufficient_quota"),
        VendorError(402, "billing_error", "There is an issue with your billing."),
    )
    SPEND_LIMIT: Final = _error(
        "spend limit",
        VendorError(429, "insufficient_quota", "The project reached its limit.", "project_spend_limit_exceeded"),
        VendorError(429, "rate_limit_error", "You have reached your spend limit.", "enforced_spend_limit_reached"),
    )
    CREDIT_TOO_LOW: Final = _error(
        "credit too low",
        VendorError(429, "insufficient_quota", "Your credit balance is used up.", "credit_balance_exhausted"),
        VendorError(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
    )
    BAD_KEY: Final = _error(
        "bad key",
        VendorError(401, "invalid_request_error", "Incorrect API key provided.", "invalid_api_key"),
        VendorError(401, "authentication_error", "invalid x-api-key"),
    )
    FORBIDDEN: Final = _error(
        "forbidden",
        VendorError(403, "invalid_request_error", "You have insufficient permissions.", "insufficient_permissions"),
        VendorError(403, "permission_error", "Your API key may not use the resource."),
    )
    MODEL_NOT_FOUND: Final = _error(
        "model not found",
        VendorError(404, "invalid_request_error", "The model does not exist.", "model_not_found"),
        VendorError(404, "not_found_error", "model: not found"),
    )
    CONTEXT_TOO_LONG: Final = _error(
        "context too long",
        VendorError(400, "invalid_request_error", "The maximum context length is 8192.", "context_length_exceeded"),
        VendorError(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
    )

    # The answer
    UNKNOWN_FINISH: Final = _answered("unknown finish reason", _in_vendor("tired", "tired"))
    REFUSAL: Final = _answered("refusal", _refusal)
    CONTENT_FILTER: Final = _answered("content filter", _in_vendor("content_filter", "refusal", text=""))
    LENGTH: Final = _answered("length", _cut)
    NO_TEXT: Final = _answered("no text", _in_vendor("length", "max_tokens", text=""))
    ZERO_USAGE: Final = _answered("zero usage", _without_usage)
    OLD_CREATED: Final = _answered("created an hour ago", _dated)
    UNKNOWN_FIELDS: Final = _answered(
        "unknown fields", lambda exchange: replace(exchange.answer, extra={"tomorrow": {"new": True}})
    )

    @staticmethod
    def status(code: int, body: JsonValue | bytes = None, headers: Mapping[str, str] | None = None) -> SimulatedFault:
        """Answer with a status: with the vendor's own error object, or with *body* (JSON, or bytes as they are)."""

        def plan(exchange: Exchange) -> Plan:
            openai, anthropic = ERROR_TYPES.get(code, ("server_error", "api_error"))
            kind = openai if exchange.vendor is Vendor.OPENAI else anthropic
            reply = exchange.refuse(VendorError(code, kind, f"Simulated status {code}"))
            if body is not None:
                raw = body if isinstance(body, bytes) else json.dumps(body).encode()
                reply = HttpReply(code, raw, reply.headers)
            return Plan((Send(reply.adding((headers or {}).items()).encode()),))

        return SimulatedFault(f"status {code}", plan)

    @staticmethod
    def rate_limited(retry_after: str | None = "1") -> SimulatedFault:
        """Answer 429, with Retry-After as given or, for ``None``, without one."""
        hint = () if retry_after is None else (("Retry-After", retry_after),)
        return _error(
            f"rate limited ({retry_after})",
            VendorError(429, "requests", "Rate limit reached.", "rate_limit_exceeded"),
            VendorError(429, "rate_limit_error", "This request would exceed your rate limit."),
            *hint,
        )

    @staticmethod
    def slow_headers(seconds: float = 0.15) -> SimulatedFault:
        """Send the head one byte at a time, that many seconds apart."""
        return _wire(f"slow headers ({seconds}s)", lambda good: (*_drip(_split(good)[0], seconds), Send(good.body)))

    @staticmethod
    def slow_body(seconds: float = 0.15) -> SimulatedFault:
        """Send the body one byte at a time, that many seconds apart."""
        return _wire(f"slow body ({seconds}s)", lambda good: (Send(_split(good)[0]), *_drip(good.body, seconds)))

    @staticmethod
    def gzip_bomb(size: int = 64 * MIB) -> SimulatedFault:
        """Send a small body that unpacks to *size* bytes."""
        return _body(f"gzip bomb ({size} bytes)", lambda _: _bomb(size), ("Content-Encoding", "gzip"))

    @staticmethod
    def giant_header(size: int = 200_000) -> SimulatedFault:
        """Send a header of *size* bytes."""
        return _body(f"giant header ({size} bytes)", lambda body: body, ("X-Giant", "g" * size))

    @staticmethod
    def redirect(location: str, code: int = 307) -> SimulatedFault:
        """Send the client elsewhere."""
        return Faults.status(code, b"", {"Location": location})

    @staticmethod
    def served_model(name: str) -> SimulatedFault:
        """Answer as another model."""
        return _answered(f"served model {name}", lambda exchange: replace(exchange.answer, model=name))

    @staticmethod
    def replay(headers: Mapping[str, str] | None = None) -> SimulatedFault:
        """Send the latest ordinary answer again, as a cache would, with *headers* such as ``X-Cache: HIT``.

        Where there was none before, this call's own answer is sent, and is what the next replay repeats.
        """

        def plan(exchange: Exchange) -> Plan:
            reply, identity = said = exchange.earlier or (exchange.reply(exchange.answer), exchange.answer.id)
            return Plan((Send(reply.adding((headers or {}).items()).encode()),), identity, said)

        return SimulatedFault("replay", plan)

    @staticmethod
    def marked(headers: Mapping[str, str]) -> SimulatedFault:
        """Send a fresh answer with *headers* added."""

        def plan(exchange: Exchange) -> Plan:
            reply = exchange.reply(exchange.answer).adding(headers.items())
            return Plan((Send(reply.encode()),), exchange.answer.id)

        return SimulatedFault(f"marked {', '.join(headers)}", plan)
