"""OpenAI, through Chat Completions."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final

import httpx
from pydantic import JsonValue, SecretStr

from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.schema import OutputSchema
from llm_gateway._io.http import HttpClient, validate_key
from llm_gateway._null import SystemClock
from llm_gateway.options import HttpOptions
from llm_gateway.protocols import Clock
from llm_gateway.providers import _openai_wire as wire
from llm_gateway.providers._adapter import HttpProvider
from llm_gateway.providers._profiles import OPENAI
from llm_gateway.providers._reading import Reading
from llm_gateway.providers._schemas import OPENAI_RULES

__all__ = ["BASE_URL", "OpenAIAccount", "OpenAIProvider"]

BASE_URL: Final = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIAccount:
    """On whose account a key that has several is used.

    Attributes:
        organization: Sent as ``OpenAI-Organization``.
        project: Sent as ``OpenAI-Project``.
    """

    organization: str | None = None
    project: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that say so."""
        named = {"openai-organization": self.organization, "openai-project": self.project}
        return {name: validate_key(value, what=name) for name, value in named.items() if value is not None}


OF_THE_KEY: Final = OpenAIAccount()


class OpenAIProvider(HttpProvider):
    """Asks OpenAI.

    Args:
        api_key: The key; bound to *base_url* and sent nowhere else.
        base_url: Where to ask, ``/v1`` included.
        name: Name that requests use.
        account: Organization and project; by default those of the key.
        http: Timeouts and bounds.
        transport: Carries the requests instead of the built-in pool.
        verify: TLS context; by default the certifi authorities.
        clock: Gives the times of receipts.

    Raises:
        ConfigurationError: the key or the URL cannot be used; neither is shown.
    """

    adapter = "openai-chat-1"
    path = "/chat/completions"
    request_id_header = "x-request-id"
    rules = OPENAI_RULES
    profiles = OPENAI

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str = BASE_URL,
        name: str = "openai",
        account: OpenAIAccount = OF_THE_KEY,
        http: HttpOptions | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        client = HttpClient(
            base_url, options=http or HttpOptions(), transport=transport, verify=verify, clock=clock or SystemClock()
        )
        named = account.headers
        super().__init__(api_key, client, name=name, headers=lambda key: {"authorization": f"Bearer {key}", **named})

    def write(
        self, request: LLMRequest, schema: OutputSchema, compiled: JsonValue, dropped: frozenset[str]
    ) -> dict[str, JsonValue]:
        """Write a request for ``POST /chat/completions``."""
        return wire.body_of(request, schema, compiled, dropped)

    def read(self, body: JsonValue, request_id: str | None) -> Reading:
        """Read a chat completion."""
        return wire.read(body, request_id)
