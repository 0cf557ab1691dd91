"""JSON in what models write: every kind of value is read, and what JSON readers elsewhere could not take is refused."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.extraction import JsonAnswer, NumberAnswer, extract
from app.orchestration.evidence.fields import field_consensus
from app.orchestration.evidence.loose_json import held_json, loose_json
from app.orchestration.evidence.stated import stated_confidence


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[]", []),
        (" {} ", {}),
        ("true", True),
        ("false", False),
        ("null", None),
        ("0", 0),
        ("42", 42),
        ('""', ""),
        ('"x"', "x"),
        ("```json\n[]\n```", []),
        ("```\nfalse\n```", False),
        ("None of them is left: []", []),
        ("The object {} has become:\n{}", {}),
        ('Not {} but {"a": 1}', {"a": 1}),
        ('"use {x: [1]}"', "use {x: [1]}"),
        ("-9223372036854775808", -(2**63)),
        ("18446744073709551615", 2**64 - 1),
        (r'{"face": "\ud83d\ude00"}', {"face": "\U0001f600"}),
    ],
)
def test_empty_values_and_scalars_are_json_too(text: str, value: Any):
    read = extract(text, JsonAnswer())
    assert (read.valid, read.data, type(read.data)) == (True, value, type(value))
    assert read.label == json.dumps(value, sort_keys=True, ensure_ascii=False)


@pytest.mark.parametrize("text", ["", "hello", "An int[] has no end", "the set {} is empty", "true story", "[", "{", "12 eggs"])
def test_what_is_only_mentioned_is_no_json(text: str):
    assert extract(text, JsonAnswer()).errors == ("holds no JSON",)


def test_a_schema_decides_whether_an_empty_value_will_do():
    assert extract("[]", JsonAnswer({"type": "array"})).data == []
    assert "does not follow the schema" in extract("[]", JsonAnswer({"type": "array", "minItems": 1})).errors[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"id": 99999999999999999999999}', "an integer beyond 64 bits"),
        ('{"a": [{"b": -9223372036854775809}]}', "an integer beyond 64 bits"),
        ('{"id": 1' + "0" * 400 + "}", "an integer beyond 64 bits"),
        ('{"id": ' + "9" * 5_000 + "}", "a number that JSON has not"),
        ("18446744073709551616", "an integer beyond 64 bits"),
        ("NaN", "a number that JSON has not"),
        ('{"v": NaN}', "a number that JSON has not"),
        ('{"v": [-Infinity]}', "a number that JSON has not"),
        ('{"v": 1e999}', "a number that JSON has not"),
        (r'{"id": "\ud800"}', "half a character"),
        (r'{"\udc00": 1}', "half a character"),
        ("[" * 150 + "1" + "]" * 150, "JSON more than 100 deep"),
    ],
)
def test_what_cannot_be_passed_on_as_json_is_no_answer_and_the_reason_is_told(text: str, reason: str):
    read = extract(text, JsonAnswer())
    assert (read.data, read.label, read.valid) == (None, None, False)
    assert read.errors[0].startswith(f"holds {reason}")
    assert loose_json(text) is None


awkward = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**62, 2**66)
    | st.floats()
    | st.text(st.characters(), max_size=6)
    | st.sampled_from(["\ud800", "a\udfffb", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(awkward, st.booleans())
def test_whatever_is_read_can_be_written_and_counted(value: Any, plain: bool):
    text = json.dumps(value, ensure_ascii=plain)
    found = held_json(text)
    assert found is not None
    if found.fault is None:
        assert orjson.loads(orjson.dumps(found.value)) == orjson.loads(text) == value
    read = extract(text, JsonAnswer(), stated=True)
    assert read.valid == (found.fault is None)
    orjson.dumps([read.data, read.label, read.errors, read.stated, field_consensus([read.data, 1, "x"]).value])


def test_numbers_stay_finite_in_every_unit():
    assert extract("1e308 km", NumberAnswer("mm")).errors == ("says no number",)
    assert extract('{"answer": 1' + "0" * 400 + "}", NumberAnswer()).errors == ("says no number",)
    assert stated_confidence("", {"confidence": float("nan")}) is None


def test_long_ids_are_told_apart_to_the_last_digit():
    found = field_consensus([{"id": 12345678901234567}, {"id": 12345678901234568}, {"id": 12345678901234568}])
    assert found.value == {"id": 12345678901234568}
    assert found.agreement == pytest.approx(2 / 3)
    assert field_consensus([10**400, 10**400, 1]).value == 10**400
