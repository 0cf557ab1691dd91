"""Numbers as people write them, and one label for one value."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.numbers import Number, known_unit, number, number_label, numbers, plain


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("$1,234,567.50", 1234567.5),
        ("1 234 567", 1234567),
        ("1.234.567,5", 1234567.5),
        ("3,5", 3.5),
        ("-7", -7),
        ("−7", -7),
        ("$-15", -15),
        ("-$15", -15),
        ("3/4", 0.75),
        ("1 1/2", 1.5),
        (r"\frac{3}{4}", 0.75),
        (r"$\dfrac{1}{8}$", 0.125),
        (r"1{,}200", 1200),
        (r"1\,200", 1200),
        (r"50\%", 50),
        (r"12\text{ apples}", 12),
        ("1.5e3", 1500),
        ("2.5 million", 2_500_000),
        ("4k", 4000),
        ("**42**", 42),
        ("seven", 7),
        (".5", 0.5),
        ("The total is 3 + 4 = 7 apples.", 7),
        ("<<3+4=7>>7", 7),
        ("€99", 99),
    ],
)
def test_a_number_is_read_from(text, value):
    assert number(text) is not None
    assert number(text).value == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "none at all", "1/0", "v1.2.3b", "abc123"])
def test_no_number_is_read_from(text):
    assert number(text) is None


def test_all_numbers_of_a_sentence_come_in_order_with_their_units():
    found = numbers(plain("3 km in 20 minutes at $4.50, so 50%"))
    assert [(one.value, known_unit(one.unit)) for one in found] == [(3, "km"), (20, "min"), (4.5, "$"), (50, "%")]


@pytest.mark.parametrize(
    ("given_number", "unit", "value"),
    [
        (Number(3, "km"), "m", 3000),
        (Number(90, "minutes"), "hours", 1.5),
        (Number(250, "Grams"), "kg", 0.25),
        (Number(50, "cents"), "dollars", 0.5),
        (Number(20, "%"), "", 20),
        (Number(3, "apples"), "kg", 3),
        (Number(3, "km"), "kg", 3),
        (Number(3), "m", 3),
    ],
)
def test_a_quantity_is_told_in_another_unit_where_both_measure_the_same(given_number, unit, value):
    assert given_number.told_in(unit).value == pytest.approx(value)


def test_one_value_has_one_label():
    assert {number_label(18.0), number_label(18)} == {"18"}
    assert number_label(-0.0) == "0"
    assert number_label(1 / 3) == number_label(0.333333333)
    assert number_label(0.1 + 0.2) == number_label(0.3)


@given(st.integers(-(10**14), 10**14))
def test_a_whole_number_is_read_back_with_and_without_separators(value):
    assert number(str(value)).value == value
    assert number(f"{value:,}").value == value
    assert number_label(float(value)) == str(value)


@given(st.text(max_size=300))
def test_no_text_makes_reading_fail(text):
    found = number(text)
    assert found is None or isinstance(found.label, str)


@pytest.mark.parametrize("piece", ["1,", "1 ", "$", "\\frac{", "<<", "9/", "1.1.", "{,}"])
def test_a_hostile_text_is_read_in_linear_time(piece):
    began = time.perf_counter()
    number(piece * 50_000)
    assert time.perf_counter() - began < 2
