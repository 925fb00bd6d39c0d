"""The output type: its JSON schema, and validation of an answer against either.

The schema travels with a request, so that a worker in another process can refuse an invalid answer before the
ticket completes; reading validates again with the type itself. Vendors want an object at the root, so any other
root is wrapped in an object with the one field ``value`` and unwrapped when read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, Protocol, TypeVar, cast, overload

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import to_json

from llm_gateway._core import strictjson
from llm_gateway._facts import Fault, Masked
from llm_gateway.errors import ErrorInfo, InvalidOutput, UnsupportedSchema

__all__ = ["TEXT", "OutputSchema", "OutputType", "check_output", "output_type_of"]

T = TypeVar("T")
EXCERPT: Final = 200
SHOWN: Final = 10
WRAPPER: Final = "value"
STEP: Final = "Pass a type such as a pydantic model, or leave output_type out for text."
# Types that pydantic takes and that say nothing of an answer.
NONSENSE: Final[Mapping[str, str]] = {
    "any": "every answer would be valid",
    "call": "it is a function, not a type",
    "none": "null would be the only answer",
}


class Problem(Protocol):
    """What jsonschema tells of a broken rule."""

    @property
    def absolute_path(self) -> Iterable[str | int]: ...
    @property
    def validator(self) -> object: ...


class Judge(Protocol):
    """A validator of jsonschema, as far as it is used."""

    def iter_errors(self, instance: object) -> Iterator[Problem]:
        """Yield what is wrong with *instance*."""
        ...


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """What an answer must look like.

    Attributes:
        name: Name that vendors ask for.
        json_schema: The schema, an object at its root; ``None``: plain text.
        wrapped: Whether the value sits in the field ``value`` of that object.
    """

    name: str
    json_schema: Mapping[str, JsonValue] | None = field(default=None, compare=False)
    wrapped: bool = False


TEXT: Final = OutputSchema("text")


@dataclass(frozen=True, slots=True)
class OutputType(Generic[T]):
    """An output type made ready: its schema and its validator."""

    schema: OutputSchema
    adapter: TypeAdapter[T] = field(repr=False)

    def read(self, text: str) -> T:
        """Return *text* as the type.

        Raises:
            InvalidOutput: it is not JSON, or not valid. The text is only in ``info.detail``, masked.
        """
        if self.schema.json_schema is None:
            return cast("T", text)
        value = _parse(text)
        written = to_json(_unwrap(value, text)) if self.schema.wrapped else text
        try:
            # Strict, because a "5" read as 5 would be a guess, and the worker's check would not make it.
            return self.adapter.validate_json(written, strict=True)
        except ValidationError as error:
            problems = error.errors(include_input=False, include_context=False, include_url=False)[:SHOWN]
            names = frozenset(_names(self.schema.json_schema))
            reason = "; ".join(_told(problem["loc"], problem["type"], names) for problem in problems)
        except Exception as error:
            # A validator is the caller's code, and what it raises may quote the answer.
            reason = f"a validator of the type raised {type(error).__name__}"
        raise invalid_output(reason, text)


def check_output(schema: OutputSchema, text: str) -> None:
    """Validate *text* against the JSON schema alone, as a worker does that has no Python type.

    Raises:
        InvalidOutput: it is not JSON, or not valid.
    """
    if schema.json_schema is None:
        return
    problem = _first_problem(schema.json_schema, _parse(text))
    if problem is not None:
        raise invalid_output(problem, text)


def _first_problem(json_schema: Mapping[str, JsonValue], value: JsonValue) -> str | None:
    # Imported here: only workers need it, and a first answer should not wait for it.
    from jsonschema import Draft202012Validator, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    extend = cast("Callable[..., Callable[[object], Judge]]", validators.extend)
    error = next(extend(Draft202012Validator, type_checker=types)(json_schema).iter_errors(value), None)
    if error is None:
        return None
    return _told(error.absolute_path, str(error.validator), frozenset(_names(json_schema)))


def _is_integer(_: object, value: object) -> bool:
    # JSON Schema takes 1.0 for an integer; the type, read strictly, does not.
    return isinstance(value, int) and not isinstance(value, bool)


def _told(steps: Iterable[str | int], rule: str, names: frozenset[str]) -> str:
    """Name a place by the schema's own names: any other key is the model's text."""
    shown = [str(step) if isinstance(step, int) or step in names else "*" for step in steps]
    return f"{'.'.join(shown) or 'value'} breaks the rule {rule!r}"


def _names(schema: object) -> Iterator[str]:
    for properties in _found(schema, "properties"):
        yield from cast("Mapping[str, object]", properties)


def _found(schema: object, keyword: str) -> Iterator[object]:
    """Yield what *keyword* stands for, at any depth of a schema."""
    wanted: type[object] = str if keyword == "pattern" else dict
    if isinstance(schema, list):
        for item in cast("list[object]", schema):
            yield from _found(item, keyword)
    elif isinstance(schema, dict):
        for key, value in cast("dict[str, object]", schema).items():
            # A property may have the keyword's name: then it stands for a schema or names of it.
            yield from _found(value, keyword)
            if key == keyword and type(value) is wanted:
                yield value


def invalid_output(reason: str, text: str) -> InvalidOutput:
    """Make the error for an answer that breaks its schema."""
    info = ErrorInfo(fault=Fault.INVALID_OUTPUT, detail=Masked(text[:EXCERPT]))
    return InvalidOutput(f"The answer is not valid for the output type: {reason}.", info=info)


@overload
def output_type_of(output_type: type[T]) -> OutputType[T]: ...
@overload
def output_type_of(output_type: TypeAdapter[T]) -> OutputType[T]: ...
def output_type_of(output_type: type[T] | TypeAdapter[T]) -> OutputType[T]:
    """Make an output type ready.

    Raises:
        UnsupportedSchema: pydantic cannot validate it or give it a JSON schema.
    """
    if isinstance(output_type, TypeAdapter):
        return _make(output_type, "output")
    try:
        return cast("OutputType[T]", _remembered(cast("Hashable", output_type)))
    except TypeError:  # unhashable, such as Annotated with a list in it
        return _make(_adapter_of(output_type), "output")


@lru_cache(maxsize=256)
def _remembered(hashable: Hashable) -> OutputType[object]:
    output_type = cast("type[object]", hashable)
    if output_type is str:
        return OutputType(TEXT, cast("TypeAdapter[object]", TypeAdapter(str)))
    return _make(_adapter_of(output_type), getattr(output_type, "__name__", "output"))


def _adapter_of(output_type: type[T]) -> TypeAdapter[T]:
    reason = "a name is no type"
    try:
        if not isinstance(output_type, str):  # what a name stands for depends on who reads it
            return TypeAdapter(output_type)
    except PydanticUserError as error:
        reason = error.code or "no validator"
    except Exception as error:
        # What is no type at all fails in the middle of pydantic, each in a way of its own.
        reason = type(error).__name__
    message = f"The output type {getattr(output_type, '__name__', 'given')!s} cannot be validated ({reason})."
    raise UnsupportedSchema(message, next_step=STEP)


def _make(adapter: TypeAdapter[T], name: str) -> OutputType[T]:
    try:
        schema = cast("dict[str, JsonValue]", adapter.json_schema(mode="validation"))
        nonsense = NONSENSE.get(adapter.core_schema["type"])
    except Exception:
        # A type can have code of its own for this too, which may raise anything.
        message = f"The output type {name} has no JSON schema."
        raise UnsupportedSchema(message) from None
    if nonsense is not None:
        message = f"The output type {name} cannot be asked for: {nonsense}."
        raise UnsupportedSchema(message, next_step=STEP)
    _require_patterns(schema, name)
    safe = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64] or "output"
    if _is_object(schema):
        return OutputType(OutputSchema(safe, schema), adapter)
    definitions = schema.pop("$defs", None)
    root: dict[str, JsonValue] = {
        "type": "object",
        "properties": {WRAPPER: schema},
        "required": [WRAPPER],
        "additionalProperties": False,
    }
    if definitions is not None:
        root["$defs"] = definitions
    return OutputType(OutputSchema(safe, root, wrapped=True), adapter)


def _is_object(schema: Mapping[str, JsonValue]) -> bool:
    # A type that contains itself is a reference, and what it refers to may as well be a list.
    reference, definitions = schema.get("$ref"), schema.get("$defs")
    if isinstance(reference, str) and isinstance(definitions, dict):
        target = definitions.get(reference.rpartition("/")[2])
        return isinstance(target, dict) and target.get("type") == "object"
    return schema.get("type") == "object"


def _require_patterns(schema: object, name: str) -> None:
    for pattern in _found(schema, "pattern"):
        try:
            re.compile(str(pattern))
        except re.error:
            message = f"The output type {name} has a pattern that a worker could not check."
            raise UnsupportedSchema(message, next_step="Write the pattern as Python's re takes it.") from None


def _parse(text: str) -> JsonValue:
    try:
        return strictjson.loads(text)
    except strictjson.NotJson as error:
        reason = str(error)
    raise invalid_output(reason, text)


def _unwrap(value: JsonValue, text: str) -> JsonValue:
    if isinstance(value, dict) and set(value) == {WRAPPER}:
        return value[WRAPPER]
    reason = f"an object with the one field {WRAPPER!r} was expected"
    raise invalid_output(reason, text)
