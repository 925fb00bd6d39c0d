"""The provider without a network."""

from __future__ import annotations

import json
from datetime import date
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from llm_gateway import LLMRequest
from llm_gateway._core.environments import WORKSHOP
from llm_gateway._core.schema import TEXT, output_type_of
from llm_gateway.errors import UnsupportedSchema
from llm_gateway.providers.mock import MockProvider

REQUEST = LLMRequest(provider="mock", model="any", prompt="Hi", temperature=0.0)


class Part(BaseModel):
    """A nested part."""

    score: Annotated[int, Field(ge=1, le=6)]
    note: Annotated[str, Field(min_length=9, max_length=12)]


class Whole(BaseModel):
    """Something with every shape."""

    winner: Literal["A", "B"]
    share: Annotated[float, Field(gt=0.2, lt=0.4)]
    parts: Annotated[list[Part], Field(min_length=2)]
    pair: tuple[int, str]
    inner: Whole | None
    day: date
    sure: bool


class Coded(BaseModel):
    """Something only its author can make."""

    code: Annotated[str, Field(pattern="^x{7}$")]


class Endless(BaseModel):
    """Something that has no end."""

    inner: Endless


async def test_no_two_answers_are_the_same() -> None:
    """The same call sent twice gives two ids and two texts, and the model that was asked for."""
    mock = MockProvider()
    call = mock.prepare(REQUEST, TEXT)
    one, two = [await mock.send(call, timeout=1) for _ in range(2)]
    assert one.response_id != two.response_id
    assert one.text != two.text
    assert one.served_model is not None
    assert mock.serves(call, one.served_model)


def test_it_is_for_development_and_testing_only() -> None:
    """Staging and production are not among its environments."""
    assert WORKSHOP == MockProvider().allowed_in


@pytest.mark.parametrize("output_type", [Whole, Part, int, list[str], bool])
async def test_it_makes_the_smallest_value_of_an_output_type(output_type: type[object]) -> None:
    """A structured answer is valid for its type."""
    mock, wanted = MockProvider(), output_type_of(output_type)
    answer = await mock.send(mock.prepare(REQUEST, wanted.schema), timeout=1)
    assert wanted.read(answer.text) is not None


@pytest.mark.parametrize("output_type", [Coded, Endless])
def test_what_it_cannot_make_is_refused_before_the_call(output_type: type[object]) -> None:
    """A type of which it finds no value is refused, with the way out."""
    with pytest.raises(UnsupportedSchema, match="reply function"):
        MockProvider().prepare(REQUEST, output_type_of(output_type).schema)


async def test_a_function_can_answer() -> None:
    """A function makes the answer from what would be sent, also where no value is found."""
    mock = MockProvider("judge", reply=lambda body: json.dumps({"code": json.loads(body)["messages"][0]["content"]}))
    answer = await mock.send(mock.prepare(REQUEST, output_type_of(Coded).schema), timeout=1)
    assert '{"code": "Hi"}' == answer.text
