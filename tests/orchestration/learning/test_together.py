"""How alike the errors of two members are is told only where enough of both is known."""

from __future__ import annotations

from random import Random

import pytest

from app.orchestration.learning.observations import Answer, Observation
from app.orchestration.learning.together import LEAST_QUESTIONS, error_correlations


def questions(count: int, *, shared: float, seed: int = 1, outcomes_only: bool = False) -> list[Observation]:
    """Two members that are wrong 30 times in a hundred: a share of the time together, else each by itself. With `outcomes_only`
    it is known whether what `a` said was right, and no more."""
    random = Random(seed)
    found: list[Observation] = []
    for _ in range(count):
        wrong = random.random() < 0.3
        own = wrong if random.random() < shared else random.random() < 0.3
        said = {"a": Answer("no" if wrong else "yes"), "b": Answer("perhaps" if own else "yes")}
        if outcomes_only and wrong:
            found.append(Observation(said, wrong=frozenset(["no"])))
        else:
            found.append(Observation(said, right=frozenset(["yes"])))
    return found


@pytest.mark.parametrize("shared", [0.0, 0.5, 0.9])
def test_a_correlation_is_told_as_it_is(shared: float) -> None:
    found = error_correlations(questions(2_000, shared=shared))
    assert found["a"]["b"] == pytest.approx(shared, abs=0.06)


@pytest.mark.parametrize(
    "judged",
    [
        questions(LEAST_QUESTIONS - 1, shared=0.5),
        questions(2_000, shared=0.5, outcomes_only=True),
        [Observation({"a": Answer("yes"), "b": Answer("yes")}, right=frozenset(["yes"]))] * 2_000,
        [Observation({"a": Answer("yes")}, right=frozenset(["yes"]))] * 2_000,
        [Observation({"a": Answer("yes"), "b": Answer("no")})] * 2_000,
    ],
    ids=["few questions", "outcomes alone", "no errors", "never both", "not judged"],
)
def test_it_is_not_told_where_it_is_not_known(judged: list[Observation]) -> None:
    assert error_correlations(judged) == {}
