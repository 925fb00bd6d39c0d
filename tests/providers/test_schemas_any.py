"""Any schema at all, as the vendors take it."""

from __future__ import annotations

from typing import Any, Final, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from llm_gateway.errors import UnsupportedSchema
from llm_gateway.providers._schemas import ANTHROPIC_RULES, OPENAI_RULES, SchemaRules, compile_schema

Schema = dict[str, Any]
NAMES: Final = st.sampled_from(["a", "b", "type", "$ref", "anyOf"])
SCALARS: Final = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["string", "date", "x"])
REFERENCES: Final = st.sampled_from(["#/$defs/A", "#/$defs/B", "#/$defs/Gone", "#", ""]).map(lambda to: {"$ref": to})
PLAIN: Final = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object", "file"]).map(
    lambda kind: {"type": kind}
)
EXTRAS: Final = st.dictionaries(
    st.sampled_from(
        ["minimum", "pattern", "format", "minItems", "description", "default", "enum", "const", "title", "ge", "not"]
    ),
    SCALARS | st.lists(SCALARS, max_size=2),
    max_size=2,
)


def added(pair: tuple[Any, Schema]) -> Any:
    """Put keywords into a schema that can have some."""
    schema, extras = pair
    return cast("Schema", schema) | extras if isinstance(schema, dict) else schema


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Put schemas into schemas."""
    fields = st.dictionaries(NAMES, inner, max_size=3)
    return st.one_of(
        fields.map(lambda found: {"type": "object", "properties": found}),
        st.tuples(fields, inner).map(lambda p: {"type": "object", "properties": p[0], "additionalProperties": p[1]}),
        inner.map(lambda found: {"type": "array", "items": found}),
        st.lists(inner, max_size=3).map(lambda found: {"anyOf": found}),
        st.lists(inner, max_size=3).map(lambda found: {"oneOf": found, "discriminator": {"propertyName": "a"}}),
        st.tuples(inner, EXTRAS).map(added),
    )


SCHEMAS: Final = st.recursive(PLAIN | REFERENCES | st.booleans(), larger, max_leaves=12)


@pytest.mark.parametrize("rules", [OPENAI_RULES, ANTHROPIC_RULES], ids=lambda rules: rules.vendor)
@settings(deadline=None)
@given(root=SCHEMAS, a=SCHEMAS, b=SCHEMAS)
def test_any_schema_compiles_or_is_refused(rules: SchemaRules, root: Any, a: Any, b: Any) -> None:
    """Whatever the schema, it is compiled to a closed object, or refused as not supported."""
    fields: dict[str, JsonValue] = {"type": "object", "properties": {"root": root}}
    whole = cast("dict[str, JsonValue]", root) if isinstance(root, dict) else fields
    for schema in (fields | {"$defs": {"A": a, "B": b}}, whole):
        try:
            found = compile_schema(schema, rules)
        except UnsupportedSchema:
            continue
        assert ("object", False) == (found["type"], found["additionalProperties"])
