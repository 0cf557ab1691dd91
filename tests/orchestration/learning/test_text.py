"""The success predictor: learned with scikit-learn, served without it."""

import json
import random
from typing import Any

import pytest

from app.orchestration.learning import text_fit
from app.orchestration.learning.artefacts import artefact_of, lesson_of
from app.orchestration.learning.text_fit import Scored, fit_text
from app.orchestration.learning.text_model import READ_CHARACTERS, SuccessPredictor, terms

SUMS = ["add the numbers", "what is the sum of", "multiply two numbers", "divide the total by"]
POEMS = ["write a poem about", "rhyme the words of", "a sonnet on", "verse about spring and"]
OBJECTS = ["apples", "trains", "the sea", "seven hills", "a clock", "grandmother", "winter", "cats"]


def prompts(count: int, seed: int = 1) -> list[Scored]:
    """Sums, which `counter` is good at, and poems, which `poet` is."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        sums = draw.random() < 0.5
        text = f"{draw.choice(SUMS if sums else POEMS)} {draw.choice(OBJECTS)} {draw.choice(OBJECTS)}"
        scores = {
            "counter": float(draw.random() < (0.9 if sums else 0.2)),
            "poet": float(draw.random() < (0.2 if sums else 0.9)),
        }
        rows.append(Scored(text, scores))
    return rows


def test_it_tells_who_is_good_at_what():
    found = fit_text(prompts(300))
    assert found.success("what is the sum of cats")["counter"] > 0.7 > 0.3 > found.success("what is the sum of cats")["poet"]
    assert found.success("write a poem about cats")["poet"] > 0.7


def test_it_is_what_scikit_learn_would_predict():
    feature_extraction = pytest.importorskip("sklearn.feature_extraction.text")
    linear_model = pytest.importorskip("sklearn.linear_model")
    rows = prompts(200)
    found = fit_text(rows)
    vectorizer = feature_extraction.TfidfVectorizer(
        analyzer=lambda text: list(terms(text)), vocabulary=list(found.terms), sublinear_tf=True
    )
    sparse, numpy = pytest.importorskip("scipy.sparse"), pytest.importorskip("numpy")

    def sized(matrix: Any, texts: list[str]) -> Any:
        """With a last column for the length of each text."""
        assert found.size is not None
        usual, spread = found.size
        lengths = numpy.log1p([len(list(terms(text))) for text in texts])
        return sparse.hstack([matrix, 0.3 * ((lengths - usual) / spread).clip(-3, 3)[:, None]])

    asked = [row.text for row in rows]
    matrix = sized(vectorizer.fit_transform(asked), asked)
    new = [row.text for row in prompts(20, seed=9)]
    theirs = {}
    for strength in text_fit.STRENGTHS:
        model = linear_model.LogisticRegression(C=strength, max_iter=300).fit(matrix, [row.scores["poet"] for row in rows])
        theirs[strength] = model.predict_proba(sized(vectorizer.transform(new), new))[:, 1]
    ours = [found.success(text)["poet"] for text in new]
    assert any(ours == pytest.approx(list(one), abs=0.01) for one in theirs.values())


def test_how_long_a_prompt_is_tells_how_hard_it_is():
    """No word tells it: all of them are alike in long prompts and in short ones."""
    draw = random.Random(3)
    rows = []
    for at in range(300):
        count = 5 if at % 2 else 40
        text = " ".join(draw.choices(OBJECTS, k=count))
        rows.append(Scored(text, {"m": float(draw.random() < (0.95 if count == 5 else 0.4))}))
    found = fit_text(rows)
    short, long = (" ".join(draw.choices(OBJECTS, k=count)) for count in (5, 40))
    assert found.success(short)["m"] > found.success(long)["m"] + 0.3
    stored = lesson_of(artefact_of(found))
    assert isinstance(stored, SuccessPredictor)
    assert stored.success(long) == found.success(long)


def test_a_partial_score_counts_as_that_much():
    rows = [Scored(f"question {at % 7} of {at % 5}", {"m": 0.25}) for at in range(100)]
    assert fit_text(rows).success("question 3 of 2")["m"] == pytest.approx(0.25, abs=0.03)


def test_a_model_with_few_scores_or_always_the_same_is_told_by_its_mean():
    rows = [Scored(row.text, {**row.scores, "perfect": 1.0}) for row in prompts(100)]
    rows[0] = Scored(rows[0].text, {**rows[0].scores, "new": 0.0})
    found = fit_text(rows)
    assert found.success("anything")["perfect"] > 0.99
    assert found.success("anything")["new"] == pytest.approx(0.25)
    assert set(found.coefficients) == {"counter", "poet"}


def test_tags_are_features_too():
    rows = [Scored("solve it", {"m": float(at % 2)}, ("math" if at % 2 else "law",)) for at in range(100)]
    found = fit_text(rows)
    assert found.success("solve it", ("math",))["m"] > found.success("solve it", ("law",))["m"] + 0.5


def test_nothing_learned_predicts_nothing_and_fails_at_nothing():
    assert fit_text([]).success("hello") == {}
    assert SuccessPredictor().features("hello") == {}


def test_a_prompt_without_known_words_is_told_by_the_intercept():
    found = fit_text(prompts(200))
    assert 0.3 < found.success("zzz qqq")["poet"] < 0.7


def test_only_the_ends_of_an_endless_prompt_are_read():
    words = list(terms("first " + "middle " * 10_000 + "last"))
    assert ("first" in words, "last" in words, len(words) < READ_CHARACTERS) == (True, True, True)


def test_its_artefact_stays_below_a_megabyte_for_nine_models_and_a_large_vocabulary():
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnop", k=7)) for _ in range(9000)]
    rows = [
        Scored(" ".join(draw.choices(words, k=60)), {f"model-{at}": float(draw.random() < 0.5) for at in range(9)})
        for _ in range(400)
    ]
    size = len(json.dumps(artefact_of(fit_text(rows)).body, separators=(",", ":")))
    assert 100_000 < size < 1_000_000
