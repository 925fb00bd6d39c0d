"""Output types with a trap for native structured output in each."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field
from tests.providers.vendors import City
from typing_extensions import TypeAliasType, TypedDict

Nested = TypeAliasType("Nested", "list[Nested]")


class Cat(BaseModel):
    """Purrs."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """Barks."""

    kind: Literal["dog"]
    tricks: list[str]


class Zoo(BaseModel):
    """Has a discriminated union and plain ones."""

    star: Annotated[Cat | Dog, Field(discriminator="kind", description="Who draws the crowd.")]
    others: list[Cat | Dog]
    guest: Cat | None = None


class Level(IntEnum):
    """How hard."""

    EASY = 1
    HARD = 2


class Bounds(BaseModel):
    """One field for each kind of bound."""

    score: Annotated[int, Field(ge=1, le=6, description="From 1 to 6.")]
    share: Annotated[float, Field(gt=0.0, lt=1.0)]
    half: Annotated[float, Field(multiple_of=0.5)]
    word: Annotated[str, Field(min_length=2, max_length=9)]
    code: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    reasons: Annotated[list[str], Field(min_length=2, max_length=3)]
    some: Annotated[list[str], Field(min_length=1)]
    tags: set[str]
    either: Annotated[int | float, Field(ge=1)]


class Values(BaseModel):
    """Choices, dates and the rest of the ordinary kinds."""

    level: Level
    mood: Literal["good", "bad", 1, None]
    day: date
    price: Decimal
    comment: str | None = None
    count: int = 3
    grid: list[list[int]]
    series: tuple[float, ...]


class Step(TypedDict):
    """A typed dict."""

    name: str
    seconds: float


class Plan(BaseModel):
    """Holds typed dicts."""

    steps: list[Step]


class Described(BaseModel):
    """Says more about a reference than the reference can hold."""

    home: Annotated[City, Field(description="Where it was born.")]
    away: Annotated[City, Field(description="Where it went.")]


class Chain(BaseModel):
    """Contains itself, and says something about that."""

    following: Annotated[Chain, Field(description="The next link.")] | None


class Free(BaseModel):
    """Takes any field."""

    model_config = ConfigDict(extra="allow")
    name: str


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int
