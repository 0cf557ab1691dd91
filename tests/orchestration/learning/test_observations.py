"""What is learned from: judgements, parts of a panel, seeded splits."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.learning.observations import Answer, Observation, arrival_order, folds, halves, members_of, partial

ONE = Observation(
    {"a": Answer("x", ("y",), 3.0), "b": Answer("y", (), 1.0), "c": Answer(None, (), 2.0)}, right=frozenset({"x"})
)


def test_with_a_gold_answer_every_other_label_is_wrong():
    assert [ONE.judged(label) for label in ("x", "y", None)] == [True, False, False]


def test_with_feedback_on_the_outcome_alone_the_others_stay_open():
    disliked = Observation(ONE.answers, wrong=frozenset({"x"}))
    assert [disliked.judged(label) for label in ("x", "y", None)] == [False, None, False]


def test_replicates_are_ballots_of_their_member():
    assert [(one.member, one.label, one.replicate) for one in ONE.ballots()] == [
        ("a", "x", 0),
        ("a", "y", 1),
        ("b", "y", 0),
        ("c", None, 0),
    ]
    assert [one.member for one in ONE.ballots(("c", "zz"))] == ["c"]


def test_a_part_of_a_panel_is_who_came_first_at_least_half_of_the_time_where_the_latencies_are_known():
    assert arrival_order(ONE) == ("b", "c", "a")
    parts = [tuple(partial(ONE, random.Random(seed)).answers) for seed in range(200)]
    assert 100 < sum(part in (("b",), ("b", "c")) for part in parts) < 150
    assert {("a",), ("a", "c"), ("c",)} < set(parts)  # others are asked first by a panel that stops, and the quick one may fail


def test_a_part_of_a_panel_is_any_where_they_are_not():
    unknown = Observation({name: Answer("x") for name in "abc"})
    assert len({tuple(partial(unknown, random.Random(seed)).answers) for seed in range(60)}) > 6
    alone = Observation({"a": Answer("x")})
    assert partial(alone, random.Random(1)) is alone
    assert members_of([alone, unknown]) == ("a", "b", "c")


@given(st.integers(0, 60), st.integers(0, 99))
def test_a_split_covers_all_rows_once_and_can_be_repeated(count, seed):
    first, second = halves(count, seed)
    assert sorted(first + second) == list(range(count))
    assert halves(count, seed) == (first, second)


@pytest.mark.parametrize(("count", "parts"), [(10, 3), (2, 5), (5, 5)])
def test_every_row_is_left_out_of_one_fold_and_fitted_in_the_others(count, parts):
    found = folds(count, parts)
    assert sorted(place for _, left_out in found for place in left_out) == list(range(count))
    assert all(not set(fitted) & set(left_out) and len(fitted) + len(left_out) == count for fitted, left_out in found)
