"""The measures, against values worked out by hand or known from the literature."""

import random

import pytest

from app.orchestration.evidence.measures import (
    Point,
    calibration,
    calibration_error,
    frontier,
    gap_recovered,
    mean_interval,
    proportion,
    reliability_bins,
)


def test_wilsons_interval_of_eight_of_ten():
    found = proportion(8, 10)
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.490, 0.943), abs=0.001)
    assert (proportion(0, 0).low, proportion(0, 0).high) == (0, 1)


def test_the_mean_of_paired_lifts_has_an_interval_and_one_lift_has_none():
    found = mean_interval([1, 2, 3])
    assert (found.value, found.high - found.value) == pytest.approx((2, 1.1316), abs=1e-3)
    assert mean_interval([5]).high == float("inf")


def test_bins_hold_equally_many_and_the_error_is_their_mean_distance():
    probabilities, right = [0.1, 0.2, 0.8, 0.9], [False, True, True, True]
    assert [one.count for one in reliability_bins(probabilities, right, 2)] == [2, 2]
    assert calibration_error(probabilities, right, 2) == pytest.approx((0.35 + 0.15) / 2)


def test_the_order_of_answers_that_are_equally_sure_makes_no_error():
    """A data set often has those of one kind first."""
    probabilities, right = [0.5] * 100, [True] * 50 + [False] * 50
    assert calibration_error(probabilities, right) == pytest.approx(0)
    assert {one.accuracy for one in reliability_bins(probabilities, right)} == {0.5}


def test_a_perfect_forecaster_has_no_excess_and_one_that_boasts_has():
    draw = random.Random(1)
    probabilities = [draw.random() for _ in range(2_000)]
    right = [draw.random() < one for one in probabilities]
    honest = calibration(probabilities, right)
    assert abs(honest.excess) < 0.012 < honest.ece + 0.012
    boasting = calibration([0.5 + one / 2 for one in probabilities], right)
    assert boasting.excess > 0.15
    assert boasting.sure == sum(one > 0.9 for one in probabilities)


def test_gap_recovered_is_a_half_by_chance_and_more_where_the_strong_is_asked_what_it_alone_knows():
    strong, weak = [1, 1, 1, 1], [0, 1, 0, 1]
    assert gap_recovered([2, 1, 2, 1], strong, weak) == pytest.approx(0.75)
    assert gap_recovered([1, 2, 1, 2], strong, weak) == pytest.approx(0.25)
    assert gap_recovered([0], [1], [1]) == 0.5


def test_the_frontier_leaves_out_what_another_beats():
    points = [Point("a", 1, 0.5), Point("b", 2, 0.4), Point("c", 3, 0.9), Point("d", 1, 0.3)]
    assert [one.name for one in frontier(points)] == ["a", "c"]
