"""What is no part is refused where the client is made, by the name of its argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Protocol, cast

import pytest
from tests.client.desk import Desk

from llm_gateway import ConfigurationError, Environment, LLMClient, Parts, Settings
from llm_gateway.options import HttpOptions, RetryOptions
from llm_gateway.protocols import Provider, QueueBackend
from llm_gateway.publishers.memory import MemoryPublisher
from llm_gateway.queues.memory import MemoryQueue
from llm_gateway.testing import FakeObserver, FakeProvider

JUNK: Final = object()


class Loose(Protocol):
    """A client's constructor for those who pay no heed to types."""

    def __call__(self, providers: object, queue: object = None, parts: object = None, **more: object) -> LLMClient:
        """Make a client."""
        ...


class LooseParts(Protocol):
    """The same for parts."""

    def __call__(self, **changes: object) -> Parts:
        """Make parts."""
        ...


loose = cast("Loose", LLMClient)
parts = partial(cast("LooseParts", Parts), environment=Environment.TESTING)


class Sulking(FakeProvider):
    """A provider that does not tell its name."""

    @property
    def name(self) -> str:
        """Raise."""
        message = "not today"
        raise RuntimeError(message)

    @name.setter
    def name(self, value: str) -> None:
        """Forget it."""


class Everywhere(FakeObserver):
    """An observer that names its environments in plain text."""

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """Testing."""
        return cast("frozenset[Environment]", frozenset({"testing"}))


MISFITS: Final[dict[str, tuple[Callable[[], object], str]]] = {
    "no providers": (lambda: loose(None), "providers is a list of Provider, not NoneType"),
    "one provider": (lambda: loose(FakeProvider()), "providers is a list of Provider, not FakeProvider"),
    "a text": (lambda: loose("openai"), "providers is a list of Provider, not str"),
    "a generator": (lambda: loose(iter([FakeProvider()])), "providers is a list of Provider, not list_iterator"),
    "a second provider": (lambda: loose([FakeProvider(), JUNK]), "providers[1] is a Provider, and object has no "),
    "a class": (lambda: loose([FakeProvider]), "providers[0] is a Provider, and FakeProvider is a class"),
    "a sulking provider": (lambda: loose([Sulking()]), "providers[0] is a Provider, and Sulking has no name"),
    "a queue": (lambda: loose([], JUNK), "queue is a QueueBackend, and object has no "),
    "parts": (lambda: loose([], None, JUNK), "parts is a Parts, not object"),
    "a function of events": (lambda: loose([], on_event=5), "on_event is a function of one event, and int cannot"),
    "settings": (lambda: LLMClient.from_settings(cast("Settings", 5)), "settings is a Settings, not int"),
    "a clock": (lambda: loose([], None, parts(clock=5)), "parts.clock is a Clock, and int has no "),
    "a publisher": (
        lambda: loose([], None, parts(publisher=MemoryPublisher)),
        "parts.publisher is a EventPublisher, and MemoryPublisher is a class",
    ),
    "options": (lambda: loose([], None, parts(http=RetryOptions())), "parts.http is a HttpOptions, not RetryOptions"),
    "chance": (lambda: loose([], None, parts(random=0.5)), "parts.random is a function without arguments, not float"),
}


@pytest.mark.parametrize(("make", "told"), MISFITS.values(), ids=MISFITS)
def test_refused(make: Callable[[], object], told: str) -> None:
    """A configuration error names the argument and what it must be."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    assert told in caught.value.message


def test_all_at_once() -> None:
    """One error names every argument that does not fit."""
    with pytest.raises(ConfigurationError) as caught:
        loose([JUNK], JUNK, parts(retry=HttpOptions()), on_event=JUNK)
    named = ("providers[0]", "queue", "parts.retry", "on_event")
    assert [] == [name for name in named if f"{name} is a " not in caught.value.message]


def test_what_fits(desk: Desk) -> None:
    """A part needs its methods and nothing to inherit from, also behind a stand-in that passes everything on."""

    class StandIn:
        def __init__(self, part: object) -> None:
            self._part = part

        def __getattr__(self, name: str) -> object:
            return getattr(self._part, name)

    provider, queue = cast("Provider", StandIn(desk.provider)), cast("QueueBackend", StandIn(MemoryQueue()))
    assert isinstance(LLMClient((provider,), queue, replace(desk.parts, observer=Everywhere())), LLMClient)
