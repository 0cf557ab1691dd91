"""The consensus of numbers: robust, with an interval, and outliers named."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.numeric import numeric_consensus, outlying, settled, weighted_median

finite = st.floats(-1e6, 1e6)
panels = st.lists(finite, min_size=1, max_size=12)
ESTIMATORS = pytest.mark.parametrize("estimator", ["median", "trimmed_mean"])


@ESTIMATORS
def test_one_wild_answer_is_named_and_does_not_move_the_value(estimator):
    found = numeric_consensus([10, 11, 9, 10, 10.5, 9.5, 1000], estimator=estimator)
    assert found.outliers == (6,)
    assert found.value == pytest.approx(10, abs=0.3)
    assert found.low <= found.value <= found.high < 20 or estimator == "median"


def test_identical_answers_but_one_leave_that_one_out():
    assert outlying([5, 5, 5, 5, 6]) == (4,)
    assert outlying([5, 5, 5, 5, 5]) == ()
    assert outlying([1, 100]) == ()


def test_a_heavier_answer_moves_the_median():
    assert numeric_consensus([1, 2, 3]).value == 2
    assert numeric_consensus([1, 2, 3], weights=[5, 1, 1]).value == 1
    assert weighted_median([1, 2, 3, 4], [1, 1, 1, 1]) == 2.5


def test_agreement_is_the_weight_within_the_tolerance():
    assert numeric_consensus([100, 100.5, 99.5, 120], tolerance=0.01).agreement == 0.75


@ESTIMATORS
def test_one_answer_has_no_interval_and_settles_nothing(estimator):
    found = numeric_consensus([7], estimator=estimator)
    assert (found.value, found.low, found.high, found.agreement) == (7, -math.inf, math.inf, 1.0)
    assert not settled(found, 1e9)


def test_the_interval_of_a_median_is_between_the_order_statistics_that_hold_it():
    """Tables of the sign test: with 10 values the second and the ninth hold the median 97.9 % of the time."""
    found = {count: numeric_consensus(list(range(1, count + 1))) for count in (6, 8, 10, 20)}
    assert [(one.low, one.high) for one in found.values()] == [(1, 6), (1, 8), (2, 9), (6, 15)]


def test_few_numbers_hold_the_median_less_often_and_it_is_said_how_often():
    """Of n independent numbers all lie on one side of the median with a chance of 2 * 0.5^n."""
    told = {count: numeric_consensus(list(range(1, count + 1))).coverage for count in (2, 3, 5, 6, 10)}
    assert told == pytest.approx({2: 0.5, 3: 0.75, 5: 0.9375, 6: 0.96875, 10: 0.978515625})
    draw = random.Random(1)
    drawn = [numeric_consensus([draw.gauss(0, 1) for _ in range(3)]) for _ in range(4000)]
    assert sum(one.low <= 0 <= one.high for one in drawn) / len(drawn) == pytest.approx(0.75, abs=0.02)


@ESTIMATORS
def test_the_numbers_of_one_model_count_once_in_the_interval(estimator):
    thrice = numeric_consensus([1, 1, 1, 5, 9], members=["a", "a", "a", "b", "c"], estimator=estimator)
    once = numeric_consensus([1, 5, 9], estimator=estimator)
    assert (thrice.low, thrice.high, thrice.coverage) == (once.low, once.high, once.coverage)
    alone = numeric_consensus([1, 2, 3], members=["a"] * 3, estimator=estimator)
    assert (alone.low, alone.high) == (-math.inf, math.inf)


def test_what_lies_within_epsilon_is_a_share_of_the_value_however_small():
    assert not settled(numeric_consensus([0.01, 0.02, 0.05]), 0.05)
    assert settled(numeric_consensus([0.0200, 0.0201, 0.0199]), 0.05)
    assert settled(numeric_consensus([0, 0, 0]), 0.05)
    assert not settled(numeric_consensus([-0.01, 0, 0.01]), 0.05)


def test_it_is_settled_when_the_interval_is_within_epsilon_of_the_value():
    assert settled(numeric_consensus([100, 100.1, 99.9, 100, 100, 100]), 0.01)
    assert not settled(numeric_consensus([100, 150, 50, 100, 80, 120]), 0.01)


@pytest.mark.parametrize("values", [[], [math.nan], [1, math.inf]])
def test_what_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="finite"):
        numeric_consensus(values)


@ESTIMATORS
@given(panels, finite)
def test_what_is_shifted_has_a_shifted_consensus(estimator, values, shift):
    here = numeric_consensus(values, estimator=estimator)
    there = numeric_consensus([value + shift for value in values], estimator=estimator)
    if here.outliers == there.outliers:
        assert there.value == pytest.approx(here.value + shift, abs=1e-4)


@ESTIMATORS
@given(panels, st.randoms())
def test_the_order_of_the_answers_does_not_matter(estimator, values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    one, other = numeric_consensus(values, estimator=estimator), numeric_consensus(shuffled, estimator=estimator)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


@ESTIMATORS
@given(panels)
def test_the_value_lies_among_the_answers_and_in_its_interval(estimator, values):
    found = numeric_consensus(values, estimator=estimator)
    assert min(values) - 1e-6 <= found.value <= max(values) + 1e-6
    assert found.low <= found.value <= found.high
