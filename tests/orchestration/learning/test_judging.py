"""What follows from a judgement for those who answered."""

from __future__ import annotations

import orjson
import pytest

from app.core.errors import InvalidRequest
from app.orchestration.evidence.extraction import Choices, JsonAnswer, NumberAnswer, TextAnswer
from app.orchestration.learning.judging import (
    RUN,
    Judgement,
    contests,
    credit_of,
    label_of,
    observation,
    outcome,
    read_judgements,
    verdicts,
)
from app.orchestration.learning.taught import Noted, Said, Taught, kept_label, noted

VOTE = Taught(
    (Said("c1", "a", "yes"), Said("c2", "b", "no"), Said("c3", "c", "yes"), Said("c4", "a", None)),
    3,
    "yes",
    0.8,
    Choices(("yes", "no")),
)
TEXTS = Taught((Said("c1", "a", "#c1"), Said("c2", "b", "#c2"), Said("c3", "c", "#c1")), 3, "#c1", 0.6)


def run(taught: Taught = VOTE) -> Noted:
    return Noted("run_1", 10.0, "consensus", None, "law", taught, "c1", 0.8, {"a": (1.0, 0.1)}, {"ab": 2})


def test_what_is_kept_of_a_run_is_read_again_as_it_was() -> None:
    for reader in (Choices(("a", "b"), {"a": "x"}, "p"), NumberAnswer("km"), JsonAnswer(), TextAnswer("(a)"), None):
        kept = run(Taught(VOTE.said, 3, "yes", 0.8, reader, (1.0, 0.1), votes=False))
        assert noted(kept.as_json()) == kept
    with pytest.raises(ValueError, match="cannot be read"):
        noted(b'{"run": "run_1"}')


def test_judgements_are_read_again_as_they_were() -> None:
    said = {RUN: Judgement(1.0, score=0.5, by="ann"), "c1": Judgement(2.0, "c1", score=1)}
    stored = orjson.dumps({target: one.as_json().decode() for target, one in said.items()})
    assert read_judgements(stored) == said
    assert read_judgements(None) == {}


def test_the_right_answer_credits_who_said_it_each_replicate_for_its_share() -> None:
    judged = {RUN: Judgement(1.0, label="no")}
    assert credit_of(run(), judged) == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert outcome(run(), judged) is False
    seen = observation(run(), judged)
    assert (seen.right, seen.category, seen.answers["a"].replicates) == (frozenset({"no"}), "law", (None,))
    assert credit_of(run(), {RUN: Judgement(1.0, label="yes")}) == {"a": 0.5, "b": 0.0, "c": 1.0}


def test_a_score_of_the_run_is_that_of_all_who_said_what_it_answered() -> None:
    assert credit_of(run(TEXTS), {RUN: Judgement(1.0, score=0.8)}) == {"a": 0.8, "c": 0.8}
    assert credit_of(run(), {RUN: Judgement(1.0, score=0.8)}) == {"a": 0.4, "b": 0.0, "c": 0.8}
    assert outcome(run(TEXTS), {RUN: Judgement(1.0, score=0.2)}) is False


def test_of_texts_a_good_candidate_says_nothing_of_the_others_and_a_preferred_one_does() -> None:
    good = {"c2": Judgement(1.0, "c2", score=1)}
    assert credit_of(run(TEXTS), good) == {"b": 1.0}
    assert outcome(run(TEXTS), good) is None
    best = {RUN: Judgement(1.0, preferred="c2")}
    assert outcome(run(TEXTS), best) is False
    assert contests(run(TEXTS), best) == {"a": False, "b": True, "c": False}
    assert contests(run(TEXTS), good) == {}


def test_labels_of_texts_are_none_of_another_run() -> None:
    (label, *_) = observation(run(TEXTS), {}).answers["a"].labels
    assert label is not None
    assert "run_1" in label


@pytest.mark.parametrize(
    ("taught", "said", "label"),
    [
        (VOTE, "Yes.", "yes"),
        (VOTE, "I think the answer is no", "no"),
        (Taught(VOTE.said, 3, "1200", 0.5, NumberAnswer()), "1,200", "1200"),
        (Taught(VOTE.said, 3, "10", 0.5, NumberAnswer(), (10.0, 0.1)), "10.05", "10"),
        (Taught(VOTE.said, 3, "paris", 0.5, TextAnswer(r"City: (\w+)")), "City: Paris", "paris"),
        (Taught(VOTE.said, 3, "paris", 0.5, TextAnswer(r"City: (\w+)")), "Paris", "paris"),
        (Taught(VOTE.said, 3, "yes", 0.5, Choices(("A", "B"), {"A": "Rome"}, r"=> (\w)")), "A", "A"),
    ],
)
def test_a_right_answer_is_read_as_the_answers_were(taught: Taught, said: str, label: str) -> None:
    assert label_of(said, run(taught)) == label


def test_json_is_compared_by_what_it_says_and_kept_as_a_digest() -> None:
    taught = Taught(VOTE.said, 3, "x", 0.5, JsonAnswer())
    one, other = label_of('{"a": 1, "b": 2}', run(taught)), label_of('{"b":2,"a":1}', run(taught))
    assert one == other == kept_label('{"a": 1, "b": 2}', JsonAnswer())
    assert one.startswith("#")


@pytest.mark.parametrize(("taught", "said"), [(VOTE, "perhaps"), (TEXTS, "any")])
def test_what_cannot_be_read_is_refused(taught: Taught, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        label_of(said, run(taught))
    assert refused.value.param == "label"


def test_a_review_stands_over_feedback_on_the_same_label() -> None:
    wrong = Judgement(1.0, score=0, source="review")
    right = Judgement(2.0, score=1, source="review")
    for feedback, review in ((1, wrong), (0, right)):
        said = {RUN: review, "c1": Judgement(3.0, "c1", score=feedback)}
        assert outcome(run(), said) is (review is right)
        good, bad = verdicts(run(), said)
        assert (good, bad) == (({"yes"}, set()) if review is right else (set(), {"yes"}))
