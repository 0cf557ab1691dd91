from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.mock.schema_values import Known, instance

LEAVES = st.one_of(
    st.builds(
        lambda least, size: {"type": "string", "minLength": least, "maxLength": least + size},
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.sampled_from(
        [{"type": "string", "format": "date"}, {"type": "string", "format": "uuid"}, {"type": "boolean"}, {"type": "null"}]
    ),
    st.builds(
        lambda low, size: {"type": "integer", "minimum": low, "maximum": low + size}, st.integers(-9, 9), st.integers(0, 9)
    ),
    st.builds(lambda low: {"type": "integer", "exclusiveMinimum": low, "multipleOf": 3}, st.integers(-9, 9)),
    st.builds(lambda high: {"type": "number", "exclusiveMaximum": high}, st.integers(-9, 9)),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers() | st.text(max_size=3), min_size=1, unique=True)),
    st.builds(lambda value: {"const": value}, st.integers() | st.none()),
    st.just({"type": ["string", "null"]}),
    st.just(True),
)


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["answer", "items", "score", "name"]), inner).map(_object),
        st.builds(
            lambda items, n: {"type": "array", "items": items, "minItems": n, "maxItems": n + 2}, inner, st.integers(0, 3)
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.sampled_from([Known(), Known({"answer": 4, "name": "Ada", "items": ["x"]}, "some text", 0.7)]))
def test_an_instance_is_valid_against_its_schema(schema: dict[str, Any], known: Known):
    value = instance(schema, known)
    assert jsonschema_rs.is_valid(schema, value), value


def test_a_schema_that_asks_for_endless_instances_gets_an_end():
    node = {"type": "object", "properties": {name: {"$ref": "#"} for name in "abcdefgh"}, "required": ["a", "b", "c"]}
    assert set(instance(node)) == set("abcdefgh")


def test_references_are_followed_and_recursion_ends():
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    }
    schema = {"$defs": {"node": node}, "allOf": [{"$ref": "#/$defs/node"}, {"required": ["name"]}]}
    value = instance(schema)
    assert value["name"] == "text"
    assert jsonschema_rs.is_valid(schema, value)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "object", "properties": {"Answer": {"type": "string"}}}, {"Answer": "Paris"}),
        ({"type": "object", "properties": {"answer": {"enum": ["Lyon", "Paris"]}}}, {"answer": "Paris"}),
        ({"type": "object", "properties": {"answer": {"anyOf": [{"type": "null"}, {"type": "string"}]}}}, {"answer": "Paris"}),
        ({"type": "object", "properties": {"answer": {"type": "string", "maxLength": 2}}}, {"answer": "te"}),
        ({"type": "object", "properties": {"other": {"type": "string", "default": "d"}}}, {"other": "d"}),
    ],
)
def test_what_is_known_goes_where_it_fits(schema: dict[str, Any], expected: dict[str, Any]):
    assert instance(schema, Known({"answer": "Paris"})) == expected
