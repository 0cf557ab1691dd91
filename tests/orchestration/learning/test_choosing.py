"""Settings chosen from judged questions."""

import pytest

from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.weights import uniform
from app.orchestration.learning.choosing import (
    Cascade,
    choose_cascade,
    choose_waiting,
    judge_cascade,
    judge_waiting,
    run_cascade,
)
from app.orchestration.learning.observations import Answer, Observation

GOLD = frozenset({"x"})


def question(**labels: str | None) -> Observation:
    return Observation({member: Answer(label) for member, label in labels.items()}, GOLD)


ROWS = [
    question(one="x", two="x", three="x", strong="x"),
    question(one="x", two="x", three="y", strong="x"),
    question(one="y", two="x", three="y", strong="x"),
    question(one="x", two="x", three="x", strong="y"),
]


def test_where_the_cheap_agree_the_strong_is_not_asked():
    cascade = Cascade(("one", "two"), "strong")
    assert [run_cascade(row, cascade) for row in ROWS] == [("x", False), ("x", False), ("x", True), ("x", False)]
    assert judge_cascade(ROWS, cascade).accuracy == 1.0


def test_a_cheap_one_that_failed_or_could_not_be_read_sends_the_question_on():
    cascade = Cascade(("one", "two"), "strong")
    assert run_cascade(question(one="x", two=None, strong="x"), cascade) == ("x", True)
    assert run_cascade(question(one="x", strong="x"), cascade) == ("x", True)
    assert run_cascade(question(one="x", two="y"), cascade) == (None, True)


def test_the_most_accurate_cascade_within_the_bound_is_chosen():
    found = choose_cascade(ROWS, cheap=("one", "two", "three"), strong=("strong",), most_reached=0.3)
    assert found == Cascade(("one", "two"), "strong")
    assert choose_cascade(ROWS, cheap=("one", "two"), strong=("strong",), most_reached=0.1) is None
    with pytest.raises(ValueError, match="at least one question"):
        judge_cascade([], Cascade(("one",), "strong"))


def test_the_level_is_the_most_accurate_within_the_seconds():
    rows = [
        Observation({"quick": Answer("y", (), 1.0), "slow": Answer("x", (), 5.0), "slower": Answer("x", (), 6.0)}, GOLD)
        for _ in range(5)
    ]
    outcomes = judge_waiting(rows, uniform(("quick", "slow", "slower")), Calibrators(), levels=(0.1, 0.99))
    assert [(one.seconds, one.accuracy, one.answers) for one in outcomes] == [(1.0, 0.0, 1.0), (6.0, 1.0, 3.0)]
    patient, quick = outcomes[1], outcomes[0]
    assert [choose_waiting(outcomes, most_seconds=seconds) for seconds in (10, 2, 0.5)] == [patient, quick, quick]


def test_patience_bounds_the_waiting():
    rows = [Observation({"quick": Answer("y", (), 1.0), "slow": Answer("x", (), 9.0), "slower": Answer("x", (), 9.0)}, GOLD)]
    found = judge_waiting(rows, uniform(("quick", "slow", "slower")), Calibrators(), levels=(0.99,), patiences=(None, 4.0))
    assert [(one.patience_s, one.seconds, one.accuracy) for one in found] == [(None, 9.0, 1.0), (4.0, 4.0, 0.0)]
    with pytest.raises(ValueError, match="at least one question"):
        judge_waiting([], uniform(()), Calibrators())
