"""When enough were asked: `decided` is proven against every way the rest could vote, `confident` is as careful as it says."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.stopping import asking_order, chance_of_change, enough, is_decided
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import PanelWeights, prior_weights, uniform

MEMBERS = ("a", "b", "c", "d", "e")
UNIFORM = uniform(MEMBERS)


def said(**labels: str | None) -> list[Ballot]:
    return [Ballot(member, label) for member, label in labels.items()]


def test_three_of_five_that_agree_are_enough_and_two_are_not():
    assert not enough(said(a="x", b="x"), {"c": 1, "d": 1, "e": 1}, UNIFORM, rule="decided")
    assert enough(said(a="x", b="x", c="x"), {"d": 1, "e": 1}, UNIFORM, rule="decided")


def test_what_labels_are_worth_by_themselves_counts_in_what_is_decided():
    weights = PanelWeights(dict.fromkeys(MEMBERS, 1.0), classes=("x", "y"), bias={"x": 0.0, "y": 1.5, "": 0.0})
    two = said(a="x", b="x")
    assert not is_decided(two, decide(two, weights), {"c": 1}, weights)
    assert decide([*two, Ballot("c", "y")], weights).winner == "y"
    assert is_decided(two, decide(two, uniform(MEMBERS)), {"c": 1}, uniform(MEMBERS))


def test_never_asks_everybody():
    assert not enough(said(a="x", b="x", c="x", d="x"), {"e": 1}, UNIFORM, rule="never")
    assert enough(said(a="x", b="x"), {"e": 0}, UNIFORM, rule="never")


def test_nothing_readable_decides_nothing():
    assert not enough(said(a=None, b=None), {"c": 1}, UNIFORM, rule="confident", change=1.0)


def test_confident_stops_sooner_and_the_surer_it_is_of_the_leader():
    weights = prior_weights(MEMBERS, reliability=dict.fromkeys(MEMBERS, 0.95))
    two, left = said(a="x", b="x"), {"c": 1, "d": 1, "e": 1}
    assert not enough(two, left, weights, rule="decided")
    assert enough(two, left, weights, rule="confident", right=0.99, change=0.05)
    assert not enough(two, left, weights, rule="confident", right=0.6, change=0.05)


def test_a_leader_that_is_wrong_is_overturned_together():
    weights = prior_weights(MEMBERS, reliability=dict.fromkeys(MEMBERS, 0.95))
    decision = decide(said(a="x"), weights)
    left = dict.fromkeys("bcde", 1)
    assert chance_of_change(decision, left, weights, right=0.9) == pytest.approx(0.1, abs=0.02)


def test_the_member_that_weighs_most_is_asked_first_and_by_category():
    weights = PanelWeights({"a": 1, "b": 3, "c": 2}, by_category={"a": {"law": 5.0}})
    assert asking_order(("a", "b", "c"), weights) == ("b", "c", "a")
    assert asking_order(("a", "b", "c"), weights, category="law") == ("a", "b", "c")


@settings(max_examples=150)
@given(
    st.dictionaries(st.sampled_from(MEMBERS[:4]), st.sampled_from(["x", "y", None]), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(MEMBERS), st.floats(-1, 3), min_size=5, max_size=5),
    st.booleans(),
    st.data(),
)
def test_what_is_decided_no_answers_can_change(given_labels, weights, classes, data):
    bias = {"x": data.draw(st.floats(-1, 1)), "y": data.draw(st.floats(-1, 1)), "": data.draw(st.floats(-2, 0))}
    by_class = {member: {"x": data.draw(st.floats(-1, 1))} for member in MEMBERS} if classes else {}
    panel = PanelWeights(weights, classes=("x", "y") if classes else (), bias=bias, by_class=by_class)
    ballots = said(**given_labels)
    left = [member for member in MEMBERS[:4] if member not in given_labels]
    decision = decide(ballots, panel)
    if is_decided(ballots, decision, dict.fromkeys(left, 1), panel):
        for rest in product(["x", "y", "new", None], repeat=len(left)):
            whole = [*ballots, *(Ballot(member, label) for member, label in zip(left, rest, strict=True))]
            assert decide(whole, panel).winner == decision.winner


@settings(max_examples=100)
@given(st.lists(st.sampled_from(["x", "y", None]), min_size=1, max_size=3), st.lists(st.sampled_from(["x", "y"]), max_size=2))
def test_what_is_decided_among_replicates_no_replicates_can_change(first, second):
    ballots = [Ballot("a", label, at) for at, label in enumerate(first)]
    ballots += [Ballot("b", label, at) for at, label in enumerate(second)]
    left = {"a": 3 - len(first), "b": 2 - len(second)}
    decision = decide(ballots, UNIFORM)
    if is_decided(ballots, decision, {member: count for member, count in left.items() if count}, UNIFORM):
        for rest in product(["x", "y", "new", None], repeat=left["a"] + left["b"]):
            more = [Ballot("a", label, 3 + at) for at, label in enumerate(rest[: left["a"]])]
            more += [Ballot("b", label, 3 + at) for at, label in enumerate(rest[left["a"] :])]
            assert decide([*ballots, *more], UNIFORM).winner == decision.winner
