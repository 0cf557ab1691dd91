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
        ("10^3", 1000),
        ("10³", 1000),
        ("10⁻³", 0.001),
        ("10**3", 1000),
        (r"$10^{3}$", 1000),
        ("2^10", 1024),
        ("-2^2", -4),
        ("1.5 × 10^6", 1.5e6),
        ("1.5x10^6", 1.5e6),
        (r"$1.5 \times 10^{-3}$", 1.5e-3),
        (r"6.02 \cdot 10^{23}", 6.02e23),
        ("0x10", 16),
        ("½", 0.5),
        ("1½", 1.5),
        ("2 ½ cups", 2.5),
        ("1⁄4", 0.25),
        ("0,125", 0.125),
        ("1,500", 1500),
        ("1,23,456", 123456),
        ("1.234.567", 1234567),
        ("3 hours 20 minutes", 3 + 1 / 3),
        ("3h20m", 3 + 1 / 3),
        ("2 m and 5 cm", 2.05),
        ("5 ft 3 inches", 5.25),
        ("25% of 80", 20),
        ("25% of 80 is 20", 20),
    ],
)
def test_a_number_is_read_from(text, value):
    assert number(text) is not None
    assert number(text).value == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "none at all", "1/0", "v1.2.3b", "abc123", "2^n", "x^2", "10^400", "0^-1"])
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


def test_what_may_be_a_pair_is_no_decimal():
    assert [one.value for one in numbers("(1,2)")] == [1]
    assert [one.value for one in numbers("(1,2 km)")] == [1.2]


def test_powers_at_the_end_of_a_calculation_that_was_cut_off_are_left_as_they_are_written():
    assert number("4^2 + 2^2 = 20. " * 20 + "2^2 + ").value == 2
    assert number("4^2 + 2^2 = 20. " * 20 + "So it is 10^3").value == 1000


def test_one_value_has_one_label():
    assert number_label(2.0**53) == "9007199254740992"
    assert number_label(123456789012345678) != number_label(123456789999999999)
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


@pytest.mark.parametrize(
    "piece", ["1,", "1 ", "$", "\\frac{", "<<", "9/", "1.1.", "{,}", "1^", "2^{", "5% of ", "3 h 2 min ", "1,2", "10**", "½"]
)
def test_a_hostile_text_is_read_in_linear_time(piece):
    began = time.perf_counter()
    number(piece * 50_000)
    assert time.perf_counter() - began < 2
