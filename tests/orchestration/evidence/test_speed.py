"""What deciding costs: it is done while answers come in, so it must not be felt."""

import random
import time
from collections.abc import Callable

import pytest

from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.cluster import clusters
from app.orchestration.evidence.similarity import lexical_distances
from app.orchestration.evidence.stopping import enough
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import prior_weights

pytestmark = pytest.mark.alone


def fastest_ms(work: Callable[[], object], rounds: int = 15) -> float:
    """The least of some rounds: the machine's noise only adds."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return min(taken)


def test_twenty_answers_of_three_hundred_words_are_clustered_within_ten_milliseconds():
    draw = random.Random(1)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(3000)]
    bases = [draw.choices(words, k=300) for _ in range(3)]
    texts = [" ".join(word if draw.random() < 0.8 else draw.choice(words) for word in bases[at % 3]) for at in range(20)]
    took = fastest_ms(lambda: clusters(lexical_distances(texts), threshold=0.75))
    print(f"clustering 20 answers of 300 words: {took:.1f} ms")
    assert took <= 10


def test_a_vote_over_twenty_and_whether_to_stop_take_less_than_a_millisecond():
    members = [f"m{at}" for at in range(20)]
    weights = prior_weights(members)
    ballots = [Ballot(member, "ABC"[at % 3]) for at, member in enumerate(members)]
    vote = fastest_ms(lambda: decide(ballots, weights))
    stop = fastest_ms(lambda: enough(ballots[:10], dict.fromkeys(members[10:], 1), weights, rule="confident"))
    print(f"a vote over 20: {vote * 1000:.0f} us; whether to stop: {stop * 1000:.0f} us")
    assert vote < 0.5
    assert stop < 1
