"""Output types: what is read as one, what is refused, and that workers and readers agree."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Annotated, Literal, cast
from uuid import UUID

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from llm_gateway._core.schema import TEXT, OutputType, check_output, output_type_of
from llm_gateway._facts import Fault
from llm_gateway.errors import InvalidOutput, UnsupportedSchema

CANARY = "the quiet heron folded seven umbrellas"


class Side(StrEnum):
    """A side."""

    LEFT = "left"
    RIGHT = "right"


class Verdict(BaseModel):
    """What a judge says."""

    winner: Literal["A", "B"]
    confidence: Annotated[int, Field(ge=1, le=5)]
    reasons: list[str] = []


class Node(BaseModel):
    """A tree."""

    name: str
    kids: list[Node] = []


class Closed(BaseModel):
    """Takes no other field."""

    model_config = ConfigDict(extra="forbid")

    pattern: Annotated[str, Field(pattern="^[a-z]+$")]


class Picky(BaseModel):
    """Quotes what it refuses."""

    word: str

    @field_validator("word")
    @classmethod
    def _refuse(cls, word: str) -> str:
        reason = f"{word} will not do"
        raise ValueError(reason)


class Cat(BaseModel):
    """A kind."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """Another kind."""

    kind: Literal["dog"]


class Pet(BaseModel):
    """One of two kinds."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


class Foreign:
    """A class that pydantic knows nothing of."""


def typed(form: object) -> OutputType[object]:
    """Make ready whatever form a caller may pass, such as a union."""
    return output_type_of(cast("type[object]", form))


READ: list[tuple[object, str, object]] = [
    (Verdict, '{"winner": "A", "confidence": 4}', Verdict(winner="A", confidence=4)),
    (Verdict, '{"winner": "B", "confidence": 1, "reasons": ["x"], "more": 1}', None),
    (Node, '{"name": "a", "kids": [{"name": "b"}]}', Node(name="a", kids=[Node(name="b")])),
    (Closed, '{"pattern": "abc"}', Closed(pattern="abc")),
    (dict[str, int], '{"a": 1}', {"a": 1}),
    (int, '{"value": 5}', 5),
    (float, '{"value": 5}', 5.0),
    (bool, '{"value": true}', True),
    (Side, '{"value": "left"}', Side.LEFT),
    (list[int], '{"value": [1, 2]}', [1, 2]),
    (list[Verdict], '{"value": [{"winner": "A", "confidence": 4}]}', [Verdict(winner="A", confidence=4)]),
    (tuple[int, str], '{"value": [1, "a"]}', (1, "a")),
    (set[int], '{"value": [1, 2]}', {1, 2}),
    (date, '{"value": "2030-01-31"}', date(2030, 1, 31)),
    (Decimal, '{"value": "1.50"}', Decimal("1.50")),
    (UUID, '{"value": "12345678-1234-5678-1234-567812345678"}', UUID("12345678-1234-5678-1234-567812345678")),
    (int | None, '{"value": null}', None),
    (int | str, '{"value": "1"}', "1"),
    (Verdict | list[int], '{"value": [1]}', [1]),
    (Literal["a", "b"], '{"value": "b"}', "b"),
    (TypeAdapter(Literal["a", "b"]), '{"value": "a"}', "a"),
    (Annotated[int, Field(gt=3)], '{"value": 4}', 4),
    (Annotated[str, Field(examples=["a"])], '{"value": "a"}', "a"),
]
REFUSED: list[tuple[object, str]] = [
    (Verdict, "{}"),
    (Verdict, "[]"),
    (Verdict, "null"),
    (Verdict, ""),
    (Verdict, '{"winner": "A", "confidence": 4'),
    (Verdict, '{"winner": "C", "confidence": 4}'),
    (Verdict, '{"winner": "A", "confidence": 6}'),
    (Verdict, '{"winner": "A", "confidence": "4"}'),
    (Verdict, '{"winner": "A", "confidence": 4.0}'),
    (Verdict, '{"winner": "A", "confidence": true}'),
    (Verdict, '{"winner": "A", "confidence": NaN}'),
    (Verdict, '```json\n{"winner": "A", "confidence": 4}\n```'),
    (Verdict, '{"winner": "A", "confidence": 4} I hope this helps.'),
    (Node, '{"name": "a", "kids": [{"name": 1}]}'),
    (Closed, '{"pattern": "ABC"}'),
    (Closed, '{"pattern": "abc", "more": 1}'),
    (dict[str, int], '{"a": "1"}'),
    (int, "5"),
    (int, '{"value": "5"}'),
    (int, '{"value": 5.0}'),
    (int, '{"value": 5, "more": 1}'),
    (int, '{"other": 5}'),
    (float, '{"value": Infinity}'),
    (float, '{"value": 1e999}'),
    (float, '{"value": "5"}'),
    (bool, '{"value": "yes"}'),
    (bool, '{"value": 1}'),
    (Side, '{"value": "LEFT"}'),
    (list[int], '{"value": [1, "2"]}'),
    (tuple[int, str], '{"value": [1]}'),
    (int | None, '{"value": ""}'),
    (int | str, '{"value": 1.5}'),
    (Literal["a", "b"], '{"value": "c"}'),
    (Annotated[int, Field(gt=3)], '{"value": 3}'),
]


@pytest.mark.parametrize(("form", "text", "value"), READ)
def test_reads(form: object, text: str, value: object) -> None:
    """What the type allows is read as it, and a worker with the schema alone lets it pass."""
    output = typed(form)
    check_output(output.schema, text)
    assert value is None or output.read(text) == value


@pytest.mark.parametrize(("form", "text"), REFUSED)
def test_refuses(form: object, text: str) -> None:
    """What the type does not allow is refused by the reader and by a worker alike, never repaired or guessed."""
    output = typed(form)
    judges: tuple[Callable[[str], object], ...] = (output.read, partial(check_output, output.schema))
    for judge in judges:
        with pytest.raises(InvalidOutput) as caught:
            judge(text)
        assert (caught.value.fault, caught.value.info.detail is None) == (Fault.INVALID_OUTPUT, False)


@pytest.mark.parametrize("text", ["", "anything", "NaN", '{"value": 1}'])
def test_text(text: str) -> None:
    """Plain text is what it is."""
    output = output_type_of(str)
    check_output(output.schema, text)
    assert (output.schema, output.read(text)) == (TEXT, text)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (Verdict, f'{{"winner": "{CANARY}", "confidence": 4}}'),
        (Verdict, CANARY),
        (Closed, f'{{"pattern": "a", "{CANARY}": 1}}'),
        (dict[str, int], f'{{"{CANARY}": "{CANARY}"}}'),
        (dict[str, int], '{"heron": "umbrellas"}'),
        (int, f'{{"{CANARY}": 1}}'),
        (Side, f'{{"value": "{CANARY}"}}'),
        (Picky, f'{{"word": "{CANARY}"}}'),
        (Pet, f'{{"pet": {{"kind": "{CANARY}"}}}}'),
    ],
)
def test_shows_nothing(form: object, text: str) -> None:
    """A refusal shows no piece of the answer, also not a key that the model made up; the excerpt is masked."""
    output = typed(form)
    with pytest.raises(InvalidOutput) as caught:
        output.read(text)
    error = caught.value
    shown = f"{error!s}{error!r}{error.info!r}{''.join(traceback.format_exception(error))}"
    assert [word for word in ("heron", "umbrellas") if word in shown] == []
    assert error.info.detail is not None
    assert error.info.detail.reveal() == text[:200]


def test_worker_shows_nothing() -> None:
    """What a worker says of an invalid answer shows no piece of it either."""
    with pytest.raises(InvalidOutput) as caught:
        check_output(output_type_of(dict[str, int]).schema, f'{{"{CANARY}": "{CANARY}"}}')
    shown = f"{caught.value!s}{''.join(traceback.format_exception(caught.value))}"
    assert ("* breaks the rule 'type'" in shown, CANARY in shown) == (True, False)


def test_names_the_place() -> None:
    """A refusal names the field and its rule."""
    with pytest.raises(InvalidOutput, match=r"confidence breaks the rule 'less_than_equal'"):
        output_type_of(Verdict).read('{"winner": "A", "confidence": 6}')
    with pytest.raises(InvalidOutput, match=r"kids\.0\.name breaks the rule 'type'"):
        check_output(output_type_of(Node).schema, '{"name": "a", "kids": [{"name": 1}]}')


@pytest.mark.parametrize(
    "form",
    [
        Foreign,
        Callable[[], int],
        TypeAdapter(Callable[[], int]),
        inspect.Signature,
        object(),
        "Missing",
        Annotated[str, Field(pattern=r"^\p{L}+$")],
        list[Foreign],
    ],
    ids=str,
)
def test_impossible_types(form: object) -> None:
    """A type without a validator or a schema that workers can check is refused before anything is sent."""
    with pytest.raises(UnsupportedSchema):
        typed(form)


@pytest.mark.parametrize("form", [int, list[int], Verdict | None, Literal["a"]])
def test_root_is_an_object(form: object) -> None:
    """Vendors always get an object at the root; any other root is wrapped."""
    schema = typed(form).schema
    assert schema.json_schema is not None
    assert (schema.json_schema["type"], schema.json_schema["required"], schema.wrapped) == ("object", ["value"], True)


@pytest.mark.parametrize(("form", "name"), [(Verdict, "Verdict"), (list[int], "list"), (TypeAdapter(int), "output")])
def test_name(form: object, name: str) -> None:
    """The schema has a name of letters that vendors take."""
    assert typed(form).schema.name == name


def test_remembered() -> None:
    """A type is made ready once."""
    assert output_type_of(Verdict) is output_type_of(Verdict)


def shout(value: int) -> int:
    """Raise what quotes the answer."""
    message = f"canary {value}"
    raise ZeroDivisionError(message)


class Undescribed(BaseModel):
    """A type whose description of itself fails."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Raise."""
        message = "canary"
        raise LookupError(message)


def test_validator_that_breaks() -> None:
    """A validator that raises what is no ValueError makes the answer invalid, and is told by class alone."""
    kept = output_type_of(cast("type[int]", Annotated[int, AfterValidator(shout)]))
    with pytest.raises(InvalidOutput, match="raised ZeroDivisionError") as caught:
        kept.read('{"value": 5}')
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_description_that_breaks() -> None:
    """A type whose description of itself raises cannot be asked for."""
    with pytest.raises(UnsupportedSchema, match="no JSON schema") as caught:
        output_type_of(Undescribed)
    assert "canary" not in "".join(traceback.format_exception(caught.value))
