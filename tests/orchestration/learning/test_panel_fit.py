"""The fitted weights of panels whose truth is known, since it was made."""

import random
import subprocess
import sys

import pytest

from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import OTHER
from app.orchestration.learning.observations import Answer, Observation
from app.orchestration.learning.panel_fit import fit_panel


def asked(
    skills: dict[str, float], rows: int, *, labels: str = "abcdefgh", copies: dict[str, str] | None = None, seed: int = 1
) -> list[Observation]:
    """Questions about `labels`: a member knows the answer with its skill, else it guesses; a copy says what another does."""
    draw = random.Random(seed)
    found = []
    for _ in range(rows):
        gold = draw.choice(labels)
        answers = {member: gold if draw.random() < skill else draw.choice(labels) for member, skill in skills.items()}
        answers |= {copy: answers[of] for copy, of in (copies or {}).items()}
        found.append(Observation({member: Answer(label) for member, label in answers.items()}, frozenset({gold})))
    return found


def test_the_better_a_member_the_more_it_weighs():
    weights = fit_panel(asked({"good": 0.9, "fair": 0.6, "poor": 0.2}, 400))
    assert weights.members["good"] > weights.members["fair"] > weights.members["poor"]
    assert weights.reliability["good"] == pytest.approx(0.91, abs=0.04)


def test_a_copy_of_a_member_is_not_counted_twice():
    skills = {"one": 0.6, "two": 0.6, "three": 0.6}
    alone = fit_panel(asked(skills, 600))
    copied = fit_panel(asked(skills, 600, copies={"copy": "one"}))
    together = copied.members["one"] + copied.members["copy"]
    assert together < 1.5 * alone.members["one"]
    ballots = asked({}, 1)[0].ballots()
    assert ballots == []
    split = Observation({"one": Answer("a"), "copy": Answer("a"), "two": Answer("b"), "three": Answer("b")})
    assert decide(split.ballots(), copied).winner == "b"


def test_a_member_that_always_says_no_weighs_nothing_when_it_does():
    draw = random.Random(2)
    rows = []
    for _ in range(400):
        gold = draw.choice(["yes", "no"])
        fair = gold if draw.random() < 0.7 else "yes" if gold == "no" else "no"
        rows.append(Observation({"fair": Answer(fair), "naysayer": Answer("no")}, frozenset({gold})))
    weights = fit_panel(rows)
    assert weights.classes == ("no", "yes")
    assert decide(Observation({"fair": Answer("yes"), "naysayer": Answer("no")}).ballots(), weights).winner == "yes"
    assert decide(Observation({"fair": Answer("no"), "naysayer": Answer("no")}).ballots(), weights).winner == "no"


def test_a_label_that_is_never_right_loses_to_one_that_may_be():
    draw = random.Random(3)
    rows = []
    for _ in range(300):
        gold = draw.choice("abc")
        best = gold if draw.random() < 0.8 else str(draw.randrange(1000))
        other = gold if draw.random() < 0.5 else draw.choice("abc")
        rows.append(Observation({"best": Answer(best), "other": Answer(other)}, frozenset({gold})))
    weights = fit_panel(rows)
    assert weights.bias[OTHER] < min(weights.bias[label] for label in "abc")
    assert decide(Observation({"best": Answer("777"), "other": Answer("a")}).ballots(), weights).winner == "a"


def test_open_answers_have_no_classes():
    draw = random.Random(4)
    rows = [
        Observation({"a": Answer(str(gold := draw.random())), "b": Answer("0.5")}, frozenset({str(gold)})) for _ in range(100)
    ]
    assert fit_panel([*rows, *asked({"a": 0.5, "b": 0.5}, 50, labels="stuvwxyz")]).classes == ()


def test_who_is_good_at_a_category_weighs_more_in_it():
    law = [Observation(one.answers, one.right, category="law") for one in asked({"lawyer": 0.95, "artist": 0.4}, 200)]
    art = [Observation(one.answers, one.right, category="art") for one in asked({"lawyer": 0.4, "artist": 0.95}, 200, seed=5)]
    weights = fit_panel(law + art)
    split = Observation({"lawyer": Answer("a"), "artist": Answer("b")})
    assert decide(split.ballots(), weights, category="law").winner == "a"
    assert decide(split.ballots(), weights, category="art").winner == "b"


def test_feedback_on_the_outcome_alone_teaches_too():
    draw = random.Random(6)
    rows = []
    for one in asked({"good": 0.85, "poor": 0.3}, 500):
        shown = one.answers[draw.choice(["good", "poor"])].label
        liked = shown in one.right
        rows.append(
            Observation(one.answers, *((frozenset({shown}), frozenset()) if liked else (frozenset(), frozenset({shown}))))
        )
    weights = fit_panel(rows)
    assert weights.members["good"] > weights.members["poor"] + 0.5


def test_answers_that_nobody_judged_are_not_held_against_who_gave_them():
    told = [
        Observation({"shown": Answer(f"bad {at}"), "unseen": Answer(f"good {at}")}, frozenset({f"good {at}"}))
        for at in range(50)
    ]
    disliked = [
        Observation({"shown": Answer(f"bad {at}"), "unseen": Answer(f"other {at}")}, wrong=frozenset({f"bad {at}"}))
        for at in range(100)
    ]
    question = Observation({"shown": Answer("x"), "unseen": Answer("y")}).ballots()
    assert decide(question, fit_panel(told + disliked)).probability > 0.9


def test_replicates_that_agree_with_themselves_are_heard_more():
    draw = random.Random(7)
    rows = []
    for _ in range(300):
        gold = draw.choice("abcd")
        three = [gold if draw.random() < 0.6 else draw.choice("abcd") for _ in range(3)]
        one = gold if draw.random() < 0.6 else draw.choice("abcd")
        rows.append(Observation({"thrice": Answer(three[0], tuple(three[1:])), "once": Answer(one)}, frozenset({gold})))
    weights = fit_panel(rows)
    firm = Observation({"thrice": Answer("a", ("a", "a")), "once": Answer("b")})
    torn = Observation({"thrice": Answer("a", ("c", "d")), "once": Answer("b")})
    sure, unsure = (decide(one.ballots(), weights).standings for one in (firm, torn))
    assert sure[0].label == "a"
    assert sure[0].probability > 0.9 > 0.6 > unsure[0].probability


def test_without_judgements_it_is_the_prior_and_a_fit_can_be_repeated():
    rows = asked({"a": 0.8, "b": 0.5}, 60)
    unjudged = fit_panel([Observation(one.answers) for one in rows])
    assert not unjudged.learned
    assert unjudged.members["a"] == unjudged.members["b"]
    assert fit_panel(rows, seed=3) == fit_panel(rows, seed=3)
    assert fit_panel([]).members == {}


def test_serving_imports_nothing_that_only_fitting_needs():
    modules = [
        "evidence.vote",
        "evidence.confidence",
        "evidence.stopping",
        "evidence.bundle",
        "learning.artefacts",
        "learning.text_fit",
    ]
    code = "import sys\n" + "\n".join(f"import app.orchestration.{name}" for name in [*modules, "learning.calibrator_fit"])
    code += "\nprint([name for name in ('numpy', 'scipy', 'sklearn') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout.strip() == "[]"
