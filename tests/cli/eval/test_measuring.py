from __future__ import annotations

import pytest

from app.cli.eval.figures import SetReport
from app.cli.eval.measuring import accuracy, quantile, set_report
from app.cli.eval.parts import Split
from app.cli.eval.results import Result
from tests.cli.eval.made import PANEL, SINGLE, result

WHOLE = Split()
TWO = {"a": 1.0, "b": 0.0}


def measured(*results: Result, split: Split = WHOLE, baseline: str | None = None) -> SetReport:
    contestants = [one for one in (PANEL, SINGLE) if any(found.contestant == one.name for found in results)]
    return set_report(["set"], "d", contestants, results, split, baseline=baseline)


def test_a_failed_run_is_a_wrong_answer_and_is_counted():
    found = measured(
        result("q1", 1.0), result("q2", 0.0, said=None), result("q3", 0.0, error="overloaded", status="failed", cost_usd=None)
    ).contestants[0]
    assert (found.questions, found.failed, found.unread, found.errors) == (3, 1, 1, {"overloaded": 1})
    assert found.accuracy.value == pytest.approx(1 / 3)


def test_the_lift_is_paired_with_the_best_member():
    results = [result(f"q{n}", 1.0, members={"a": float(n % 2), "b": 0.0}) for n in range(100)]
    lift = measured(*results).contestants[0].lift
    assert lift is not None
    assert (lift.over, lift.chosen_on, lift.difference.value) == ("a", "report", 0.5)
    assert lift.difference.low == pytest.approx(0.5 - 1.96 * 0.5025 / 10, abs=1e-3)


def test_the_best_member_is_chosen_on_the_part_set_aside():
    split = Split(0.5, 0)
    results = [
        result(f"q{n}", 1.0, members={"a": float(split.trains(f"q{n}")), "b": float(not split.trains(f"q{n}"))})
        for n in range(40)
    ]
    found = measured(*results, split=split)
    lift = found.contestants[0].lift
    assert lift is not None
    assert (lift.over, lift.chosen_on, lift.difference.value) == ("a", "train", 1.0)
    assert found.questions + found.trained_on == 40
    assert found.contestants[0].questions == found.questions


def test_a_member_that_a_recipe_never_chose_may_be_its_best() -> None:
    results = [result(f"q{n}", 0.0, members={"b": 0.0}, panel=("b",)) for n in range(4)]
    lift = measured(*results, *(result(f"q{n}", 1.0, of=SINGLE) for n in range(4))).contestants[0].lift
    assert lift is not None
    assert (lift.over, lift.difference.value) == ("a", -1.0)


def test_a_member_that_was_not_asked_every_time_is_no_measure():
    results = [result("q1", 1.0, members={"a": 1.0}), result("q2", 1.0, members={"a": None, "b": 0.0})]
    found = measured(*results)
    assert (found.contestants[0].lift, found.members) == (None, ())
    whole = measured(*results, result("q1", 0.0, of=SINGLE), result("q2", 0.0, of=SINGLE))
    lift = whole.contestants[0].lift
    assert lift is not None
    assert (lift.over, lift.difference.value) == ("a", 1.0)
    assert [(one.model, one.accuracy.value) for one in whole.members] == [("a", 0.0)]


def test_everybody_is_compared_with_the_baseline():
    results = [result("q1", 1.0), result("q2", 0.0), result("q1", 0.0, of=SINGLE), result("q2", 0.0, of=SINGLE)]
    panel, single = measured(*results, baseline="a").contestants
    assert panel.against is not None
    assert (panel.against.over, panel.against.difference.value, panel.against.chosen_on) == ("a", 0.5, None)
    assert single.against is None


def test_costs_calls_times_and_tokens_are_added_up():
    results = [
        result("q1", 1.0, members=TWO, latency_ms=1000.0, most=4, input_tokens=5, output_tokens=7),
        result("q2", 1.0, members=TWO, latency_ms=3000.0, most=4),
    ]
    found = measured(*results)
    panel = found.contestants[0]
    assert panel.cost_usd == pytest.approx(0.004)
    assert (panel.calls, panel.calls_saved, panel.input_tokens, panel.output_tokens) == (4, 0.5, 5, 7)
    assert panel.times is not None
    assert (panel.times.mean, panel.times.p50, panel.times.first_p50) == (2.0, 2.0, 0.1)
    assert [(share.model, share.asked) for share in panel.shares] == [("a", 1.0), ("b", 1.0)]
    dollars, seconds, calls = found.tradeoffs
    assert [point.name for point in dollars.best] == ["a"]  # as good as the panel, for less
    assert {point.name for point in seconds.points} == {point.name for point in calls.points} == {"panel", "a", "b"}


def test_a_cost_that_is_not_known_of_every_run_is_not_told():
    found = measured(result("q1", 1.0), result("q2", 1.0, cost_usd=None)).contestants[0]
    assert (found.cost_usd, found.cost_per_question_usd) == (None, None)


def test_confidence_is_measured_where_it_is_stated():
    sure = [result(f"q{n}", float(n % 10 != 0), confidence=0.9) for n in range(100)]
    review = [result(f"r{n}", 0.0, confidence=0.1, status="needs_review") for n in range(50)]
    found = measured(*sure, *review).contestants[0]
    assert found.calibration is not None
    assert found.calibration.rows == 150
    assert found.calibration.ece < 0.06
    assert abs(found.calibration.excess) < 0.02
    assert (found.sure, found.sure_accuracy.value) == (pytest.approx(2 / 3), pytest.approx(0.9))
    assert measured(result("q1", 1.0)).contestants[0].calibration is None


def test_categories_are_told_apart():
    found = measured(result("q1", 1.0, category="x"), result("q2", 0.0, category="y"), result("q3", 1.0, category="x"))
    assert [(one.name, one.questions, one.accuracy.value) for one in found.contestants[0].categories] == [
        ("x", 2, 1.0),
        ("y", 1, 0.0),
    ]


def test_questions_that_are_not_asked_yet_are_told():
    results = [result("q1", 1.0), result("q2", 1.0), result("q1", 1.0, of=SINGLE)]
    assert measured(*results).missing == {"a": 1}


def test_scores_between_have_the_interval_of_a_mean():
    assert accuracy([0.5, 0.5]).low == 0.5
    assert accuracy([1.0, 1.0]).low == pytest.approx(0.342, abs=1e-3)


def test_a_quantile_lies_between_its_neighbours():
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.5
    assert quantile([1.0], 0.95) == 1.0
