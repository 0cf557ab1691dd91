"""JSON schemas of callers."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.errors import InvalidRequest
from app.core.json_schemas import at_pointer, compiled

POINT = {"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "required": ["x"], "$defs": {"n": {"type": "integer"}}}


def doubling(steps: int) -> dict[str, Any]:
    """A schema of which each step refers to the next one twice."""
    defs: dict[str, Any] = {
        f"s{n}": {"anyOf": [{"$ref": f"#/$defs/s{n + 1}"}, {"$ref": f"#/$defs/s{n + 1}"}]} for n in range(steps)
    }
    return {"$defs": {**defs, f"s{steps}": {"type": "string"}}, "$ref": "#/$defs/s0"}


@pytest.mark.parametrize(
    ("value", "fault"), [({"x": 1}, None), ({"x": "1"}, '"1" is not of type "integer" (at /x)'), ([], "is not of type")]
)
def test_what_is_wrong_with_a_value_is_said(value: Any, fault: str | None) -> None:
    found = compiled(POINT).fault(value)
    assert found is None if fault is None else fault in str(found)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "nonsense"}, "is no JSON schema"),
        ({"$ref": "http://127.0.0.1:9/schema"}, "only its own parts"),
        ({"$ref": "#/$defs/none"}, "is not there"),
        ({"properties": {"next": {"$ref": "#"}}}, "in a circle"),
        ({"$dynamicRef": "#x"}, r"uses \$dynamicRef"),
        ({"$defs": {"a": {"$id": "http://x.test/", "type": "string"}}}, r"uses \$id"),
        (doubling(30), "more than 10000 members"),
        ({"pattern": "(?<=a)b"}, "is no JSON schema"),
    ],
)
def test_what_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        compiled(schema)


def test_a_schema_that_nests_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5_000):
        schema = {"not": schema}
    with pytest.raises(InvalidRequest, match="nests too deep"):
        compiled(schema)


def test_references_are_followed_a_few_times_over() -> None:
    assert compiled(doubling(5)).fault(1) is not None


def test_pointers() -> None:
    value = {"a/b": [{"~": 7}]}
    assert at_pointer(value, "") is value
    assert at_pointer(value, "/a~1b/0/~0") == 7
    for pointer in ("/a", "/a~1b/1", "/a~1b/x", "/a~1b/0/~0/y"):
        with pytest.raises(LookupError):
            at_pointer(value, pointer)
