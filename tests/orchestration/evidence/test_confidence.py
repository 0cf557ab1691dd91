"""How sure an outcome is: before anything was learned, and what a calibrator may say."""

from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.confidence import UNEARNED, Calibrator, Calibrators, features
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import prior_weights

MEMBERS = ("a", "b", "c", "d")


def sure(*labels: str | None, panel: int = 4) -> float:
    ballots = [Ballot(member, label) for member, label in zip(MEMBERS, labels, strict=False)]
    return Calibrators().confidence(decide(ballots, prior_weights(MEMBERS)), panel).probability


def test_before_anything_was_learned_more_agreement_is_surer_and_never_very_sure():
    assert 0.5 < sure("x", "x", "y", "x") < sure("x", "x", "x", "x") <= UNEARNED
    assert sure("x", "y", "z", "w") < 0.5


def test_an_answer_of_a_part_of_the_panel_is_less_sure():
    assert sure("x", "x") < sure("x", "x", "x", "x")


def test_without_a_winner_it_is_not_sure_at_all():
    assert sure(None, None) == 0.0


def test_what_is_little_known_has_a_wide_interval_and_is_drawn_in():
    vague = Calibrator(covariance=tuple(tuple(4.0 * (row == column) for column in range(4)) for row in range(4)))
    known = Calibrator(covariance=tuple(tuple(0.01 * (row == column) for column in range(4)) for row in range(4)))
    values = features(0.9, 4, 4)
    wide, narrow = vague.confidence(values), known.confidence(values)
    assert wide.high - wide.low > narrow.high - narrow.low
    assert wide.probability < narrow.probability < 0.9 + 1e-9


def test_a_category_has_its_own_calibrator_and_others_the_one_for_all():
    strict = Calibrator((-2.0, 1.0, 0.0, 0.0))
    both = Calibrators(by_category={"law": strict})
    decision = decide([Ballot("a", "x")], prior_weights(MEMBERS))
    assert both.confidence(decision, 1, "law").probability < both.confidence(decision, 1, "art").probability
    assert both.confidence(decision, 1, "art") == both.confidence(decision, 1)


@given(st.floats(0, 1), st.integers(0, 20), st.integers(0, 20), st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_a_probability_lies_in_its_interval(probability, present, panel, coefficients):
    found = Calibrator(tuple(coefficients)).confidence(features(probability, present, panel))
    assert 0 <= found.low <= found.probability <= found.high <= 1
    assert found.probability <= UNEARNED
