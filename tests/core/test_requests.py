"""A request that cannot be sent is refused where it is made, in words that quote nothing of it."""

from __future__ import annotations

import math
import traceback
from datetime import timedelta

import pytest
from pydantic import ValidationError

from llm_gateway import LLMRequest, Message, Priority
from llm_gateway._core.requests import DEFAULT_TTL, MAX_TTL
from llm_gateway.errors import InvalidRequest

CANARY = "the quiet heron folded seven umbrellas"


def made(**changes: object) -> LLMRequest:
    """Make a good request with some fields changed."""
    good: dict[str, object] = {"provider": "p", "model": "m", "prompt": CANARY, "metadata": {"note": CANARY}}
    return LLMRequest.model_validate(good | changes)


def cyclic() -> dict[str, object]:
    """Make metadata that holds itself."""
    metadata: dict[str, object] = {}
    metadata["self"] = metadata
    return metadata


def deep(levels: int) -> object:
    """Make a list in a list in a list."""
    value: object = CANARY
    for _ in range(levels):
        value = [value]
    return value


TURN = Message.user(CANARY)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": ""},
        {"prompt": " \n\t\u3000"},
        {"prompt": None},
        {"prompt": None, "messages": ()},
        {"messages": (TURN,)},
        {"prompt": None, "messages": (TURN,), "system": CANARY},
        {"prompt": None, "messages": (Message.system(CANARY),)},
        {"prompt": None, "messages": (Message.user("  "), Message.assistant(CANARY))},
        {"prompt": None, "messages": (CANARY,)},
        {"prompt": "\ud800" + CANARY},
        {"prompt": CANARY.encode("utf-16")},
        {"system": "  "},
        {"provider": ""},
        {"provider": CANARY * 100},
        {"model": "m\n" + CANARY},
        {"model": None},
        {"max_output_tokens": 0},
        {"max_output_tokens": 10**9},
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"temperature": math.nan},
        {"temperature": CANARY},
        {"reasoning_effort": CANARY},
        {"verbosity": CANARY},
        {"seed": 2**63},
        {"seed": -(10**5000)},
        {"sample": -1},
        {"sample": 2**63},
        {"priority": CANARY},
        {"ttl": timedelta(0)},
        {"ttl": -1},
        {"ttl": MAX_TTL + timedelta(microseconds=1)},
        {"ttl": timedelta.max},
        {"ttl": math.nan},
        {"ttl": math.inf},
        {"ttl": 1e300},
        {"ttl": CANARY},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 256},
        {"group": "\x00"},
        {"subjects": ("",)},
        {"subjects": CANARY},
        {"correlation_id": CANARY + "\x1f"},
        {"callback_topic": 7},
        {"metadata": {CANARY: math.nan}},
        {"metadata": {"a": [{"b": math.inf}]}},
        {"metadata": {CANARY: object()}},
        {"metadata": {CANARY: b"bytes"}},
        {"metadata": {CANARY: (1, 2)}},
        {"metadata": {7: CANARY}},
        {"metadata": {CANARY: "\ud800"}},
        {"metadata": {"\ud800": CANARY}},
        {"metadata": {CANARY: 10**5000}},
        {"metadata": {CANARY: deep(198)}},
        {"metadata": {CANARY: deep(5_000)}},
        {"metadata": cyclic()},
        {"metadata": CANARY},
        {"trace_context": {"traceparent": CANARY + "\n"}},
        {"trace_context": {"traceparent": 7}},
        {"trace_context": {"": CANARY}},
        {"trace_context": {f"k{number}": CANARY for number in range(17)}},
        {"trace_context": {"baggage": "x" * 8193}},
        {CANARY: CANARY},
        {"promt": CANARY},
    ],
    ids=lambda changes: ",".join(key.replace(CANARY, "canary") for key in changes),
)
def test_refused(changes: dict[str, object]) -> None:
    """What cannot be sent or stored is an invalid request that quotes nothing of it, in no form."""
    with pytest.raises(InvalidRequest) as caught:
        made(**changes)
    error = caught.value
    shown = f"{error!s}{error!r}{error.info!r}{''.join(traceback.format_exception(error))}"
    assert CANARY not in shown
    assert len(str(error)) < 2_000


def test_constructor_refuses_too() -> None:
    """The constructor raises the same typed error as validation does."""
    with pytest.raises(InvalidRequest):
        LLMRequest(provider="p", model="m")
    with pytest.raises(InvalidRequest):
        LLMRequest(provider="p", model="m", prompt="")


def test_not_a_request() -> None:
    """Something that is no request at all is refused alike."""
    with pytest.raises(InvalidRequest) as caught:
        LLMRequest.model_validate(CANARY)
    assert CANARY not in str(caught.value)


def test_names_the_field() -> None:
    """The message names each bad field and its rule."""
    with pytest.raises(InvalidRequest) as caught:
        made(ttl=-1, temperature=9)
    assert "temperature: Input should be less than or equal to 2" in caught.value.message
    assert "ttl: Input should be greater than 0 seconds" in caught.value.message


@pytest.mark.parametrize("error", ["give either prompt or messages", "at least one user message"])
def test_says_what_is_wrong_with_the_conversation(error: str) -> None:
    """A conversation that cannot be had is refused with the reason."""
    messages = () if "either" in error else (Message.system("Be fair."),)
    with pytest.raises(InvalidRequest, match=error):
        made(prompt=None, messages=messages)


def test_defaults() -> None:
    """What is not said is left to the provider, and a request waits three and a half hours at most."""
    request = LLMRequest(provider="p", model="m", prompt="p")
    assert (request.temperature, request.seed, request.ttl, request.priority) == (None, None, DEFAULT_TTL, None)


def test_ttl_in_seconds() -> None:
    """A ttl may be given in seconds."""
    assert made(ttl=90).ttl == timedelta(seconds=90)


def test_conversation() -> None:
    """System text and prompt make the conversation that messages would."""
    request = LLMRequest(provider="p", model="m", system="Be fair.", prompt="Which?")
    assert request.conversation == (Message.system("Be fair."), Message.user("Which?"))
    turns = (Message.user("Which?"), Message.assistant("A."), Message.user("Why?"))
    assert LLMRequest(provider="p", model="m", messages=turns).conversation == turns


def test_large_prompt() -> None:
    """A prompt of some megabytes is a request; what is too large is decided where it is sent."""
    assert len(made(prompt="x" * 5_000_000).prompt or "") == 5_000_000


def test_frozen() -> None:
    """A request cannot be changed once made."""
    request = made()
    with pytest.raises(ValidationError):
        request.prompt = "other"


def test_repr_hides_content() -> None:
    """Neither prompt, system text, messages nor metadata are in the repr."""
    turns = made(prompt=None, messages=(TURN,))
    assert CANARY not in f"{made(system=CANARY)!r}{made()!s}{turns!r}"


def test_weights() -> None:
    """Live work has a hundred times the share of a batch, interactive work ten times."""
    assert {priority.value: priority.weight for priority in Priority} == {"live": 100, "interactive": 10, "batch": 1}
