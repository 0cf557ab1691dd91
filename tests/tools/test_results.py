"""What comes out of tools is bounded and made of what JSON can say."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tools.results import MAX_DEPTH, jsonable, safe

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=40,
)


@given(JSON, st.integers(256, 2_000))
def test_any_value_becomes_json_within_the_bound(value: Any, most: int) -> None:
    found = safe(value, most)
    assert len(found.text.encode()) <= most
    orjson.dumps(found.value)
    if not found.truncated and isinstance(value, list | dict):
        assert orjson.loads(found.text) == found.value


def test_a_text_of_ten_megabytes_is_cut_to_its_beginning() -> None:
    found = safe("é" * 5_000_000, 1_000)
    assert found.truncated
    assert found.value == "é" * 500


def test_long_json_becomes_the_beginning_of_its_text() -> None:
    found = safe([{"n": number} for number in range(10_000)], 1_000)
    assert found.truncated
    assert found.text.startswith('[{"n":0},{"n":1}')
    assert len(found.text) == 1_000


def test_what_nests_too_deep_is_cut_off_there() -> None:
    value: Any = "bottom"
    for _ in range(5_000):
        value = [value]
    found = safe(value, 10_000)
    assert found.truncated
    assert found.text.count("[") == MAX_DEPTH + 1  # the mark has one of its own


def test_a_wide_value_is_cut_off_before_it_is_copied() -> None:
    found = safe([0] * 10_000_000, 1_000_000)
    assert found.truncated
    assert len(found.text) < 200_000


def test_control_characters_and_half_characters_are_left_out() -> None:
    assert safe("\x1b[31mred\x00 \ud83d \u009b\ttab\n", 1_000).text == "[31mred ? \ttab\n"
    assert safe({"a\x07": ["\x1b"]}, 1_000).value == {"a": [""]}


def test_numbers_that_json_has_not_are_texts() -> None:
    assert safe(2**70, 1_000).value == str(2**70)
    assert safe([math.nan, math.inf, 2**70, 1.5], 1_000).value == ["nan", "inf", str(2**70), 1.5]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert jsonable(b"caf\xe9") == "caf\ufffd"
    assert jsonable({"a": [b"\xff", 1]}) == {"a": ["\ufffd", 1]}
    with pytest.raises(ValueError, match="no JSON"):
        jsonable(object())


@pytest.mark.parametrize("more", [1, b"\xff"])
def test_what_nests_too_deep_to_be_read_is_cut_like_all_that_is_deep(more: Any) -> None:
    deep: Any = more
    for _ in range(2_000):
        deep = [deep, {"more": more}]
    found = safe(jsonable({"first": 1, "deep": deep}), 100_000)
    assert (found.value["first"], found.truncated) == (1, True)
    assert "[deeper levels left out]" in found.text


def test_what_nests_too_deep_and_branches_everywhere_is_small_all_the_same() -> None:
    deep: Any = 1
    for _ in range(2_000):
        deep = [deep, deep]
    found = safe(jsonable(deep), 10_000_000)
    assert found.truncated
    assert len(found.text) < 5_000_000


def test_what_holds_itself_has_no_end_and_is_no_json() -> None:
    endless: list[Any] = []
    endless += [endless, endless]
    with pytest.raises(ValueError, match="no JSON"):
        jsonable(endless)
