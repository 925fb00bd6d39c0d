"""OpenAI, through Chat Completions."""

from __future__ import annotations

import ssl
from typing import Final

import httpx
from pydantic import JsonValue, SecretStr

from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.schema import OutputSchema
from llm_gateway._io.http import HttpClient
from llm_gateway._null import SystemClock
from llm_gateway.options import HttpOptions
from llm_gateway.protocols import Clock
from llm_gateway.providers import _openai_wire as wire
from llm_gateway.providers._adapter import HttpProvider
from llm_gateway.providers._profiles import OPENAI
from llm_gateway.providers._reading import Reading
from llm_gateway.providers._schemas import OPENAI_RULES

__all__ = ["BASE_URL", "OpenAIProvider"]

BASE_URL: Final = "https://api.openai.com/v1"


class OpenAIProvider(HttpProvider):
    """Asks OpenAI.

    Args:
        api_key: The key; bound to *base_url* and sent nowhere else.
        base_url: Where to ask, ``/v1`` included.
        name: Name that requests use.
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
        http: HttpOptions | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        client = HttpClient(
            base_url, options=http or HttpOptions(), transport=transport, verify=verify, clock=clock or SystemClock()
        )
        super().__init__(api_key, client, name=name, headers={"authorization": f"Bearer {api_key.get_secret_value()}"})

    def write(
        self, request: LLMRequest, schema: OutputSchema, compiled: JsonValue, dropped: frozenset[str]
    ) -> dict[str, JsonValue]:
        """Write a request for ``POST /chat/completions``."""
        return wire.body_of(request, schema, compiled, dropped)

    def read(self, body: JsonValue, request_id: str | None) -> Reading:
        """Read a chat completion."""
        return wire.read(body, request_id)
