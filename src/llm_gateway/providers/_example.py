"""The smallest value that a JSON schema allows, as far as one can be told without guessing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import JsonValue

from llm_gateway._core.schema import OutputSchema, check_output
from llm_gateway.errors import InvalidOutput, UnsupportedSchema
from llm_gateway.providers._json import list_at, object_at

__all__ = ["example_text"]

Schema = dict[str, JsonValue]
DEEPEST: Final = 16
LONGEST_TEXT: Final = 1_000_000
Inner = Callable[[JsonValue], JsonValue]
FORMATTED: Final[Mapping[str, str]] = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "mock@example.com",
    "time": "00:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_text(schema: OutputSchema) -> str:
    """Return JSON that is valid for *schema*.

    Raises:
        UnsupportedSchema: no valid value was found.
    """
    whole = dict(schema.json_schema or {})
    try:
        text = json.dumps(_value(whole, whole, DEEPEST), ensure_ascii=False)
        check_output(schema, text)
    except (InvalidOutput, LookupError, TypeError, ValueError):
        message = f"The mock provider finds no value for the output type {schema.name}."
        step = "Give MockProvider a reply function that makes one."
    else:
        return text
    raise UnsupportedSchema(message, next_step=step)


def _value(schema: Schema, whole: Schema, depth: int) -> JsonValue:
    if depth == 0:
        reason = "a value of this schema would have no end"
        raise ValueError(reason)
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    if "$ref" in schema:
        return _value(object_at(whole, "$defs", str(schema["$ref"]).rpartition("/")[2]), whole, depth - 1)
    variants = list_at(schema, "anyOf") or list_at(schema, "oneOf")
    if variants:
        # Null comes last where pydantic writes a union, and ends what would have no end.
        return _value(object_at({"chosen": variants[-1]}, "chosen"), whole, depth - 1)
    if "enum" in schema:
        return list_at(schema, "enum")[0]
    return MAKERS[str(schema["type"])](schema, lambda part: _value(object_at({"part": part}, "part"), whole, depth - 1))


def _object(schema: Schema, of: Inner) -> JsonValue:
    properties = object_at(schema, "properties")
    return {name: of(properties.get(name)) for name in map(str, list_at(schema, "required"))}


def _array(schema: Schema, of: Inner) -> JsonValue:
    fixed = list_at(schema, "prefixItems")
    missing = int(_number(schema, "minItems")) - len(fixed)
    return [of(item) for item in [*fixed, *[schema.get("items")] * missing]]


def _text(schema: Schema) -> JsonValue:
    if "format" in schema:
        return FORMATTED[str(schema["format"])]
    return "mock".ljust(int(_number(schema, "minLength")), ".")[: int(_number(schema, "maxLength", LONGEST_TEXT))]


def _integer(schema: Schema) -> JsonValue:
    return math.ceil(max(_number(schema, "minimum"), _number(schema, "exclusiveMinimum", -1.0) + 1.0))


def _fraction(schema: Schema) -> JsonValue:
    low = _number(schema, "minimum", _number(schema, "exclusiveMinimum"))
    high = _number(schema, "maximum", _number(schema, "exclusiveMaximum", low + 2.0))
    return (low + high) / 2.0


def _number(schema: Schema, name: str, default: float = 0.0) -> float:
    found = schema.get(name, default)
    return found if isinstance(found, int | float) else default


MAKERS: Final[Mapping[str, Callable[[Schema, Inner], JsonValue]]] = {
    "object": _object,
    "array": _array,
    "string": lambda schema, _: _text(schema),
    "integer": lambda schema, _: _integer(schema),
    "number": lambda schema, _: _fraction(schema),
    "boolean": lambda _schema, _: False,
    "null": lambda _schema, _: None,
}
