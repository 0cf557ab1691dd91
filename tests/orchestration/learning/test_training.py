"""Training: what is better than what is in force is taken, what is not is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.orchestration.evidence.weights import PanelWeights, prior_weights
from app.orchestration.learning.judging import RUN, Judgement
from app.orchestration.learning.learned import ALL, Learned, read, stored
from app.orchestration.learning.taught import Noted, Said, Taught
from app.orchestration.learning.training import STEPS, Before, Row, Trained, asked_together, train
from tests.orchestration.learning.judged import HASHED, LABELS, SKILLS, judged_rows

NAMES = list(SKILLS)


def prior(names: Sequence[str]) -> PanelWeights:
    return prior_weights(names)


def by_kind(trained: Trained) -> dict[str, tuple[float | None, float | None, bool]]:
    return {one.kind: (one.before, one.after, one.taken) for one in trained.compared}


def test_a_panel_of_one_able_and_two_poor_members_learns_whom_to_believe() -> None:
    steps: list[str] = []
    trained = train(judged_rows(300), Before(prior), now=5_000, min_judged=50, progress=steps.append)
    found = by_kind(trained)
    old, new, taken = found["weights"]
    assert taken
    assert old is not None
    assert new is not None
    print(f"accuracy {old:.3f} before, {new:.3f} after; calibrators {found['calibrators']}; success {found['success']}")
    assert new >= old + 0.05
    assert found["calibrators"][2]
    assert len(steps) == STEPS
    assert trained.learned
    weights = trained.learned.weights(NAMES, prior(NAMES))
    assert weights is not None
    assert weights.members["able"] > 2 * weights.members["poor"]
    same, others = weights.alike("poor", "weak"), weights.alike("able", "poor")
    assert same is not None
    assert others is not None
    assert same > 0.3 > 0.15 > abs(others)


def test_who_answers_what_well_is_told_from_hashed_terms() -> None:
    trained = train(judged_rows(400), Before(prior), now=5_000, min_judged=50)
    assert trained.learned
    assert trained.learned.predictor
    predict = trained.learned.predictor.success_of
    rivers, music = predict(HASHED.counts("a river is long")), predict(HASHED.counts("a sonata"))
    assert rivers["poor"] > music["poor"] + 0.2


def test_models_that_were_asked_the_same_one_by_one_are_told_together() -> None:
    """As `quorum eval --members --feedback` has them asked: a run for each model, judged by a score."""

    def alone(number: int, member: str, text: str, score: float) -> Row:
        taught = Taught((Said("c1", member, "#c1"),), 1, "#c1", votes=False)
        terms = HASHED.counts(text)
        noted = Noted(f"run_{number:024x}", 1_000.0, "direct", None, None, taught, "c1", None, {}, terms)
        return Row(noted, {RUN: Judgement(2_000.0 + number, score=score)})

    asked = [("a", "one", 1.0), ("b", "one", 0.0), ("a", "two", 0.0), ("a", "one", 0.5), ("b", "two", 1.0)]
    found = asked_together(alone(number, *one) for number, one in enumerate(asked))
    assert [(one.terms, one.scores, one.at) for one in found] == [
        (HASHED.counts("one"), {"a": 1.0, "b": 0.0}, 2_000.0),
        (HASHED.counts("one"), {"a": 0.5}, 2_003.0),
        (HASHED.counts("two"), {"a": 0.0, "b": 1.0}, 2_002.0),
    ]


def test_too_little_feedback_teaches_nothing_and_says_so() -> None:
    trained = train(judged_rows(30), Before(prior), now=5_000, min_judged=50)
    assert trained.learned is None
    assert all("50 are wanted" in one.reason for one in trained.compared)


def test_what_is_worse_than_what_is_in_force_is_not_taken() -> None:
    """In force is the truth; what is fitted to misleading feedback before it does worse on what was judged since."""
    best = PanelWeights({"able": 4.0, "poor": 0.05, "weak": 0.05}, reliability=SKILLS, learned=True)
    misled = [
        replace(row, judgements={target: replace(one, label=LABELS[0]) for target, one in row.judgements.items()})
        for row in judged_rows(200, seed=2)
    ]
    since = judged_rows(40, seed=3, start=10_000)
    in_force = Before(lambda names: best, learned=Learned("l_1", made_at=8_000, panels={ALL: best}))
    trained = train([*misled, *since], in_force, now=20_000, min_judged=50)
    old, new, taken = by_kind(trained)["weights"]
    assert old is not None
    assert new is not None
    assert new < old
    assert not taken
    weights = next(one for one in trained.compared if one.kind == "weights")
    assert (weights.rows, weights.reason) == (40, "worse than what is in force, which stays")
    assert trained.learned is None or trained.learned.panels == {ALL: best}


def test_calibrators_that_were_fitted_are_taken_where_only_chance_says_that_they_are_worse() -> None:
    old, new, taken = by_kind(train(judged_rows(60), Before(prior), now=5_000, min_judged=50))["calibrators"]
    assert old is not None
    assert new is not None
    assert old < new < old + 0.01
    assert taken


def test_calibrators_that_do_clearly_worse_on_what_was_judged_since_are_not_taken() -> None:
    good = train(judged_rows(400, seed=5), Before(prior), now=5_000, min_judged=50).learned
    assert good
    assert good.calibrators
    misled = [
        replace(row, judgements={target: replace(one, label=LABELS[0]) for target, one in row.judgements.items()})
        for row in judged_rows(200, seed=2)
    ]
    in_force = Before(
        lambda names: good.weights(names, prior(names)) or prior(names), good.calibrators, learned=replace(good, made_at=8_000)
    )
    trained = train([*misled, *judged_rows(40, seed=3, start=10_000)], in_force, now=20_000, min_judged=50)
    assert by_kind(trained)["calibrators"][2] is False
    assert trained.learned is None or trained.learned.calibrators == good.calibrators


def test_sets_of_members_that_were_judged_often_have_weights_of_their_own() -> None:
    pair = {"able": 0.6, "poor": 0.9}
    rows = [*judged_rows(120), *judged_rows(120, seed=4, skills=pair, start=500)]
    trained = train(rows, Before(prior), now=5_000, min_judged=50)
    assert trained.learned
    assert set(trained.learned.panels) == {ALL, frozenset(SKILLS), frozenset(pair)}


def test_what_was_learned_is_stored_and_read_and_named_by_its_content() -> None:
    trained = train(judged_rows(200), Before(prior), now=5_000, min_judged=50)
    assert trained.learned
    version, content = stored(trained.learned, trained.report())
    again = read(content)
    assert (again.version, again.rows, again.faults) == (version, 200, ())
    assert set(again.panels) == set(trained.learned.panels)
    assert stored(again, {})[0] == version
    assert again.calibrators
    assert again.predictor
    assert trained.learned.predictor
    river = HASHED.counts("a river")
    assert again.predictor.success_of(river) == pytest.approx(trained.learned.predictor.success_of(river))


def test_a_lesson_that_was_tampered_with_is_left_out_and_the_others_count() -> None:
    trained = train(judged_rows(200), Before(prior), now=5_000, min_judged=50)
    assert trained.learned
    _, content = stored(trained.learned, {})
    tampered = read(content.replace(b'"absent":{', b'"absent":{"x":1.0,', 1))
    assert len(tampered.faults) == 1
    assert tampered.panels == {}
    assert tampered.calibrators is not None
    assert read(b"{").faults
    assert read(b"[1]").faults


def test_a_member_that_was_never_judged_weighs_as_before() -> None:
    trained = train(judged_rows(200), Before(prior), now=5_000, min_judged=50)
    assert trained.learned
    names = ["able", "new"]
    weights = trained.learned.weights(names, prior(names))
    assert weights is not None
    assert weights.members["new"] == prior(names).members["new"]
    assert set(weights.members) == set(names)
    assert set(weights.absent) <= set(names)
    assert trained.learned.weights(["new", "newer"], prior(["new", "newer"])) is None


def test_what_was_not_won_by_a_vote_over_labels_teaches_weights_and_no_calibrators() -> None:
    rows = [
        replace(row, run=replace(row.run, taught=replace(row.run.taught, probability=None))) for row in judged_rows(200, seed=5)
    ]
    trained = train(rows, Before(prior), now=5_000, min_judged=50)
    assert by_kind(trained)["weights"][2] is True
    assert by_kind(trained)["calibrators"] == (None, None, False)
