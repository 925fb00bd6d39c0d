"""The output type: its JSON schema, and validation of an answer against either.

The schema travels with a request, so that a worker in another process can refuse an invalid answer before the
ticket completes; reading validates again with the type itself. Vendors want an object at the root, so any other
root is wrapped in an object with the one field ``value`` and unwrapped when read.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Generic, TypeVar, cast, overload

from pydantic import JsonValue, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError

from llm_gateway._core import strictjson
from llm_gateway._core.checked import complaints
from llm_gateway._facts import Fault, Masked
from llm_gateway.errors import ErrorInfo, InvalidOutput, UnsupportedSchema

__all__ = ["TEXT", "OutputSchema", "OutputType", "check_output", "output_type_of"]

T = TypeVar("T")
EXCERPT: Final = 200
WRAPPER: Final = "value"


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
        if self.schema.wrapped:
            value = _unwrap(value, text)
        try:
            return self.adapter.validate_python(value) if self.schema.wrapped else self.adapter.validate_json(text)
        except ValidationError as error:
            reason = complaints(error)
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
    import jsonschema

    try:
        jsonschema.validate(value, json_schema)
    except jsonschema.ValidationError as error:
        return f"{error.json_path}: breaks the rule {error.validator!r}"
    return None


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
    try:
        return TypeAdapter(output_type)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        reason = error.code or "no validator"
    message = f"The output type {getattr(output_type, '__name__', 'given')!s} cannot be validated ({reason})."
    raise UnsupportedSchema(message)


def _make(adapter: TypeAdapter[T], name: str) -> OutputType[T]:
    try:
        schema = cast("dict[str, JsonValue]", adapter.json_schema(mode="validation"))
    except PydanticInvalidForJsonSchema:
        message = f"The output type {name} has no JSON schema."
        raise UnsupportedSchema(message) from None
    safe = "".join(letter if letter.isalnum() or letter in "_-" else "_" for letter in name)[:64] or "output"
    if schema.get("type") == "object" or "$ref" in schema:
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
