from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.eval.measuring import set_report
from app.cli.eval.page import page
from app.cli.eval.parts import Split
from app.cli.eval.report import report
from app.cli.eval.results import Contestant, Result
from app.cli.eval.routing import Routing
from app.cli.eval.storing import Evaluation, Stored
from tests.cli.eval.made import result

WEAK = Contestant("weak", "model", "f1", ("weak",))
STRONG = Contestant("strong", "model", "f2", ("strong",))
EVERYBODY = (WEAK, STRONG)
GAINS = [0.4, 0.3, 0.2, 0.1, 0.0, -0.1, -0.2, -0.3]
"""What the strong model is expected to gain on q0 to q7; it does gain on q0, q1 and q4."""
RIGHT = {"weak": [0, 0, 1, 1, 0, 1, 0, 1], "strong": [1, 1, 1, 1, 1, 1, 0, 1]}


def routed(name: str, threshold: float, gains: list[float] = GAINS) -> tuple[Contestant, list[Result]]:
    """A recipe that asks the strong model where it expects it to gain more than `threshold`."""
    recipe = Contestant(name, "recipe", name, ("weak", "strong"))
    found: list[Result] = []
    for place, gain in enumerate(gains):
        model = "strong" if gain > threshold else "weak"
        score = float(RIGHT[model][place])
        expected = (("weak", 0.5), ("strong", 0.5 + gain))
        found.append(result(f"q{place}", score, of=recipe, members={model: score}, prospects=expected))
    return recipe, found


def alone() -> list[Result]:
    return [result(f"q{n}", float(RIGHT[one.name][n]), of=one) for one in EVERYBODY for n in range(8)]


def routing(*recipes: tuple[Contestant, list[Result]], split: Split | None = None) -> tuple[Routing, ...]:
    results = [*alone(), *(one for _, own in recipes for one in own)]
    return set_report(["set"], "d", [*EVERYBODY, *(one for one, _ in recipes)], results, split or Split()).routing


def test_the_curve_gives_questions_to_the_strong_model_by_what_it_was_expected_to_gain() -> None:
    (found,) = routing(routed("careful", 0.25))
    assert (found.weak, found.strong, found.chosen_on, found.ranked_by) == ("weak", "strong", "report", "careful")
    assert (found.questions, found.weak_accuracy, found.strong_accuracy) == (8, 0.5, 0.875)
    third = pytest.approx(1 / 3)
    assert [(one.share, one.recovered) for one in found.curve][:3] == [(0, 0), (0.125, third), (0.25, pytest.approx(2 / 3))]
    assert (found.curve[-1].share, found.curve[-1].recovered) == (1, pytest.approx(1))
    assert found.apgr == pytest.approx((1 / 6 + 1 / 2 + 2 / 3 + 2 / 3 + 5 / 6 + 3) / 8)


@pytest.mark.parametrize("threshold", [-1.0, -0.15, 0.05, 0.25, 0.35, 1.0])
def test_what_recipes_decide_by_the_same_expectations_lies_on_the_curve(threshold: float) -> None:
    (found,) = routing(routed("first", 0.15), routed("other", threshold))
    (other,) = [one for one in found.points if one.name == "other"]
    assert (other.share, pytest.approx(other.recovered)) in [(one.share, one.recovered) for one in found.curve]
    assert other.recovered == pytest.approx((other.accuracy - 0.5) / 0.375)


def test_where_nothing_is_told_apart_the_curve_is_chance() -> None:
    (found,) = routing(routed("blind", 0.0, [0.1] * 8))
    assert found.apgr == 0.5
    assert len(found.curve) == 2


def test_the_strong_model_is_told_by_the_part_set_aside() -> None:
    """On what is set aside the other one is better: then it was no gap that could be recovered."""
    whole = routing(routed("careful", 0.25), split=Split(0.5, 0))
    for one in whole:
        assert one.chosen_on == "train"
    aside = {f"q{n}" for n in range(8) if Split(0.5, 0).trains(f"q{n}")}
    swapped = [
        result(one.question, one.score if one.question not in aside else float(one.contestant == "weak"), of=contestant)
        for contestant in EVERYBODY
        for one in alone()
        if one.contestant == contestant.name
    ]
    recipe, own = routed("careful", 0.25)
    assert set_report(["set"], "d", [*EVERYBODY, recipe], [*swapped, *own], Split(0.5, 0)).routing == ()


def test_without_the_two_models_own_answers_or_with_more_models_there_is_no_curve() -> None:
    recipe, own = routed("careful", 0.25)
    assert set_report(["set"], "d", [recipe], own, Split()).routing == ()
    third = [
        result(f"q{n}", 1.0, of=recipe, members={"weak": 1.0}, prospects=(("a", 0.1), ("b", 0.2), ("c", 0.3))) for n in range(8)
    ]
    assert routing((recipe, third)) == ()


def test_splits_are_told_together_with_the_interval_over_them_and_drawn() -> None:
    recipe, own = routed("careful", 0.25)
    contestants, results = (*EVERYBODY, recipe), (*alone(), *own)
    evaluation = Evaluation(("set.jsonl",), "d", 8, contestants, Split(0.3, 0), "own", 1.0, 0)
    made = report([Stored(Path("x"), evaluation, results)], baseline=None, splits=6, made_at=0, quorum="1")
    (found,) = made.sets[0].routing
    assert (found.weak, found.strong) == ("weak", "strong")
    assert 1 < found.splits <= 6
    assert found.apgr.low <= found.apgr.value <= found.apgr.high
    assert [one.name for one in found.points] == ["careful"]
    text = page(made)
    assert "<h3>Routing</h3>" in text
    assert 'class="d"' in text
    assert f"over {found.splits} splits: APGR {found.apgr.value:.3f}" in text
