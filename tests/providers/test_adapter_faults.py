"""What the adapters make of the transport's own faults, and what the frames of their errors show."""

from __future__ import annotations

import traceback
from typing import Final

import pytest
from pydantic import SecretStr
from tests.providers.vendors import KEY, PROMPT, SECONDS, adapter, answer, request

from llm_gateway._core.responses import ProviderAnswer
from llm_gateway._core.schema import TEXT
from llm_gateway._facts import Fault, Sent
from llm_gateway.errors import (
    ConfigurationError,
    LLMGatewayError,
    MalformedResponse,
    ProviderUnavailable,
    ResponseTooLarge,
)
from llm_gateway.providers.anthropic import AnthropicProvider
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.testing import Faults, SimulatedProvider
from llm_gateway.testing.faults import SimulatedFault

VENDORS: Final = pytest.mark.parametrize("vendor", ["openai", "anthropic"])
SOON: Final = 0.3
LARGE: Final = 17 * 1024 * 1024


async def failure(vendor: str, sim: SimulatedProvider, *, timeout: float = SECONDS) -> LLMGatewayError:
    """Ask once and return the error."""
    async with adapter(vendor, sim) as provider:
        call = provider.prepare(request(vendor), TEXT)
        with pytest.raises(LLMGatewayError) as caught:
            await provider.send(call, timeout=timeout)
        info = caught.value.info
        assert (vendor, call.endpoint, call.model, call.key_id) == (
            info.provider,
            info.endpoint,
            info.model,
            info.key_id,
        )
    return caught.value


@VENDORS
@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Faults.RESET, (ProviderUnavailable, Fault.DISCONNECTED)),
        (Faults.CLOSED, (ProviderUnavailable, Fault.DISCONNECTED)),
        (Faults.RESET_IN_BODY, (MalformedResponse, Fault.MALFORMED)),
        (Faults.SHORT_BODY, (MalformedResponse, Fault.MALFORMED)),
        (Faults.CHUNKED_CUT, (MalformedResponse, Fault.MALFORMED)),
        (Faults.UNFRAMED_CUT, (MalformedResponse, Fault.MALFORMED)),
        (Faults.BAD_STATUS_LINE, (MalformedResponse, Fault.MALFORMED)),
        (Faults.GARBAGE, (MalformedResponse, Fault.MALFORMED)),
        (Faults.BAD_UTF8, (MalformedResponse, Fault.MALFORMED)),
        (Faults.CORRUPT_GZIP, (MalformedResponse, Fault.MALFORMED)),
        (Faults.giant_header(), (MalformedResponse, Fault.MALFORMED)),
        (Faults.gzip_bomb(LARGE), (ResponseTooLarge, Fault.RESPONSE_TOO_LARGE)),
        (Faults.ERROR_UNDER_200, (ProviderUnavailable, Fault.OVERLOADED)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_broken_replies(
    sim: SimulatedProvider, vendor: str, cause: SimulatedFault, expected: tuple[type[LLMGatewayError], Fault]
) -> None:
    """A reply that breaks off or cannot be read is an error of its class, after a request sent in full."""
    sim.script(cause)

    error = await failure(vendor, sim)

    assert (*expected, Sent.YES) == (type(error), error.fault, error.info.sent)


@VENDORS
@pytest.mark.parametrize(
    "cause",
    [Faults.HANG, Faults.HANG_IN_BODY, Faults.slow_headers(), Faults.slow_body()],
    ids=lambda cause: cause.name,
)
async def test_replies_that_do_not_end(sim: SimulatedProvider, vendor: str, cause: SimulatedFault) -> None:
    """A reply that is not complete in time is a timeout after a request that may be billed."""
    sim.script(cause)

    error = await failure(vendor, sim, timeout=SOON)

    assert (Fault.READ_TIMEOUT, Sent.YES) == (error.fault, error.info.sent)


@VENDORS
async def test_refused_connections(sim: SimulatedProvider, vendor: str) -> None:
    """Where no connection is made, nothing was sent."""
    sim.outage(Faults.REFUSED)

    error = await failure(vendor, sim)

    assert (ProviderUnavailable, Fault.CONNECT, Sent.NO) == (type(error), error.fault, error.info.sent)


@VENDORS
async def test_stale_connection(sim: SimulatedProvider, vendor: str) -> None:
    """A kept connection that the provider closes just then is told from an outage, and the next call is answered."""
    sim.script(Faults.STALE_KEEP_ALIVE)
    async with adapter(vendor, sim) as provider:
        await answer(provider, request(vendor))
        with pytest.raises(ProviderUnavailable) as caught:
            await answer(provider, request(vendor))
        assert Fault.STALE_CONNECTION is caught.value.fault
        await answer(provider, request(vendor))

    assert 2 == len(sim.response_ids)


@VENDORS
async def test_answers_that_only_look_odd(sim: SimulatedProvider, vendor: str) -> None:
    """Zero usage, an old date and a mark of a cache are facts of an answer, for others to judge."""
    marks = {"X-Cache": "HIT"}
    sim.script(Faults.ZERO_USAGE, Faults.OLD_CREATED, Faults.marked(marks), Faults.CONTENT_FILTER)
    async with adapter(vendor, sim) as provider:
        zero, old, marked, filtered = [await answer(provider, request(vendor)) for _ in range(4)]

    assert (0, 0, True) == (zero.usage.input_tokens, zero.usage.output_tokens, zero.usage_counted)
    assert [vendor == "openai", "HIT"] == [is_old(old), marked.headers["x-cache"]]
    assert {"openai": "content_filter", "anthropic": "refusal"}[vendor] == filtered.finish_reason


def is_old(given: ProviderAnswer) -> bool:
    """Whether an answer says it was made long before it was asked for."""
    return given.created is not None and (given.sent_at - given.created).total_seconds() > 60


@VENDORS
@pytest.mark.parametrize(
    "cause",
    [
        Faults.RESET,
        Faults.status(500, f"<html>{PROMPT} {KEY}</html>".encode()),
        Faults.status(400, {"error": {"message": f"{PROMPT} {KEY}", "type": "invalid_request_error"}}),
        Faults.status(200, {"error": {"message": f"{PROMPT} {KEY}", "type": "overloaded_error"}}),
        Faults.status(200, {"choices": [{"message": {"content": [PROMPT]}}], "content": PROMPT}),
        Faults.status(200, f"{PROMPT} {KEY}".encode()),
    ],
    ids=["reset", "html", "refusal", "under 200", "wrong shape", "no JSON"],
)
async def test_frames_show_nothing(sim: SimulatedProvider, vendor: str, cause: SimulatedFault) -> None:
    """A traceback with all local variables shows neither key, nor prompt, nor what the vendor quoted of them."""
    sim.script(cause)
    async with adapter(vendor, sim) as provider:
        call = provider.prepare(request(vendor), TEXT)
        with pytest.raises(LLMGatewayError) as caught:
            await provider.send(call, timeout=SECONDS)

    assert [] == leaks(caught.value)


@pytest.mark.parametrize("kind", [OpenAIProvider, AnthropicProvider])
def test_frames_of_a_bad_key_show_nothing(kind: type[OpenAIProvider | AnthropicProvider]) -> None:
    """A key that cannot be sent is in no local variable of the error that says so."""
    with pytest.raises(ConfigurationError) as caught:
        kind(SecretStr(f"{KEY} and a space"))

    assert [] == leaks(caught.value)


def leaks(error: BaseException) -> list[str]:
    """Return the lines of a full traceback, local variables included, that show a key or a prompt.

    The first frame is the test's own, which may hold what it likes.
    """
    trace = traceback.TracebackException.from_exception(error, capture_locals=True)
    del trace.stack[0]
    shown = [line for part in trace.format() for line in part.splitlines()]
    return [line for line in shown if KEY in line or "canary sang" in line]
