"""Ballots: what is read as one, and the laws of counting them."""

import json
import time
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.ranking import borda, concordance, labels, orders, parse_ballot, scores

KNOWN = ("A", "B", "C")


@pytest.mark.parametrize(
    "text",
    [
        '{"ranking": ["B", "A", "C"]}',
        'Here it is:\n```json\n{"ranking": ["b", "a", "c"]}\n```\nI hope that helps.',
        '{"ranking": ["Answer B", "Answer A", "response C"], "why": "{no braces} matter"}',
        '["B", "A", "C"]',
        'First I thought {"ranking": ["A", "B", "C"]}, but then {"ranking": ["B", "A", "C"]}',
        'The best is B.\n\nFinal ranking: ["B", "A", "C"].',
        "B > A > C",
        "My ranking: **B** > **A** > **C**",
        "I rank them Answer B, Answer A, Answer C.",
        "1. B\n2. A\n3. C",
        "1) Answer B: the clearest\n2) Answer A: fine\n3) Answer C: wrong",
        "- B\n- A\n- C",
        "B -> A -> C",
    ],
)
def test_a_ranking_is_read_from(text):
    assert parse_ballot(text, KNOWN) == (("B",), ("A",), ("C",))


@pytest.mark.parametrize(
    ("text", "ballot"),
    [
        ('{"ranking": [["B", "A"], "C"]}', (("B", "A"), ("C",))),
        ('{"ranking": ["B"]}', (("B",), ("A", "C"))),
        ("B = A > C", (("B", "A"), ("C",))),
    ],
)
def test_ties_and_what_is_left_out_are_read_as_ties(text, ballot):
    assert parse_ballot(text, KNOWN) == ballot


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A is a good answer, I think.",
        '{"ranking": []}',
        '{"ranking": ["A", "B", "D"]}',
        '{"ranking": ["A", "A", "B"]}',
        '{"ranking": [1, 2, 3]}',
        '{"ranking": "B"}',
        '{"ranking": {"A": 1}}',
        "A > B",
        "[1] and [2]",
        "null",
    ],
)
def test_no_ranking_is_read_from(text):
    assert parse_ballot(text, KNOWN) is None


@pytest.mark.parametrize("unit", ["[", "{", '"', "*", "A ", "A, ", "\n", " ", "A>", "1. ", '["A"]', '{"a":', "answer ", "9"])
def test_no_text_takes_long_to_read(unit):
    began = time.thread_time()
    parse_ballot(unit * 200_000, KNOWN)
    assert time.thread_time() - began < 1.0


@given(st.text(max_size=200))
def test_whatever_the_text_the_ballot_is_valid_or_none(text):
    ballot = parse_ballot(text, KNOWN)
    assert ballot is None or sorted(label for group in ballot for label in group) == list(KNOWN)


def test_labels_go_on_after_z():
    assert labels(3) == ("A", "B", "C")
    assert labels(28)[-2:] == ("AA", "AB")
    assert len(set(labels(702))) == 702


members = st.integers(2, 6).map(lambda n: [f"c{i}" for i in range(n)])


@st.composite
def elections(draw):
    """Members and ballots over them, with ties."""
    who = draw(members)
    ballots = []
    for _ in range(draw(st.integers(1, 6))):
        order = draw(st.permutations(who))
        groups = [[order[0]]]
        for member in order[1:]:
            if draw(st.booleans()):
                groups.append([])
            groups[-1].append(member)
        ballots.append(tuple(tuple(group) for group in groups))
    return who, ballots


@given(elections())
def test_every_ballot_gives_out_the_same_number_of_points(election):
    who, ballots = election
    assert sum(borda(ballots, who).values()) == pytest.approx(len(ballots) * len(who) * (len(who) - 1) / 2)


@given(elections())
def test_scores_are_between_nothing_and_one(election):
    who, ballots = election
    assert all(0 <= score <= 1 for score in scores(borda(ballots, who), len(ballots)).values())


@given(elections(), st.randoms(use_true_random=False))
def test_neither_the_order_of_the_ballots_nor_the_names_matter(election, random):
    who, ballots = election
    shuffled = random.sample(ballots, len(ballots))
    renamed = dict(zip(who, random.sample(who, len(who)), strict=True))
    as_renamed = [tuple(tuple(renamed[m] for m in group) for group in ballot) for ballot in ballots]

    assert borda(shuffled, who) == pytest.approx(borda(ballots, who))
    assert {renamed[m]: p for m, p in borda(ballots, who).items()} == pytest.approx(borda(as_renamed, who))
    assert concordance(as_renamed, who) == pytest.approx(concordance(ballots, who))


@given(elections())
def test_rising_on_one_ballot_never_costs_points(election):
    who, ballots = election
    first = ballots[0]
    lifted = first[-1][0]
    raised = ((lifted,), *(tuple(m for m in group if m != lifted) for group in first))
    raised = tuple(group for group in raised if group)
    assert borda([raised, *ballots[1:]], who)[lifted] >= borda(ballots, who)[lifted]


@given(elections())
def test_unanimous_ballots_agree_fully_and_opposed_ones_not_at_all(election):
    who, _ = election
    strict = tuple((member,) for member in who)
    assert concordance([strict] * 4, who) == pytest.approx(1.0)
    assert concordance([strict, strict[::-1]], who) == pytest.approx(0.0)


@given(elections())
def test_agreement_is_between_nothing_and_one_where_it_is_defined(election):
    who, ballots = election
    agreement = concordance(ballots, who)
    assert agreement is None or -1e-9 <= agreement <= 1


def test_ballots_that_tie_alike_agree_fully():
    assert concordance([(("A", "B"), ("C",))] * 2, KNOWN) == pytest.approx(1.0)
    assert concordance([(("A", "B", "C"),)] * 2, KNOWN) is None


def test_all_possible_ballots_together_prefer_nobody():
    every = [tuple((member,) for member in order) for order in permutations(KNOWN)]
    assert set(scores(borda(every, KNOWN), len(every)).values()) == {0.5}
    assert concordance(every, KNOWN) == pytest.approx(0.0)


@given(st.integers(1, 12), st.integers())
def test_every_answer_stands_once_at_every_place(count, seed):
    rows = orders(count, count, seed)
    assert all(sorted(row) == list(range(count)) for row in rows)
    assert all(sorted(row[place] for row in rows) == list(range(count)) for place in range(count))
    assert orders(count, count, seed) == rows


def test_a_json_ballot_survives_any_labels():
    known = labels(30)
    order = list(reversed(known))
    assert parse_ballot(json.dumps({"ranking": order}), known) == tuple((label,) for label in order)
