"""Ask language models where a stale answer is worse than a late one.

Every call ends in exactly one of three ways: a fresh result, a durable ticket, or a typed error.
Names are loaded when first used, so importing the package costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_gateway._core.environments import Environment as Environment
    from llm_gateway._core.environments import EnvironmentType as EnvironmentType
    from llm_gateway._core.health import Health as Health
    from llm_gateway._core.jobs import JobError as JobError
    from llm_gateway._core.jobs import Lane as Lane
    from llm_gateway._core.lifecycle import TicketState as TicketState
    from llm_gateway._core.messages import Message as Message
    from llm_gateway._core.outcomes import (
        Completed as Completed,
    )
    from llm_gateway._core.outcomes import (
        Item as Item,
    )
    from llm_gateway._core.outcomes import (
        Pending as Pending,
    )
    from llm_gateway._core.outcomes import (
        Ticket as Ticket,
    )
    from llm_gateway._core.outcomes import (
        TicketEvent as TicketEvent,
    )
    from llm_gateway._core.outcomes import (
        TicketStatus as TicketStatus,
    )
    from llm_gateway._core.requests import LLMRequest as LLMRequest
    from llm_gateway._core.requests import Priority as Priority
    from llm_gateway._core.responses import (
        CacheSignal as CacheSignal,
    )
    from llm_gateway._core.responses import (
        FinishReason as FinishReason,
    )
    from llm_gateway._core.responses import (
        LLMResponse as LLMResponse,
    )
    from llm_gateway._core.responses import (
        Receipt as Receipt,
    )
    from llm_gateway._core.responses import (
        Usage as Usage,
    )
    from llm_gateway.client import LLMClient as LLMClient
    from llm_gateway.errors import ConfigurationError as ConfigurationError
    from llm_gateway.errors import LLMGatewayError as LLMGatewayError
    from llm_gateway.parts import Parts as Parts
    from llm_gateway.settings import Settings as Settings

__all__ = [
    "CacheSignal",
    "Completed",
    "ConfigurationError",
    "Environment",
    "EnvironmentType",
    "FinishReason",
    "Health",
    "Item",
    "JobError",
    "LLMClient",
    "LLMGatewayError",
    "LLMRequest",
    "LLMResponse",
    "Lane",
    "Message",
    "Parts",
    "Pending",
    "Priority",
    "Receipt",
    "Settings",
    "Ticket",
    "TicketEvent",
    "TicketState",
    "TicketStatus",
    "Usage",
]

_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "CacheSignal": "_core.responses",
        "Completed": "_core.outcomes",
        "ConfigurationError": "errors",
        "Environment": "_core.environments",
        "EnvironmentType": "_core.environments",
        "FinishReason": "_core.responses",
        "Health": "_core.health",
        "Item": "_core.outcomes",
        "JobError": "_core.jobs",
        "LLMClient": "client",
        "LLMGatewayError": "errors",
        "LLMRequest": "_core.requests",
        "LLMResponse": "_core.responses",
        "Lane": "_core.jobs",
        "Message": "_core.messages",
        "Parts": "parts",
        "Pending": "_core.outcomes",
        "Priority": "_core.requests",
        "Receipt": "_core.responses",
        "Settings": "settings",
        "Ticket": "_core.outcomes",
        "TicketEvent": "_core.outcomes",
        "TicketState": "_core.lifecycle",
        "TicketStatus": "_core.outcomes",
        "Usage": "_core.responses",
    }
)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("llm-gateway")
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*globals(), *__all__]
