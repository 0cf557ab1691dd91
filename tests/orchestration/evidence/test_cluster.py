"""Texts that say the same are one cluster, and the one nearest to all of them stands for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.cluster import LEXICAL_THRESHOLD, clusters
from app.orchestration.evidence.similarity import cosine_distances, label_distances, lexical_distances, mean_distance

PARIS = [
    "The capital of France is Paris.",
    "Paris is the capital city of France.",
    "The capital city of France is Paris, on the Seine.",
]
BERN = [
    "Switzerland has no capital by law, yet Bern is called its federal city.",
    "Bern is called the federal city of Switzerland.",
]


def test_texts_on_one_thing_are_one_cluster_and_the_largest_comes_first():
    found = clusters(lexical_distances([BERN[0], *PARIS, BERN[1]]), threshold=LEXICAL_THRESHOLD)
    assert [one.places for one in found] == [(1, 2, 3), (0, 4)]
    assert [one.share for one in found] == [0.6, 0.4]
    assert found[0].medoid in (1, 2, 3)


def test_weights_decide_which_cluster_is_heaviest_and_who_stands_for_it():
    distances = lexical_distances([BERN[0], *PARIS, BERN[1]])
    found = clusters(distances, threshold=LEXICAL_THRESHOLD, weights=[5, 1, 1, 1, 1])
    assert (found[0].places, found[0].medoid) == ((0, 4), 0)


def test_two_answers_that_differ_in_a_number_are_further_apart_than_two_that_differ_in_a_word():
    text = "She sold the eggs for {} dollars in the {} market of her town on that day."
    same, word, figure = (
        lexical_distances([text.format(18, "old"), text.format(*other)]) for other in ((18, "old"), (18, "new"), (81, "old"))
    )
    assert same[0][1] == 0 < word[0][1] < figure[0][1]


def test_nothing_and_everything_in_common():
    assert lexical_distances(["", ""])[0][1] == 0
    assert lexical_distances(["", "words"])[0][1] == 1
    assert lexical_distances(["x + 1", "x - 1"])[0][1] > 0
    assert mean_distance(lexical_distances(["alone"])) is None
    assert mean_distance(label_distances(["a", "a", "b", None])) == pytest.approx(5 / 6)


def test_embeddings_are_compared_by_their_angle():
    distances = cosine_distances([[1, 0], [2, 0], [0, 3], [-1, 0], [0, 0]])
    assert (distances[0][1], distances[0][2], distances[0][3], distances[0][4]) == (0, 1, 1, 1)
    with pytest.raises(ValueError, match="one length"):
        cosine_distances([[1.0], [1.0, 2.0]])


@given(st.lists(st.text("abc 12", max_size=30), max_size=8))
def test_distances_are_symmetric_and_bounded(texts):
    distances = lexical_distances(texts)
    for one in range(len(texts)):
        assert distances[one][one] == 0
        for other in range(len(texts)):
            assert 0 <= distances[one][other] == distances[other][one] <= 1


@given(st.lists(st.lists(st.floats(0.1, 1), min_size=3, max_size=3), max_size=9), st.floats(0, 1))
def test_every_text_is_in_one_cluster_and_its_medoid_in_it(vectors, threshold):
    found = clusters(cosine_distances(vectors), threshold=threshold)
    assert sorted(place for one in found for place in one.places) == list(range(len(vectors)))
    assert all(one.medoid in one.places for one in found)
    assert [one.weight for one in found] == sorted((one.weight for one in found), reverse=True)
    assert sum(one.share for one in found) == pytest.approx(1 if vectors else 0)
