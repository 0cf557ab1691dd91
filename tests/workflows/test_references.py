"""What stands between `${` and `}`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidRequest
from app.workflows.binding import bound_condition, bound_expression
from app.workflows.references import Path, Unfound, at, filled, in_text, parse_reference

VALUES: dict[str, Any] = {"inputs": {"a": "x", "n": 3, "list": [{"b": 1}], "odd name": True, "none": None}}


def find(path: Path) -> Any:
    return at(VALUES, path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("${inputs.n}", 3),
        ("${ inputs.list[0].b }", 1),
        ('${inputs["odd name"]}', True),
        ("n=${inputs.n}, a=${inputs.a}", "n=3, a=x"),
        ("$${inputs.n} is ${inputs.n}", "${inputs.n} is 3"),
        ("${inputs.no ?? inputs.a}", "x"),
        ("${inputs.none ?? 0.5}", 0.5),
        ('${inputs.no ?? inputs.none ?? "else"}', "else"),
        ({"k": ["${inputs.a}"]}, {"k": ["x"]}),
        ('${inputs.no ?? "what ?? really"}', "what ?? really"),
        ('${inputs.no ?? "a } and a { and \\" too"}', 'a } and a { and " too'),
        ('"${inputs.a}" or ${inputs.no ?? "}"}!', '"x" or }!'),
        ('${inputs["odd } ?? name"] ?? inputs.a}', "x"),
        ("${inputs.no ?? {}}", {}),
        ('${inputs.no ?? {"a": {"b": {"c": [1, "}"]}}}}', {"a": {"b": {"c": [1, "}"]}}}),
    ],
)
def test_a_reference_is_the_value_and_inside_of_a_text_its_text(text: Any, value: Any):
    assert filled(text, find) == value


def test_what_leads_nowhere_is_said():
    with pytest.raises(Unfound):
        filled("${inputs.no}", find)
    assert filled(["${inputs.no}"], find, missing=None) == [None]


@pytest.mark.parametrize("text", ["", "inputs.", "1", "inputs..a", "inputs.a ?? b c", "env.PATH", "steps.a ?? ?? 1", "null"])
def test_what_is_no_reference_is_refused(text: str):
    with pytest.raises(InvalidRequest):
        parse_reference(text)


def test_an_expression_sees_what_it_refers_to_and_nothing_else():
    bound = bound_expression("${inputs.n} * 2 + size(${inputs.a})")
    assert sorted(bound.values(find).values(), key=str) == [3, "x"]
    with pytest.raises(InvalidRequest, match="write what it reads as a reference"):
        bound_condition("steps.a.output > 1")
    with pytest.raises(InvalidRequest, match="stands inside of a quoted text"):
        bound_condition("'${inputs.a}' == 'x'")
    bound = bound_expression("""${inputs.no ?? "} ?? '"} + 'y'""")
    assert list(bound.values(find).values()) == ["} ?? '"]


@pytest.mark.parametrize(
    "text", ['${inputs.a ?? "open}', "${inputs.a ?? {}", '${inputs.a ?? {"a": {"b": {"c": {"d": {}}}}}}', "${"]
)
def test_a_reference_that_does_not_end_is_refused(text: str):
    with pytest.raises(InvalidRequest, match="without its '}'"):
        tuple(in_text(text))


@pytest.mark.parametrize("source", ["1 +", "x" * 2_001, "[1].map(x, [2].map(y, y))", "(" * 40 + "1" + ")" * 40])
def test_expressions_have_the_bounds_of_all_conditions(source: str):
    with pytest.raises(InvalidRequest):
        bound_expression(source)


@given(st.text(max_size=60))
def test_any_text_is_filled_or_refused(text: str):
    with suppress(InvalidRequest, Unfound):
        filled(text, find)
