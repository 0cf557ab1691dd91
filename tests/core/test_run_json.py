"""Results as JSON, whatever models have said."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from app.core.run_json import json_bytes


@dataclass(frozen=True, slots=True)
class Holding:
    value: Any


def written(value: Any) -> Any:
    return orjson.loads(json_bytes(Holding(value)))["value"]


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), 1.5, "é", None, True, {"a": [1, "x"]}])
def test_what_json_carries_is_written_as_it_is(value: Any) -> None:
    assert written(value) == value


def test_a_whole_number_beyond_64_bits_is_written_as_text_and_all_beside_it_as_it_is() -> None:
    assert written({"id": 10**22, "less": -(10**22), "n": 7, "ok": True}) == {
        "id": str(10**22),
        "less": f"-{10**22}",
        "n": 7,
        "ok": True,
    }


def test_a_lone_surrogate_is_written_as_the_sign_for_it_and_a_pair_as_its_character() -> None:
    assert written(["a\ud800b", "\ud83d\ude00"]) == ["a\ufffdb", "\U0001f600"]
    assert written({"\udc00": 1}) == {"\ufffd": 1}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    assert written(nested(150)) == nested(150)
    assert "nested too deeply" in str(written(nested(5_000)))


def test_mappings_are_objects_beside_odd_values_too() -> None:
    assert written(MappingProxyType({"a": (1, 10**30)})) == {"a": [1, str(10**30)]}


def test_what_is_no_data_is_refused() -> None:
    with pytest.raises(TypeError):
        json_bytes(Holding({1, 2}))
