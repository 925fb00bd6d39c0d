"""A small instance of a JSON schema: what a model would answer that obeys it. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from pydantic import JsonValue

__all__ = ["fields_of", "instance_of", "resolved"]

Schema = Mapping[str, JsonValue]
MAX_DEPTH: Final = 6
FORMATS: Final[Mapping[str, str]] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "someone@example.org",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.org/",
}


def instance_of(schema: Schema, note: str = "text") -> JsonValue:
    """Return a value that is valid for *schema*.

    Args:
        schema: JSON schema, as pydantic writes it. ``pattern`` is not followed.
        note: What free text says.
    """
    return _Maker(schema, note).make(schema, 0)


def resolved(schema: Schema, root: Schema) -> Schema:
    """Follow ``$ref``, and take the first branch of a union that is not null."""
    here = schema
    while True:
        reference, branches = here.get("$ref"), _branches(here)
        if isinstance(reference, str):
            here = _at(root, reference)
        elif branches:
            here = next((branch for branch in branches if branch.get("type") != "null"), branches[0])
        else:
            return here


def fields_of(schema: Schema) -> dict[str, Schema]:
    """Return the properties of an object schema, references resolved."""
    here = resolved(schema, schema)
    return {name: resolved(part, schema) for name, part in _properties(here).items()}


def _branches(schema: Schema) -> list[Schema]:
    for keyword in ("anyOf", "oneOf", "allOf"):
        found = schema.get(keyword)
        if isinstance(found, list) and found:
            return [branch for branch in found if isinstance(branch, dict)]
    return []


def _at(root: Schema, reference: str) -> Schema:
    here: JsonValue = dict(root)
    for key in reference.removeprefix("#/").split("/"):
        here = cast("dict[str, JsonValue]", here)[key]
    return cast("Schema", here)


def _properties(schema: Schema) -> dict[str, Schema]:
    found = schema.get("properties")
    return {name: part for name, part in found.items() if isinstance(part, dict)} if isinstance(found, dict) else {}


def _type_of(schema: Schema) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "null")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    return str(kind)


def _number(schema: Schema, keyword: str, default: float) -> float:
    value = schema.get(keyword)
    return float(value) if isinstance(value, int | float) else default


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes values below one root. Optional fields are left out far down, so that recursion ends."""

    root: Schema
    note: str

    def make(self, schema: Schema, depth: int) -> JsonValue:
        here = resolved(schema, self.root)
        if "const" in here:
            return here["const"]
        choices = here.get("enum")
        if isinstance(choices, list):
            return choices[0]
        kind = _type_of(here)
        if kind == "object":
            return self._object(here, depth)
        return self._array(here, depth) if kind == "array" else self._scalar(kind, here)

    def _object(self, schema: Schema, depth: int) -> JsonValue:
        required = schema.get("required")
        must = set(required) if isinstance(required, list) else set[JsonValue]()
        wanted = {name: part for name, part in _properties(schema).items() if depth < MAX_DEPTH or name in must}
        return {name: self.make(part, depth + 1) for name, part in wanted.items()}

    def _array(self, schema: Schema, depth: int) -> JsonValue:
        items = schema.get("items")
        default = 1 if depth < MAX_DEPTH and _number(schema, "maxItems", 1) else 0
        part = items if isinstance(items, dict) else {}
        return [self.make(part, depth + 1) for _ in range(int(_number(schema, "minItems", default)))]

    def _scalar(self, kind: str, schema: Schema) -> JsonValue:
        match kind:
            case "string":
                return _string(schema, self.note)
            case "integer":
                return _integer(schema)
            case "number":
                return _float(schema)
            case _:
                return True if kind == "boolean" else None


def _string(schema: Schema, note: str) -> str:
    known = FORMATS.get(str(schema.get("format")))
    if known is not None:
        return known
    padded = note.ljust(int(_number(schema, "minLength", 0)), ".")
    return padded[: int(_number(schema, "maxLength", len(padded)))]


def _float(schema: Schema) -> float:
    above, below = _number(schema, "exclusiveMinimum", -math.inf), _number(schema, "exclusiveMaximum", math.inf)
    low, high = max(_number(schema, "minimum", -math.inf), above), min(_number(schema, "maximum", math.inf), below)
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    if math.isfinite(low):
        return low + 1.0
    return high - 1.0 if math.isfinite(high) else 1.0


def _integer(schema: Schema) -> int:
    low = max(_number(schema, "minimum", -math.inf), _number(schema, "exclusiveMinimum", -math.inf) + 1)
    high = min(_number(schema, "maximum", math.inf), _number(schema, "exclusiveMaximum", math.inf) - 1)
    start = math.ceil(low) if math.isfinite(low) else math.floor(min(1.0, high))
    step = int(_number(schema, "multipleOf", 1))
    return -(-start // step) * step
