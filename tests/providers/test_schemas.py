"""Schemas as the vendors take them: every trap of native structured output."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

import pytest
from anthropic import transform_schema
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, Json, JsonValue, TypeAdapter
from tests.providers.output_types import Bounds, Cat, Chain, Described, Dog, Free, Nested, Plan, Point, Values, Zoo
from tests.providers.vendors import City, Country, Node

from llm_gateway._core.schema import output_type_of
from llm_gateway.errors import UnsupportedSchema
from llm_gateway.providers._schemas import ANTHROPIC_RULES, OPENAI_RULES, SchemaRules, compile_schema

VENDORS: Final = {"openai": OPENAI_RULES, "anthropic": ANTHROPIC_RULES}
BOTH: Final = pytest.mark.parametrize("rules", VENDORS.values(), ids=list(VENDORS))
OPENAI_KEYWORDS: Final = {
    *("$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "exclusiveMaximum"),
    *("exclusiveMinimum", "format", "items", "maxItems", "maximum", "minItems", "minimum", "multipleOf", "pattern"),
    *("properties", "required", "title", "type"),
}
ANTHROPIC_KEYWORDS: Final = {
    *("$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "format", "items", "minItems"),
    *("properties", "required", "title", "type"),
}
KEYWORDS: Final = {"openai": OPENAI_KEYWORDS, "anthropic": ANTHROPIC_KEYWORDS}


CORPUS: Final = [City, Country, Zoo, Bounds, Values, Plan, Described, list[City], int, Literal["A", "B"], Cat | Dog]


def compiled(output_type: object, rules: SchemaRules) -> dict[str, JsonValue]:
    """Compile the schema of a type, which must not change by that."""
    schema = output_type_of(cast("type[object]", output_type)).schema.json_schema
    assert schema is not None
    before = copy.deepcopy(schema)
    result = compile_schema(schema, rules)
    assert before == schema
    return result


def field(output_type: object, name: str, rules: SchemaRules) -> dict[str, JsonValue]:
    """Compile one field."""
    return cast("dict[str, JsonValue]", cast("Any", compiled(output_type, rules))["properties"][name])


def nodes(schema: JsonValue) -> list[dict[str, JsonValue]]:
    """Return every schema within a schema."""
    if not isinstance(schema, dict):
        return []
    inner = [schema.get("items"), *cast("list[JsonValue]", schema.get("anyOf", []))]
    for name in ("properties", "$defs"):
        inner.extend(cast("Mapping[str, JsonValue]", schema.get(name, {})).values())
    return [schema, *(found for part in inner for found in nodes(part))]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("output_type", CORPUS, ids=str)
def test_strict_shape(output_type: object, vendor: str) -> None:
    """Every object is closed and requires its fields in their order, and no keyword is left that the vendor rejects."""
    schema = compiled(output_type, VENDORS[vendor])

    assert "object" == schema["type"]
    for node in nodes(schema):
        assert set() == set(node) - KEYWORDS[vendor]
        assert "$ref" not in node or {"$ref"} == set(node)
        if node.get("type") == "object":
            assert (list(cast("Any", node["properties"])), False) == (node["required"], node["additionalProperties"])


@pytest.mark.parametrize("output_type", [*CORPUS, Node], ids=str)
def test_openai_client_finds_nothing_to_make_stricter(output_type: object) -> None:
    """The vendor's own client, which makes schemas strict, leaves a compiled schema as it is."""
    schema = compiled(output_type, OPENAI_RULES)

    assert schema == to_strict_json_schema(written(copy.deepcopy(schema)))


@pytest.mark.parametrize("output_type", CORPUS, ids=str)
def test_anthropic_client_finds_nothing_to_move(output_type: object) -> None:
    """The vendor's own client, which moves what is not enforced, leaves a compiled schema as it is but for types."""
    schema = compiled(output_type, ANTHROPIC_RULES)

    assert untyped(schema) == untyped(cast("JsonValue", transform_schema(cast("Any", copy.deepcopy(schema)))))


def written(schema: dict[str, JsonValue]) -> type[BaseModel]:
    """Make a type that has a schema already."""

    class Written(BaseModel):
        @classmethod
        def model_json_schema(cls, *_: Any, **__: Any) -> dict[str, Any]:
            return schema

    return Written


def untyped(schema: JsonValue) -> JsonValue:
    """Leave out the types that stand beside a choice."""
    if isinstance(schema, list):
        return [untyped(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    choice = "enum" in schema or "const" in schema
    return {name: untyped(part) for name, part in schema.items() if not (choice and name == "type")}


@pytest.mark.parametrize(
    ("name", "openai", "anthropic"),
    [
        (
            "score",
            {"description": "From 1 to 6.", "maximum": 6, "minimum": 1, "type": "integer"},
            {"description": "From 1 to 6.\n\n{maximum: 6, minimum: 1}", "type": "integer"},
        ),
        (
            "share",
            {"exclusiveMaximum": 1.0, "exclusiveMinimum": 0.0, "type": "number"},
            {"description": "{exclusiveMaximum: 1.0, exclusiveMinimum: 0.0}", "type": "number"},
        ),
        ("half", {"multipleOf": 0.5, "type": "number"}, {"description": "{multipleOf: 0.5}", "type": "number"}),
        (
            "word",
            {"description": "{maxLength: 9, minLength: 2}", "type": "string"},
            {"description": "{maxLength: 9, minLength: 2}", "type": "string"},
        ),
        (
            "code",
            {"pattern": "^[A-Z]{2}$", "type": "string"},
            {"description": "{pattern: ^[A-Z]{2}$}", "type": "string"},
        ),
        (
            "reasons",
            {"items": {"type": "string"}, "maxItems": 3, "minItems": 2, "type": "array"},
            {"description": "{maxItems: 3, minItems: 2}", "items": {"type": "string"}, "type": "array"},
        ),
        (
            "some",
            {"items": {"type": "string"}, "minItems": 1, "type": "array"},
            {"items": {"type": "string"}, "minItems": 1, "type": "array"},
        ),
        (
            "tags",
            {"description": "{uniqueItems: True}", "items": {"type": "string"}, "type": "array"},
            {"description": "{uniqueItems: True}", "items": {"type": "string"}, "type": "array"},
        ),
        (
            "either",
            {"description": "{ge: 1}", "anyOf": [{"type": "integer"}, {"type": "number"}]},
            {"description": "{ge: 1}", "anyOf": [{"type": "integer"}, {"type": "number"}]},
        ),
    ],
)
def test_bounds(name: str, openai: dict[str, JsonValue], anthropic: dict[str, JsonValue]) -> None:
    """A bound that the vendor enforces stays, and any other is told in the description."""
    for rules, expected in ((OPENAI_RULES, openai), (ANTHROPIC_RULES, anthropic)):
        found = field(Bounds, name, rules)
        assert {"title": name.capitalize(), **expected} == found


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b"])
def test_lookaround_is_told(pattern: str) -> None:
    """A pattern that looks around, which OpenAI rejects, is told in the description."""
    schema = compile_schema(object_of(code={"type": "string", "pattern": pattern}), OPENAI_RULES)

    assert {"type": "string", "description": f"{{pattern: {pattern}}}"} == cast("Any", schema)["properties"]["code"]


@BOTH
def test_formats(rules: SchemaRules) -> None:
    """A format that vendors know stays, and any other is told."""
    schema = object_of(day={"type": "string", "format": "date"}, raw={"type": "string", "format": "binary"})

    expected = {
        "day": {"type": "string", "format": "date"},
        "raw": {"type": "string", "description": "{format: binary}"},
    }
    assert expected == compile_schema(schema, rules)["properties"]


@BOTH
def test_infinite_bound(rules: SchemaRules) -> None:
    """An infinite bound, which JSON cannot say, does not reach the wire as a number."""
    schema = compile_schema(object_of(share={"type": "number", "maximum": float("inf")}), rules)

    assert "Infinity" not in json.dumps(schema, allow_nan=False)


@BOTH
def test_defaults_are_left_out(rules: SchemaRules) -> None:
    """A field with a default is required, and its default is not sent."""
    schema = compiled(Values, rules)

    assert "count" in cast("list[str]", schema["required"])
    assert {"title": "Count", "type": "integer"} == field(Values, "count", rules)
    assert {"anyOf": [{"type": "string"}, {"type": "null"}], "title": "Comment"} == field(Values, "comment", rules)


@BOTH
def test_required_follows_the_fields(rules: SchemaRules) -> None:
    """The required names stand in the order of the fields, for vendors that write in that order."""

    class Reasoned(BaseModel):
        rationale: str
        confidence: float = 0.5
        winner: Literal["A", "B"]

    assert ["rationale", "confidence", "winner"] == compiled(Reasoned, rules)["required"]


@BOTH
def test_discriminated_union(rules: SchemaRules) -> None:
    """A discriminated union is an ordinary one, with its description and without its discriminator."""
    branches: list[JsonValue] = [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    expected = {"title": "Star", "description": "Who draws the crowd.", "anyOf": branches}
    assert expected == field(Zoo, "star", rules)


@BOTH
def test_reference_with_neighbours(rules: SchemaRules) -> None:
    """What stands beside a reference is folded into a copy of what it refers to."""
    schema = compiled(Described, rules)
    home, city = cast("Any", schema)["properties"]["home"], cast("Any", schema)["$defs"]["City"]

    assert {**city, "description": "Where it was born."} == home


def test_recursion() -> None:
    """A type that contains itself is taken by OpenAI, as an object at the root, and refused for Anthropic."""
    schema = compiled(Node, OPENAI_RULES)

    assert {name: part for name, part in schema.items() if name != "$defs"} == cast("Any", schema)["$defs"]["Node"]
    with pytest.raises(UnsupportedSchema, match=r"\$defs\.Node contains itself"):
        compiled(Node, ANTHROPIC_RULES)


def test_described_recursion() -> None:
    """A described reference of a type to itself is a reference, without its description."""
    following = field(Chain, "following", OPENAI_RULES)

    assert [{"$ref": "#/$defs/Chain"}, {"type": "null"}] == following["anyOf"]


def test_recursion_through_others() -> None:
    """Two types that contain each other are refused for Anthropic."""
    ends = {"A": object_of(b={"$ref": "#/$defs/B"}), "B": object_of(a={"$ref": "#/$defs/A"})}
    with pytest.raises(UnsupportedSchema, match=r"\$defs\.A contains itself"):
        compile_schema({**object_of(a={"$ref": "#/$defs/A"}), "$defs": cast("JsonValue", ends)}, ANTHROPIC_RULES)


def test_recursive_alias() -> None:
    """A recursive list has an object around it, as any type that is no object."""
    schema = compiled(TypeAdapter[object](Nested), OPENAI_RULES)

    assert ("object", ["value"]) == (schema["type"], schema["required"])


@BOTH
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (dict[str, int], "dict with free keys"),
        (dict[str, City], "dict with free keys"),
        (dict, "dict with free keys"),
        (tuple[int, str], "tuple"),
        (Point, "tuple"),
        (list[Any], "list of anything|may hold anything"),
        (list, "list of anything|may hold anything"),
        (Any, "may hold anything"),
        (object, "may hold anything"),
        (JsonValue, "may hold anything"),
        (Json[int], "uses contentMediaType"),
    ],
    ids=str,
)
def test_what_cannot_be_expressed(kind: object, reason: str, rules: SchemaRules) -> None:
    """A field that the vendor could only fill wrongly is refused by its name, before any call."""
    fields: dict[str, Any] = {"__annotations__": {"fine": str, "rubric": kind, "last": int}}
    model = type("Holder", (BaseModel,), {"__module__": __name__, **fields})

    with pytest.raises(UnsupportedSchema, match=rf"the field (\$\.rubric|\$defs\.\w+)\S* .*({reason})"):
        compiled(model, rules)


@BOTH
def test_free_fields_are_refused(rules: SchemaRules) -> None:
    """A type that takes any field beside its own is refused, also deep inside."""
    with pytest.raises(UnsupportedSchema, match=r"the field \$defs\.Free allows fields beside its own"):
        compiled(list[Free], rules)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"$ref": "#/$defs/Gone"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/Gone"}}},
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}}},
        {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}]}}},
        {"type": "object", "properties": {}, "patternProperties": {"^x": {"type": "string"}}},
        {"type": "object", "properties": {"a": {"type": "array", "items": False}}},
        {"type": "object", "properties": {"a": {"anyOf": [True]}}},
        {"type": "object", "$defs": {"A": 7}, "properties": {}},
    ],
)
@BOTH
def test_odd_schemas(schema: dict[str, JsonValue], rules: SchemaRules) -> None:
    """A schema that no vendor takes at its root or inside is refused."""
    with pytest.raises(UnsupportedSchema):
        compile_schema(schema, rules)


def test_too_many_unions() -> None:
    """Anthropic takes 16 unions, a seventeenth is refused, and OpenAI takes them all."""
    fields = {f"f{number}": nullable() for number in range(17)}
    few = object_of(**dict(list(fields.items())[:16]))

    assert few == compile_schema(few, ANTHROPIC_RULES)
    with pytest.raises(UnsupportedSchema, match="has 17 unions, and 16 are allowed"):
        compile_schema(object_of(**fields), ANTHROPIC_RULES)
    assert object_of(**fields) == compile_schema(object_of(**fields), OPENAI_RULES)


@BOTH
def test_choices(rules: SchemaRules) -> None:
    """Enums and literals keep their values, also of several types."""
    schema = cast("Any", compiled(Values, rules))

    assert [1, 2] == schema["$defs"]["Level"]["enum"]
    assert ["good", "bad", 1, None] == schema["properties"]["mood"]["enum"]


def nullable() -> JsonValue:
    return {"anyOf": [{"type": "string"}, {"type": "null"}]}


def object_of(**fields: JsonValue) -> dict[str, JsonValue]:
    """Make the strict schema of an object."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }
