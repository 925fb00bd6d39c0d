"""What the tests of the adapters share: keys, providers over the simulation, requests and output types."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, Literal, cast

from pydantic import BaseModel, Field, JsonValue, SecretStr

from llm_gateway import LLMRequest
from llm_gateway._core.responses import ProviderAnswer
from llm_gateway._core.schema import TEXT, OutputSchema
from llm_gateway.providers._adapter import HttpProvider
from llm_gateway.providers.anthropic import AnthropicProvider
from llm_gateway.providers.openai import OpenAIProvider
from llm_gateway.testing import SimulatedProvider

KEY: Final = "sk-canary-1f0c9d"
PROMPT: Final = "Which essay is better? The canary sang at dawn."
MODELS: Final = {"openai": "gpt-4o", "anthropic": "claude-haiku-4-5"}
SECONDS: Final = 10.0


class Size(StrEnum):
    """How big a city is."""

    BIG = "big"
    SMALL = "small"


class City(BaseModel):
    """A city."""

    name: str = Field(description="What it is called.")
    population: int
    size: Literal["big", "small"] | None


class Country(BaseModel):
    """A country."""

    name: str
    capital: City
    cities: list[City]
    size: Size
    area: float
    island: bool
    neighbours: list[str]


class Node(BaseModel):
    """A tree."""

    label: str
    children: list[Node]


def request(vendor: str, **changes: object) -> LLMRequest:
    """Make a request, by default with a plain prompt."""
    spoken = {} if "messages" in changes else {"prompt": PROMPT}
    return LLMRequest.model_validate({"provider": vendor, "model": MODELS[vendor], **spoken, **changes})


@asynccontextmanager
async def adapter(vendor: str, sim: SimulatedProvider) -> AsyncGenerator[HttpProvider]:
    """Give the adapter of *vendor* that asks the simulation."""
    if vendor == "openai":
        provider: HttpProvider = OpenAIProvider(SecretStr(KEY), base_url=sim.openai_url)
    else:
        provider = AnthropicProvider(SecretStr(KEY), base_url=sim.anthropic_url)
    try:
        yield provider
    finally:
        await provider.aclose()


async def answer(provider: HttpProvider, asked: LLMRequest, schema: OutputSchema = TEXT) -> ProviderAnswer:
    """Ask once."""
    return await provider.send(provider.prepare(asked, schema), timeout=SECONDS)


def body_of(provider: HttpProvider, asked: LLMRequest, schema: OutputSchema = TEXT) -> dict[str, JsonValue]:
    """Return the JSON that would be sent."""
    return cast("dict[str, JsonValue]", json.loads(provider.prepare(asked, schema).body))
