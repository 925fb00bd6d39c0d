"""JSON schemas as each vendor's native structured output takes them.

What a vendor cannot enforce but can be told is told in the description and validated here afterwards; what it can
neither enforce nor be told is refused before the call, with the field named. Every field is required: an optional
one doubles the states of a vendor's grammar, and a model that leaves it out tells nothing. Defaults are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from pydantic import JsonValue

from llm_gateway.errors import UnsupportedSchema

__all__ = ["ANTHROPIC_RULES", "OPENAI_RULES", "SchemaRules", "compile_schema"]

Schema = dict[str, JsonValue]

ANNOTATIONS: Final = frozenset({"title", "description", "$defs", "$ref", "type", "enum", "const", "anyOf"})
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRules:
    """What one vendor's structured output takes.

    Attributes:
        vendor: Name for messages.
        enforced: Bounds that the vendor enforces; others go into the description.
        formats: String formats it enforces.
        recursion: Whether a schema may contain itself.
        most_unions: Most ``anyOf`` in one schema; ``None``: no limit.
    """

    vendor: str
    enforced: frozenset[str]
    formats: frozenset[str]
    recursion: bool
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
    enforced=frozenset({"format"}),
    formats=FORMATS,
    recursion=False,
    most_unions=MOST_UNIONS,
)


@dataclass(slots=True)
class Work:
    """A schema on its way to a vendor."""

    rules: SchemaRules
    definitions: Schema
    unions: int = 0


def compile_schema(schema: Mapping[str, JsonValue], rules: SchemaRules) -> Schema:
    """Return *schema* as the vendor takes it.

    Raises:
        UnsupportedSchema: a field cannot be expressed; the message names it.
    """
    definitions = schema.get("$defs")
    work = Work(rules, definitions if isinstance(definitions, dict) else {})
    compiled = _node({name: part for name, part in schema.items() if name != "$defs"}, "$", work)
    if "$ref" in compiled:
        # Vendors want an object at the root, not a reference to one.
        compiled = _node(_resolved(str(compiled["$ref"]), work), "$", work)
    if work.definitions:
        compiled["$defs"] = {
            name: _node(part, f"$defs.{name}", work)
            for name, part in work.definitions.items()
            if isinstance(part, dict)
        }
    if not rules.recursion:
        _refuse_recursion(work)
    if rules.most_unions is not None and work.unions > rules.most_unions:
        _refuse("$", f"has {work.unions} unions, and {rules.most_unions} are allowed", work)
    return compiled


def _node(schema: Schema, path: str, work: Work) -> Schema:
    reference = schema.get("$ref")
    if isinstance(reference, str):
        beside = {name: part for name, part in schema.items() if name not in {"$ref", "default"}}
        # A reference stands alone; what pydantic writes beside it is folded into a copy.
        return {"$ref": reference} if not beside else _node(_resolved(reference, work) | beside, path, work)
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


def _union(schema: Schema, variants: list[JsonValue], path: str, work: Work) -> Schema:
    work.unions += 1
    kept: Schema = {name: schema[name] for name in ("title", "description") if name in schema}
    kept["anyOf"] = [
        _node(variant, f"{path}|{number}", work) for number, variant in enumerate(variants) if isinstance(variant, dict)
    ]
    return kept


def _object(schema: Schema, path: str, work: Work) -> Schema:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        _refuse(path, "is a dict with free keys", work)
    if isinstance(schema.get("additionalProperties"), dict) or schema.get("additionalProperties") is True:
        _refuse(path, "allows fields beside its own", work)
    kept: Schema = {name: schema[name] for name in ("title", "description") if name in schema}
    kept["type"] = "object"
    kept["properties"] = {
        name: _node(part, f"{path}.{name}", work) for name, part in properties.items() if isinstance(part, dict)
    }
    # The order matters to vendors that emit fields as they are required.
    kept["required"] = list(properties)
    kept["additionalProperties"] = False
    return kept


def _array(schema: Schema, path: str, work: Work) -> Schema:
    items = schema.get("items")
    if "prefixItems" in schema or not isinstance(items, dict):
        _refuse(path, "is a tuple, or a list of anything", work)
    kept = _kept({name: part for name, part in schema.items() if name != "items"}, path, work)
    kept["items"] = _node(items, f"{path}[]", work)
    return kept


def _kept(schema: Schema, path: str, work: Work) -> Schema:
    """Keep what the vendor takes, and say the rest in the description."""
    unknown = set(schema) - ANNOTATIONS - BOUNDS - {"default", "examples", "deprecated"}
    if unknown:
        _refuse(path, f"uses {', '.join(sorted(unknown))}", work)
    kept = {name: part for name, part in schema.items() if name in ANNOTATIONS or _enforces(name, part, work.rules)}
    told = [f"{name}: {part}" for name, part in schema.items() if name in BOUNDS and name not in kept]
    if told:
        said = kept.get("description")
        note = f"{{{', '.join(told)}}}"
        kept["description"] = f"{said}\n\n{note}" if isinstance(said, str) else note
    return kept


def _enforces(name: str, value: JsonValue, rules: SchemaRules) -> bool:
    return name in rules.enforced and (name != "format" or value in rules.formats)


def _resolved(reference: str, work: Work) -> Schema:
    found = work.definitions.get(reference.rpartition("/")[2])
    return found if isinstance(found, dict) else {}


def _refuse_recursion(work: Work) -> None:
    edges = {name: _references(part) for name, part in work.definitions.items()}
    for name, direct in edges.items():
        reached, ahead = set[str](), list(direct)
        while ahead:
            following = ahead.pop()
            if following not in reached:
                reached.add(following)
                ahead.extend(edges.get(following, ()))
        if name in reached:
            _refuse(f"$defs.{name}", "contains itself", work)


def _references(value: JsonValue) -> list[str]:
    if isinstance(value, dict):
        own = value.get("$ref")
        inner = [name for part in value.values() for name in _references(part)]
        return [own.rpartition("/")[2], *inner] if isinstance(own, str) else inner
    return [name for part in value for name in _references(part)] if isinstance(value, list) else []


def _refuse(path: str, reason: str, work: Work) -> NoReturn:
    message = f"{work.rules.vendor} cannot express the output type: the field {path} {reason}."
    raise UnsupportedSchema(message)


SHAPES: Final[Mapping[str, Callable[[Schema, str, Work], Schema]]] = {
    "object": _object,
    "array": _array,
    **dict.fromkeys(("string", "integer", "number", "boolean", "null"), _kept),
}
