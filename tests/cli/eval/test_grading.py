from __future__ import annotations

from typing import Any

import pytest

from app.cli.eval.grading import GradeKind, Grading, gold_labels, graded, grading_of


@pytest.mark.parametrize(
    ("gold", "text", "kind", "choices"),
    [
        ((391,), "What is 17 * 23?", "number", ()),
        (("1,200",), "How far?", "number", ()),
        (("yes",), "Is 97 prime?", "choice", ("yes", "no")),
        ((True,), "Is 97 prime?", "choice", ("yes", "no")),
        (("B",), "Which?\nA. one\nB. two\n(C) three", "choice", ("A", "B", "C")),
        (("Paris",), "The capital?", "exact", ()),
        (({"city": "Paris"},), "As JSON?", "json", ()),
        ((), "Anything", "score", ()),
    ],
)
def test_the_grading_follows_from_the_shape_of_the_answer(gold: Any, text: str, kind: str, choices: tuple[str, ...]):
    assert grading_of(gold, text) == Grading(kind, choices)


def test_a_gold_answer_that_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="'D' is none of the choices A, B"):
        grading_of(("D",), "Which?", choices=("A", "B"))
    with pytest.raises(ValueError, match="there are no choices"):
        grading_of(("Paris",), "Which?", kind="choice")


@pytest.mark.parametrize(
    ("how", "gold", "text", "score", "said"),
    [
        (Grading("number"), (1200,), "So it is $1,200.00 in all.\nAnswer: 1,200", 1, "1200"),
        (Grading("number"), ("0.5",), "The answer is 1/2.", 1, "0.5"),
        (Grading("number"), (5,), "The answer is 6.", 0, "6"),
        (Grading("number"), (5,), "I do not know.", 0, None),
        (Grading("choice", ("A", "B"), {"A": "Rome", "B": "Paris"}), ("B",), "The answer is Paris.", 1, "B"),
        (Grading("choice", ("yes", "no")), ("yes",), "[Yes]", 1, "yes"),
        (Grading("choice", ("yes", "no")), (True,), "True.", 1, "yes"),
        (Grading("exact"), ("Paris", "Paris, France"), "**paris, france**", 1, "paris, france"),
        (Grading("exact", pattern="city: (.*)"), ("Paris",), "The city: Paris", 1, "paris"),
        (Grading("contains"), ("Nairobi",), "I would say Nairobi, of course.", 1, "I would say Nairobi, of course."),
        (Grading("regex"), (r"(?i)\bred|blue\b",), "It is Blue", 1, "It is Blue"),
        (Grading("json"), ({"n": 1, "x": ["a"]},), '```json\n{"x": ["A"], "n": "1.0"}\n```', 1, '{"n": "1.0", "x": ["A"]}'),
        (Grading("json"), ({"n": 1},), '{"n": 1, "m": 2}', 0, '{"m": 2, "n": 1}'),
        (Grading("json"), ({"n": 1},), "none", 0, None),
        (Grading("score"), (), "true", 1, "true"),
        (Grading("score"), (), "0.25", 0.25, "0.25"),
        (Grading("score"), (), "7", 0, None),
        (Grading("score"), (), "well done", 0, None),
    ],
)
def test_an_answer_is_right_if_it_says_the_same(how: Grading, gold: Any, text: str, score: float, said: str | None):
    told = graded(text, gold, how)
    assert (told.score, told.said) == (score, said)


@pytest.mark.parametrize(
    ("kind", "gold", "labels"),
    [("number", ("1,200", 3), ("1200", "3")), ("exact", (" Paris.",), ("paris",)), ("choice", ("b",), ("B",))],
)
def test_gold_answers_have_the_labels_that_votes_are_counted_by(kind: GradeKind, gold: Any, labels: tuple[str, ...]):
    assert gold_labels(gold, Grading(kind, ("A", "B") if kind == "choice" else ())) == labels
