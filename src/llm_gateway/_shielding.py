"""How a part that is foreign code is asked, so that whatever it raises ends as an error of this library.

What it raises may quote a prompt, so only its class is told and logged. Cancellation passes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar, cast

from llm_gateway._core.environments import Environment
from llm_gateway.errors import LLMGatewayError
from llm_gateway.protocols import Part

__all__ = ["Shield", "awaited", "kept", "noted", "required", "told"]

F = TypeVar("F", bound=Callable[..., object])
P = TypeVar("P", bound=Part)
Failure = Callable[[str], LLMGatewayError]
logger: Final = logging.getLogger("llm_gateway")


class Shield(Generic[P]):
    """Stands before a part and passes on what it is asked.

    Args:
        part: The part itself.
    """

    def __init__(self, part: P) -> None:
        self.part = part

    @property
    def allowed_in(self) -> frozenset[Environment]:
        """The part's own."""
        return self.part.allowed_in


def required(method: F, failure: Failure) -> F:
    """Pass a call on; when it raises what is none of our errors, raise what *failure* makes of a message."""
    name = method.__name__

    def passed_on(self: Shield[Part], *args: object, **options: object) -> object:
        try:
            asked: Callable[..., object] = getattr(self.part, name)
            return asked(*args, **options)
        except LLMGatewayError:
            raise
        except Exception as error:
            message = told(self.part, name, error)
        # Raised out here, so that no context hangs on it.
        raise failure(message)

    return cast("F", passed_on)


def awaited(method: F, failure: Failure) -> F:
    """Do as `required` does for a coroutine."""
    name = method.__name__

    async def passed_on(self: Shield[Part], *args: object, **options: object) -> object:
        try:
            asked: Callable[..., Awaitable[object]] = getattr(self.part, name)
            return await asked(*args, **options)
        except LLMGatewayError:
            raise
        except Exception as error:
            message = told(self.part, name, error)
        raise failure(message)

    return cast("F", passed_on)


def noted(method: F) -> F:
    """Pass on what the part is to take note of; when it raises, that is logged and changes nothing."""
    name = method.__name__

    def passed_on(self: Shield[Part], *args: object, **options: object) -> None:
        try:
            asked: Callable[..., object] = getattr(self.part, name)
            asked(*args, **options)
        except Exception as error:
            told(self.part, name, error)

    return cast("F", passed_on)


def kept(method: F) -> F:
    """Do as `noted` does for a coroutine; its answer is ``None`` when it raises."""
    name = method.__name__

    async def passed_on(self: Shield[Part], *args: object, **options: object) -> object:
        try:
            asked: Callable[..., Awaitable[object]] = getattr(self.part, name)
            return await asked(*args, **options)
        except Exception as error:
            told(self.part, name, error)
        return None

    return cast("F", passed_on)


def told(part: Part, asked: str, error: Exception) -> str:
    """Say, and log, what a part raised, without what that says."""
    message = f"{type(part).__name__} raised {type(error).__name__} in {asked}."
    logger.warning("%s", message)
    return message
