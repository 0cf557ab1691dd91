"""Fitted calibrators say what is so, and no more than they have seen."""

import random
from dataclasses import replace

import pytest

from app.orchestration.evidence.confidence import PRIOR_COEFFICIENTS, UNEARNED, Calibrator, features, sigmoid
from app.orchestration.evidence.measures import calibration
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.learning.calibrator_fit import Outcome, fit_calibrator, fit_calibrators, fit_vote, stages
from app.orchestration.learning.observations import Answer, Observation


def outcomes(
    count: int, truth: tuple[float, ...], *, seed: int = 1, category: str | None = None, sure: bool = False
) -> list[Outcome]:
    """Outcomes whose chance of being right is what a calibrator with the coefficients `truth` would say."""
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        values = features(draw.uniform(0.97 if sure else 0.05, 0.995), draw.randint(1, 5), 5)
        chance = sigmoid(sum(one * other for one, other in zip(truth, values, strict=True)))
        found.append(Outcome(values, draw.random() < chance, category))
    return found


def test_without_outcomes_it_is_the_prior():
    found = fit_calibrator([])
    assert found.coefficients == PRIOR_COEFFICIENTS
    assert (found.ceiling, found.rows) == (UNEARNED, 0)
    assert found.covariance == Calibrator().covariance


def test_it_finds_the_truth_that_outcomes_were_drawn_from():
    truth = (-0.8, 0.6, -0.5, 0.2)
    found = fit_calibrator(outcomes(6000, truth))
    assert found.coefficients == pytest.approx(truth, abs=0.25)


def test_new_outcomes_are_as_often_right_as_it_says():
    truth = (-0.8, 0.6, -0.5, 0.2)
    found, new = fit_calibrator(outcomes(500, truth)), outcomes(4000, truth, seed=2)
    measured = calibration([found.confidence(one.features).probability for one in new], [one.right for one in new])
    assert measured.excess < 0.02


def test_more_outcomes_make_the_interval_narrower():
    few, many = (fit_calibrator(outcomes(count, PRIOR_COEFFICIENTS)).confidence(features(0.8, 5, 5)) for count in (20, 2000))
    assert many.high - many.low < (few.high - few.low) / 3


def test_to_be_called_very_sure_is_earned_by_having_been_right():
    assert fit_calibrator(outcomes(10, (4.0, 1.0, 0.0, 0.0), sure=True)).ceiling == UNEARNED
    assert fit_calibrator(outcomes(400, (4.0, 1.0, 0.0, 0.0), sure=True)).ceiling == 1.0


def test_a_category_with_outcomes_enough_is_calibrated_by_itself():
    found = fit_calibrators(
        outcomes(600, PRIOR_COEFFICIENTS, category="art")
        + outcomes(400, (-2.0, 0.5, 0.0, 0.0), seed=2, category="law")
        + outcomes(20, PRIOR_COEFFICIENTS, seed=3, category="rare")
    )
    assert set(found.by_category) == {"art", "law"}
    values = features(0.9, 5, 5)
    said = {name: one.confidence(values).probability for name, one in found.by_category.items()}
    assert said["law"] < found.overall.confidence(values).probability < said["art"]


def test_a_question_teaches_as_it_was_as_a_part_and_as_it_stood_when_it_was_decided():
    weights = PanelWeights({"one": 1.0, "two": 3.0, "three": 1.0})
    asked = Observation({name: Answer("x") for name in weights.members}, frozenset({"x"}))
    whole, part, stopped = stages(asked, weights, random.Random(1))
    assert whole is asked
    assert 0 < len(part.answers) < 3
    assert tuple(stopped.answers) == ("two",)  # whose word no two others outweigh


def test_a_question_counts_once_for_a_category_however_often_it_is_looked_at():
    thirds = [replace(one, importance=1 / 3) for one in outcomes(150, PRIOR_COEFFICIENTS, category="art")]
    assert fit_calibrators(thirds).by_category == {}


def test_a_fitted_panel_is_calibrated_on_questions_that_it_did_not_see():
    draw = random.Random(3)

    def ask(count: int) -> list[Observation]:
        rows = []
        for _ in range(count):
            gold, hard = draw.choice("abcdef"), draw.random() < 0.4
            skills = {"one": 0.9, "two": 0.7, "three": 0.5}
            said = {
                name: gold if draw.random() < skill * (0.5 if hard else 1) else draw.choice("abcdef")
                for name, skill in skills.items()
            }
            rows.append(Observation({name: Answer(label) for name, label in said.items()}, frozenset({gold})))
        return rows

    weights, calibrators = fit_vote(ask(500), seed=1)
    new = ask(2000)
    decisions = [decide(one.ballots(), weights) for one in new]
    said = [calibrators.confidence(decision, 3).probability for decision in decisions]
    right = [one.judged(decision.winner) is True for one, decision in zip(new, decisions, strict=True)]
    assert calibration(said, right).excess < 0.03


def test_a_panel_fitted_to_few_questions_is_not_surer_than_it_may_be():
    draw = random.Random(4)

    def ask(count: int) -> list[Observation]:
        rows = []
        for _ in range(count):
            gold = draw.choice("abcd")
            said = {f"m{at}": gold if draw.random() < 0.15 else draw.choice("abcd") for at in range(12)}
            rows.append(Observation({name: Answer(label) for name, label in said.items()}, frozenset({gold})))
        return rows

    new, gaps = ask(1000), []
    for seed in range(3):
        weights, calibrators = fit_vote(ask(60), seed=seed)
        decisions = [decide(one.ballots(), weights) for one in new]
        said = sum(calibrators.confidence(decision, 12).probability for decision in decisions) / len(new)
        gaps.append(said - sum(one.judged(made.winner) is True for one, made in zip(new, decisions, strict=True)) / len(new))
    print(f"surer than right by {sum(gaps) / len(gaps):+.3f}")
    assert sum(gaps) / len(gaps) < 0.08


def test_nothing_to_learn_from_gives_the_priors():
    weights, calibrators = fit_vote([])
    assert (weights.members, calibrators.overall.rows, calibrators.by_category) == ({}, 0, {})
