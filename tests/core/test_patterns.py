"""Patterns of callers."""

from __future__ import annotations

import time

import pytest

from app.core.errors import InvalidRequest
from app.core.patterns import compiled


def test_it_finds_and_replaces() -> None:
    found = compiled(r"Answer:\s*(\w+)").search("So. Answer: blue.")
    assert found is not None
    assert found.group(1) == "blue"
    assert compiled(r"(\d+) apples").replaced("3 apples, 4 apples", r"\1 pears", most=100) == "3 pears, 4 pears"
    assert compiled("x").search("abc") is None


def test_a_pattern_that_doubles_takes_linear_time() -> None:
    began = time.perf_counter()
    assert compiled("(a+)+$").search("a" * 100_000 + "b") is None
    assert time.perf_counter() - began < 1


def test_a_replacement_stops_where_it_grows_too_long() -> None:
    assert compiled("").replaced("x" * 1_000, "y" * 1_000, most=10_000) is None
    assert compiled("a").replaced("a" * 5, "b", most=5) == "bbbbb"


@pytest.mark.parametrize("source", ["(", "[", r"(?<=a)b", r"\1", "x" * 2_001, "(?:x{1000}){1000}"])
def test_what_is_no_pattern_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequest):
        compiled(source)
