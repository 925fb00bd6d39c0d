"""Anthropic, through Messages."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Final, Literal

import httpx
from pydantic import JsonValue, SecretStr

from llm_gateway._core.requests import LLMRequest
from llm_gateway._core.schema import OutputSchema
from llm_gateway._io.http import HttpClient
from llm_gateway._null import SystemClock
from llm_gateway.options import HttpOptions
from llm_gateway.protocols import Clock
from llm_gateway.providers import _anthropic_wire as wire
from llm_gateway.providers._adapter import HttpProvider
from llm_gateway.providers._profiles import ANTHROPIC
from llm_gateway.providers._reading import Reading
from llm_gateway.providers._schemas import ANTHROPIC_RULES

__all__ = ["BASE_URL", "AnthropicDialect", "AnthropicProvider"]

BASE_URL: Final = "https://api.anthropic.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicDialect:
    """How the vendor, or a gateway in its place, wants to be addressed.

    Attributes:
        version: Sent as ``anthropic-version``.
        auth: ``x-api-key`` as documented, or ``bearer`` as gateways and newer clients use it.
    """

    version: str = "2023-06-01"
    auth: Literal["x-api-key", "bearer"] = "x-api-key"

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers that say so, *key* among them."""
        shown = {"x-api-key": key} if self.auth == "x-api-key" else {"authorization": f"Bearer {key}"}
        return {"anthropic-version": self.version, **shown}


DOCUMENTED: Final = AnthropicDialect()


class AnthropicProvider(HttpProvider):
    """Asks Anthropic.

    Args:
        api_key: The key; bound to *base_url* and sent nowhere else.
        base_url: Where to ask, without ``/v1``.
        name: Name that requests use.
        dialect: Version and authentication scheme.
        http: Timeouts and bounds.
        transport: Carries the requests instead of the built-in pool.
        verify: TLS context; by default the certifi authorities.
        clock: Gives the times of receipts.

    Raises:
        ConfigurationError: the key or the URL cannot be used; neither is shown.
    """

    adapter = "anthropic-messages-1"
    path = "/v1/messages"
    request_id_header = "request-id"
    rules = ANTHROPIC_RULES
    profiles = ANTHROPIC

    def __init__(
        self,
        api_key: SecretStr,
        *,
        base_url: str = BASE_URL,
        name: str = "anthropic",
        dialect: AnthropicDialect = DOCUMENTED,
        http: HttpOptions | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        verify: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        client = HttpClient(
            base_url, options=http or HttpOptions(), transport=transport, verify=verify, clock=clock or SystemClock()
        )
        super().__init__(api_key, client, name=name, headers=dialect.headers)

    def write(
        self, request: LLMRequest, schema: OutputSchema, compiled: JsonValue, dropped: frozenset[str]
    ) -> dict[str, JsonValue]:
        """Write a request for ``POST /v1/messages``."""
        return wire.body_of(request, schema, compiled, dropped)

    def read(self, body: JsonValue, request_id: str | None) -> Reading:
        """Read a message."""
        return wire.read(body, request_id)
