"""What answers say together, and when enough of them are there."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from app.orchestration.bundles.summary import stable, summed_up, sureness, wanted
from app.orchestration.evidence.bundle import Replicate
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.weights import uniform

FAULT = Extracted(errors=("holds no JSON",))


def answers(*data: Any, model: str = "m") -> list[Replicate]:
    return [Replicate(f"r{number}", model, Extracted(one, repr(one))) for number, one in enumerate(data, 1)]


def summary(*data: Any, as_json: bool = True) -> Any:
    return summed_up(answers(*data), as_json=as_json)


@pytest.mark.parametrize(
    ("said", "left", "chance"),
    [
        (["a"], 99, 1 / 4),
        (["a", "a"], 99, 1 / 8),
        (["a"] * 4, 99, 1 / 32),
        (["a", "a", "b"], 99, 5 / 16),  # three or four heads of four tosses
        (["a", "b"], 99, 1 / 2),
        (["a", "a", "a", "b", "c"], 99, 6 / 32),  # who is third does not count
        (["a", "a", "a"], 2, 0),
        (["a", "a"], 1, 0),
        (["a", "a"], 2, 1 / 8),
    ],
)
def test_a_vote_is_stable_by_the_beta_criterion_or_where_it_is_decided(said: list[str], left: int, chance: float) -> None:
    found = summary(*said)
    assert stable(found, left, chance + 1e-9)
    assert chance == 0 or not stable(found, left, chance - 1e-9)


@given(st.integers(1, 12), st.integers(0, 12))
def test_the_chance_is_that_of_the_beta_distribution(first: int, second: int) -> None:
    """By numbers: the mass below a half, from a thousand steps."""
    if second > first:
        first, second = second, first
    steps = [(place + 0.5) / 2_000 for place in range(2_000)]
    density = [p**first * (1 - p) ** second for p in steps]
    chance = sum(density[:1_000]) / sum(density)
    found = summary(*["a"] * first, *["b"] * second)
    assert stable(found, 99, min(0.999, chance + 1e-3))
    assert not stable(found, 99, chance - 1e-3)


def test_every_member_of_an_object_must_be_stable() -> None:
    said = [{"label": "a", "size": size} for size in (1, 2, 3, 4)]
    assert not stable(summary(*said), 9, 0.05)
    assert stable(summary(*({**one, "size": 1} for one in said)), 9, 0.05)


def test_nothing_is_stable_before_anything_was_said() -> None:
    assert summed_up([Replicate("r1", "m", FAULT)], as_json=True) is None
    assert not stable(None, 3, 0.9)


@pytest.mark.parametrize(
    ("said", "left", "epsilon", "count"),
    [
        ([], 5, 0.05, 3),  # three of five are a majority
        ([], 10, 0.05, 4),
        ([], 1, 0.05, 1),
        ([], 64, 0.001, 9),
        (["a", "b"], 8, 0.05, 5),
        (["a", "a", "b"], 2, 0.05, 1),
        ([1.0], 8, 0.05, 2),
        ([1.0, 2.0, 3.0], 6, 0.05, 1),
    ],
)
def test_a_round_has_the_fewest_that_may_settle_it(said: list[Any], left: int, epsilon: float, count: int) -> None:
    found = summary(*said) if said else None
    assert wanted(found, left, epsilon) == count


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 20), st.sampled_from([0.3, 0.1, 0.05, 0.01]))
def test_a_round_that_agrees_with_the_leader_settles_it_and_a_smaller_one_does_not(
    said: list[str], left: int, epsilon: float
) -> None:
    found = summary(*said) if said else None
    count = wanted(found, left, epsilon)
    leader = found.consensus if found else "a"
    assert count == left or stable(summary(*said, *[leader] * count), left - count, epsilon)
    if count > 1:
        assert not stable(summary(*said, *[leader] * (count - 1)), left - count + 1, epsilon)


def test_numbers_have_a_median_with_its_interval() -> None:
    found = summary(10, 11.0, 30)
    assert (found.consensus, found.number.low, found.number.high) == (11, 10, 30)
    assert not stable(found, 5, 0.5)
    assert stable(summary(10, 10.1, 10.2), 5, 0.05)
    assert not stable(summary(10, 10), 5, 0.05)


def test_flags_are_no_numbers() -> None:
    found = summary(True, True, False)
    assert (found.consensus, found.number) == (True, None)


def test_texts_are_told_by_the_middle_of_the_largest_cluster() -> None:
    paris = "The capital of France is Paris, on the Seine."
    found = summary(paris, "The capital of France is Paris.", "Bananas grow in the tropics.", as_json=False)
    assert "Paris" in found.consensus
    assert len(found.disagreements[0]["values"]) == 2


def test_objects_without_members_agree() -> None:
    found = summary({}, {})
    assert (found.consensus, found.disagreements) == ({}, ())
    assert stable(found, 0, 0.2)


def test_those_that_failed_are_left_out() -> None:
    said = [Replicate("r0", "m", FAULT), *answers({"a": 1}, {"a": 1})]
    found = summed_up(said, as_json=True)
    assert found is not None
    assert (found.consensus, len(found.distances)) == ({"a": 1}, 2)
    assert 0 < sureness(found, said, uniform(["m"])).probability < 1


def test_two_models_that_agree_are_surer_than_one_asked_twice() -> None:
    found = summary("a", "a")
    weights = uniform(["m", "n"])
    one = sureness(found, answers("a", "a"), weights).probability
    two = sureness(found, [*answers("a"), *answers("a", model="n")], weights).probability
    assert two > one
