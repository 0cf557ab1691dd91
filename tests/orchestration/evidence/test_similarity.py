"""Texts that state opposite things are never taken for alike, however many words they share."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.cluster import LEXICAL_THRESHOLD, clusters
from app.orchestration.evidence.similarity import lexical_distances

OPPOSITE = [
    ("Answer: yes", "Answer: no"),
    ("Answer: A", "Answer: B"),
    ("A", "B"),
    ("Paris", "Rome"),
    ("It is Rome.", "Paris"),
    ("The answer is 391", "The answer is 400"),
    ("17*23 = 391", "17*23 = 400"),
    ("The capital of Australia is Canberra.", "The capital of Australia is Sydney."),
    ("Canberra is the capital.", "Sydney is the capital."),
    ("The painting was made by Monet in Paris", "The painting was made by Manet in Paris"),
    ("Yes, it is safe to take both medicines together.", "No, it is not safe to take both medicines together."),
    ("Yes, it is safe to take both medicines together.", "It is not safe to take both medicines together."),
    ("No, they can be taken together.", "They can be taken together."),
    ("The function is thread-safe.", "The function is not thread-safe."),
    ("I think it isn't a prime number.", "I think it is a prime number."),
    ("It is legal to park here at night.", "It is illegal to park here at night."),
    ("It will increase the price.", "It will decrease the price."),
    ("The sky is blue.", "The sky is green."),
    ("東京です", "大阪です"),
    ("日本の首都は東京です", "日本の首都は大阪です"),
    ("这是安全的", "这是不安全的"),
    ("The capital is Tokyo (東京).", "The capital is Osaka (大阪)."),
    ("これは安全です", "これは安全ではない"),
]
ALIKE = [
    ("答えは東京です。", "東京"),
    ("日本の首都は東京です。", "首都は東京です。"),
    ("Zürich", unicodedata.normalize("NFD", "Zürich")),
    ("The capital of France is Paris.", "Paris is the capital city of France."),
    ("Paris", "The capital is Paris."),
    ("Answer: 5", "After some work on apples and oranges we see how it ends.\nThe answer is 5"),
    ("17*23 = 391", "The answer is 391"),
    ("No, it isn't safe.", "It is not safe."),
    ("Yes, it is prime.", "Yes. 7 has no divisors but 1 and itself, so it is prime."),
    ("There are 5 ways to do it.", "There are 5 ways to do it, found in 1990."),
]
WORK = "They set out at dawn with {} baskets, and at the market each was sold for the price that the farmer had named before. "


@pytest.mark.parametrize(("one", "other"), OPPOSITE)
def test_opposite_statements_are_never_one_cluster(one: str, other: str):
    assert lexical_distances([one, other])[0][1] == 1
    assert len(clusters(lexical_distances([one, other]), threshold=LEXICAL_THRESHOLD)) == 2


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_one_statement_in_other_words_is_one_cluster(one: str, other: str):
    assert lexical_distances([one, other])[0][1] <= LEXICAL_THRESHOLD


def test_a_word_denied_and_its_opposite_are_no_contradiction():
    assert lexical_distances(["It is not legal to park here.", "It is illegal to park here."])[0][1] < 1


def test_worked_answers_are_told_apart_by_how_they_begin_and_end():
    work = WORK.format(7) * 3
    yes, no = f"Yes, it is enough.\n{work}", f"No, it is not enough.\n{work}"
    assert lexical_distances([yes, no])[0][1] == 1
    assert lexical_distances([f"{work}Answer: 12", f"{work}Answer: 13"])[0][1] == 1
    assert lexical_distances([f"{work}\nSo they earn 12 dollars.", f"{work}\nSo they earn 13 dollars."])[0][1] == 1
    assert lexical_distances([f"{work}\nSo they earn 12 dollars.", f"{work}\nThey earn 12 dollars."])[0][1] < 0.5


def test_an_introduction_states_nothing():
    advice = WORK.format("some") * 3
    one, other = f"Here are 5 ways to do it:\n{advice}", f"Here are 7 ways to do it:\n{advice}"
    assert lexical_distances([one, other])[0][1] < 0.5


def test_a_text_that_states_nothing_brings_no_opposites_together():
    middle = "It depends on whether both medicines are safe to take together."
    texts = ["Yes, it is safe to take both medicines together.", middle, "No, it is not safe to take both medicines together."]
    found = clusters(lexical_distances(texts), threshold=LEXICAL_THRESHOLD)
    assert not any({0, 2} <= set(one.places) for one in found)


@given(st.text(max_size=250), st.text(max_size=250))
def test_no_text_contradicts_itself_and_none_makes_comparing_fail(one: str, other: str):
    distances = lexical_distances([one, one, other])
    assert distances[0][1] == 0
    assert 0 <= distances[0][2] == distances[1][2] <= 1


@pytest.mark.parametrize(
    "piece", ["answer is ", "no. ", "not ", "[", "1,2", "\\boxed{", "東", "x ", "\n", "yes, ", "{", "5% of "]
)
def test_hostile_texts_are_compared_in_linear_time(piece: str):
    began = time.perf_counter()
    lexical_distances([piece * 30_000, piece * 30_001, "yes"])
    assert time.perf_counter() - began < 3
