"""JSON schemas as each vendor's native structured output takes them.

What a vendor cannot enforce but can be told is told in the description and validated here afterwards; what it can
neither enforce nor be told is refused before the call, with the field named. Every field is required: an optional
one doubles the states of a vendor's grammar, and a model that leaves it out tells nothing. Defaults are left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

from pydantic import JsonValue

from llm_gateway.errors import UnsupportedSchema

__all__ = ["ANTHROPIC_RULES", "OPENAI_RULES", "SchemaRules", "compile_schema"]

Schema = dict[str, JsonValue]

KEPT: Final = frozenset({"title", "description", "type", "enum", "const"})
LEFT_OUT: Final = frozenset({"default", "examples", "deprecated", "readOnly", "writeOnly"})
LOOKAROUND: Final = re.compile(r"\(\?<?[=!]")
MOST_UNIONS: Final = 16
BOUNDS: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minItems",
        "maxItems",
        "uniqueItems",
    }
)


class SchemaRules(NamedTuple):
    """What one vendor's structured output takes.

    Attributes:
        vendor: Name for messages.
        enforced: Bounds that the vendor enforces; others go into the description.
        formats: String formats it enforces.
        recursion: Whether a schema may contain itself.
        most_min_items: Highest ``minItems`` it enforces; ``None``: any.
        most_unions: Most ``anyOf`` in one schema; ``None``: no limit.
    """

    vendor: str
    enforced: frozenset[str]
    formats: frozenset[str]
    recursion: bool
    most_min_items: int | None = None
    most_unions: int | None = None


FORMATS: Final = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
OPENAI_RULES: Final = SchemaRules(
    vendor="OpenAI",
    enforced=BOUNDS - {"uniqueItems", "minLength", "maxLength"},
    formats=FORMATS - {"uri"},
    recursion=True,
)
ANTHROPIC_RULES: Final = SchemaRules(
    vendor="Anthropic",
    enforced=frozenset({"format", "minItems"}),
    formats=FORMATS,
    recursion=False,
    most_min_items=1,
    most_unions=MOST_UNIONS,
)


@dataclass(slots=True)
class Work:
    """A schema on its way to a vendor."""

    rules: SchemaRules
    definitions: Schema
    recursive: frozenset[str]
    unions: int = 0


def compile_schema(schema: Mapping[str, JsonValue], rules: SchemaRules) -> Schema:
    """Return *schema* as the vendor takes it.

    Raises:
        UnsupportedSchema: a field cannot be expressed; the message names it.
    """
    given = schema.get("$defs")
    definitions = given if isinstance(given, dict) else {}
    work = Work(rules, definitions, _recursive(definitions))
    if work.recursive and not rules.recursion:
        _refuse(f"$defs.{min(work.recursive)}", "contains itself", work)
    compiled = _root({name: part for name, part in schema.items() if name != "$defs"}, work)
    if definitions:
        compiled["$defs"] = {name: _part(part, f"$defs.{name}", work) for name, part in definitions.items()}
    if rules.most_unions is not None and work.unions > rules.most_unions:
        _refuse("$", f"has {work.unions} unions, and {rules.most_unions} are allowed", work)
    return compiled


def _root(schema: Schema, work: Work) -> Schema:
    # Vendors want an object at the root, not a reference to one.
    followed = set[JsonValue]()
    while isinstance(reference := schema.get("$ref"), str) and reference not in followed:
        followed.add(reference)
        schema = _target(reference, "$", work) | {name: part for name, part in schema.items() if name != "$ref"}
    compiled = _node(schema, "$", work)
    if compiled.get("type") != "object":
        _refuse("$", "is not an object", work)
    return compiled


def _part(part: JsonValue, path: str, work: Work) -> Schema:
    if not isinstance(part, dict):
        _refuse(path, "may hold anything", work)
    return _node(part, path, work)


def _node(schema: Schema, path: str, work: Work) -> Schema:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return _reference(schema, reference, path, work)
    unions = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(unions, list):
        return _union(schema, unions, path, work)
    if "enum" in schema or "const" in schema:
        return _kept(schema, path, work)
    kind = schema.get("type")
    shape = SHAPES.get(kind) if isinstance(kind, str) else None
    if shape is None:
        _refuse(path, "may hold anything", work)
    return shape(schema, path, work)


def _reference(schema: Schema, reference: str, path: str, work: Work) -> Schema:
    target = _target(reference, path, work)
    beside = {name: part for name, part in schema.items() if name not in {"$ref", *LEFT_OUT}}
    # A reference stands alone: what pydantic writes beside it is folded into a copy, or lost with a type that contains
    # itself, of which there is no end of copies.
    if not beside or _named(reference) in work.recursive:
        return {"$ref": reference}
    return _node(target | beside, path, work)


def _union(schema: Schema, variants: list[JsonValue], path: str, work: Work) -> Schema:
    work.unions += 1
    kept: Schema = {name: schema[name] for name in ("title", "description") if name in schema}
    told = {
        name: part
        for name, part in schema.items()
        if name not in {"anyOf", "oneOf", "discriminator", "type", *kept, *LEFT_OUT}
    }
    _tell(kept, told)
    kept["anyOf"] = [_part(variant, f"{path}|{number}", work) for number, variant in enumerate(variants)]
    return kept


def _object(schema: Schema, path: str, work: Work) -> Schema:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        _refuse(path, "is a dict with free keys", work)
    if isinstance(schema.get("additionalProperties"), dict) or schema.get("additionalProperties") is True:
        _refuse(path, "allows fields beside its own", work)
    own = {"properties", "required", "additionalProperties"}
    kept = _kept({name: part for name, part in schema.items() if name not in own}, path, work)
    kept["properties"] = {name: _part(part, f"{path}.{name}", work) for name, part in properties.items()}
    # The order matters to vendors that emit fields as they are required.
    kept["required"] = list(properties)
    kept["additionalProperties"] = False
    return kept


def _array(schema: Schema, path: str, work: Work) -> Schema:
    items = schema.get("items")
    if "prefixItems" in schema or not items:
        _refuse(path, "is a tuple, or a list of anything", work)
    kept = _kept({name: part for name, part in schema.items() if name != "items"}, path, work)
    kept["items"] = _part(items, f"{path}[]", work)
    return kept


def _kept(schema: Schema, path: str, work: Work) -> Schema:
    """Keep what the vendor takes, and say the rest in the description."""
    unknown = set(schema) - KEPT - BOUNDS - LEFT_OUT
    if unknown:
        _refuse(path, f"uses {', '.join(sorted(unknown))}", work)
    kept = {name: part for name, part in schema.items() if name in KEPT or _enforces(name, part, work.rules)}
    _tell(kept, {name: part for name, part in schema.items() if name in BOUNDS and name not in kept})
    return kept


def _tell(kept: Schema, bounds: Schema) -> None:
    if bounds:
        said = kept.get("description")
        note = f"{{{', '.join(f'{name}: {part}' for name, part in bounds.items())}}}"
        kept["description"] = f"{said}\n\n{note}" if isinstance(said, str) else note


def _enforces(name: str, value: JsonValue, rules: SchemaRules) -> bool:
    if name not in rules.enforced:
        return False
    if isinstance(value, str):
        return value in rules.formats if name == "format" else LOOKAROUND.search(value) is None
    if name == "minItems" and rules.most_min_items is not None:
        return isinstance(value, int) and value <= rules.most_min_items
    # An infinite bound, which JSON cannot say, says nothing anyway.
    return not isinstance(value, float) or math.isfinite(value)


def _named(reference: str) -> str:
    return reference.rpartition("/")[2]


def _target(reference: str, path: str, work: Work) -> Schema:
    found = work.definitions.get(_named(reference))
    if not isinstance(found, dict):
        _refuse(path, "refers to what is not there", work)
    return found


def _recursive(definitions: Schema) -> frozenset[str]:
    """Return the names of the definitions that contain themselves."""
    edges = {name: _references(part) for name, part in definitions.items()}
    return frozenset(name for name in edges if name in _reached(name, edges))


def _reached(name: str, edges: Mapping[str, list[str]]) -> set[str]:
    reached, ahead = set[str](), list(edges[name])
    while ahead:
        following = ahead.pop()
        if following not in reached:
            reached.add(following)
            ahead.extend(edges.get(following, ()))
    return reached


def _references(value: JsonValue) -> list[str]:
    if isinstance(value, dict):
        own = value.get("$ref")
        inner = [name for part in value.values() for name in _references(part)]
        return [_named(own), *inner] if isinstance(own, str) else inner
    return [name for part in value for name in _references(part)] if isinstance(value, list) else []


def _refuse(path: str, reason: str, work: Work) -> NoReturn:
    message = f"{work.rules.vendor} cannot express the output type: the field {path} {reason}."
    raise UnsupportedSchema(message)


SHAPES: Final[Mapping[str, Callable[[Schema, str, Work], Schema]]] = {
    "object": _object,
    "array": _array,
    **dict.fromkeys(("string", "integer", "number", "boolean", "null"), _kept),
}
