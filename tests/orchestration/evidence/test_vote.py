"""The vote: its winner, its probabilities, its minority report; and what a member's word weighs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.orchestration.evidence.ballots import Ballot, effective, masses
from app.orchestration.evidence.vote import decide, led_by, unanimous
from app.orchestration.evidence.weights import PanelWeights, log_odds, prior_weights, stated_weights, uniform

MEMBERS = ("a", "b", "c", "d")
panels = st.lists(st.tuples(st.sampled_from(MEMBERS), st.sampled_from(["x", "y", "z", None])), max_size=8)


def said(**labels: str | None) -> list[Ballot]:
    return [Ballot(member, label) for member, label in labels.items()]


def test_the_majority_wins_and_the_minority_is_reported():
    decision = decide(said(a="x", b="y", c="x"), uniform(MEMBERS))
    assert (decision.winner, decision.agreement) == ("x", pytest.approx(2 / 3))
    _, minority = decision.standings
    assert (minority.label, minority.members, minority.share) == ("y", ("b",), pytest.approx(1 / 3))


def test_what_wins_for_another_reason_leads_with_its_own_share_and_probability():
    decision = decide(said(a="x", b="y", c="x"), uniform(MEMBERS))
    led = led_by(decision, "y")
    assert [one.label for one in led.standings] == ["y", "x"]
    assert (led.agreement, led.probability) == (decision.standings[1].share, decision.standings[1].probability)
    between = led_by(decision, "z")
    assert [one.label for one in between.standings] == ["z", "x", "y"]
    assert (between.agreement, between.probability) == (0.0, decision.none_probability)


def test_a_member_that_weighs_more_than_two_together_outvotes_them():
    weights = stated_weights({"a": 3, "b": 1, "c": 1})
    assert decide(said(a="x", b="y", c="y"), weights).winner == "x"


def test_a_tie_goes_to_more_votes_then_to_the_more_reliable_then_to_the_first():
    assert decide(said(a="x", b="y", c="y"), stated_weights({"a": 2, "b": 1, "c": 1})).winner == "y"
    assert decide(said(a="x", b="y"), uniform(MEMBERS, reliability={"a": 0.5, "b": 0.9})).winner == "y"
    assert decide(said(a="x", b="y"), uniform(MEMBERS)).winner == "x"


def test_without_a_readable_ballot_nobody_wins():
    decision = decide(said(a=None, b=None), uniform(MEMBERS))
    assert (decision.winner, decision.probability, decision.agreement, decision.standings) == (None, 0.0, 0.0, ())
    assert decision.present == ("a", "b")


def test_replicates_share_their_members_voice():
    five = [Ballot("a", "x", replicate) for replicate in range(5)]
    assert sum(masses(five)["a"].values()) == pytest.approx(effective(5)) == pytest.approx(1.25)
    assert decide([*five, Ballot("b", "y"), Ballot("c", "y")], uniform(MEMBERS)).winner == "y"


def test_an_unread_replicate_takes_its_share_with_it():
    half = masses([Ballot("a", "x"), Ballot("a", None, 1)])["a"]["x"]
    assert half == pytest.approx(effective(2) / 2)


def test_models_of_one_family_count_less_than_strangers():
    weights = prior_weights(MEMBERS, families={"a": "llama", "b": "llama"})
    assert weights.members["a"] < weights.members["c"]
    assert decide(said(a="x", b="x", c="y", d="y"), weights).winner == "y"


def test_an_answers_own_confidence_counts_where_it_is_asked_for():
    ballots = [Ballot("a", "x", stated=0.95), Ballot("b", "y", stated=0.3)]
    assert decide(ballots[::-1], uniform(MEMBERS)).winner == "y"
    assert decide(ballots[::-1], uniform(MEMBERS), by_stated=True).winner == "x"


def test_a_model_that_always_says_no_weighs_nothing_when_it_says_no():
    weights = PanelWeights(
        {"a": 0.5, "b": 0.5}, classes=("no", "yes"), by_class={"a": {"no": -0.5, "yes": 1.5}}, bias={"no": 0.0, "yes": 0.0}
    )
    assert decide(said(a="no", b="yes"), weights).winner == "yes"
    assert decide(said(b="no", a="yes"), weights).winner == "yes"


def test_weights_of_a_category_count_in_it_and_nowhere_else():
    weights = PanelWeights({"a": 1.0, "b": 1.1}, by_category={"a": {"law": 0.5}})
    assert decide(said(a="x", b="y"), weights, category="law").winner == "x"
    assert decide(said(a="x", b="y"), weights, category="art").winner == "y"
    assert decide(said(a="x", b="y"), weights).winner == "y"


def test_a_missing_member_makes_none_of_them_likelier():
    weights = PanelWeights({"a": 2.0, "b": 2.0}, none=-1.0, absent={"a": 1.0, "b": 1.0})
    both, one = decide(said(a="x", b="x"), weights), decide(said(a="x"), weights)
    assert both.probability > one.probability
    assert one.none_probability > both.none_probability


def test_reliabilities_become_log_odds_within_bounds():
    assert log_odds(0.9) == pytest.approx(math.log(9))
    assert 0 < log_odds(0.2) == log_odds(0.0) < 0.1
    assert log_odds(1.0) == 4.0


@pytest.mark.parametrize(
    ("ballots", "agree"),
    [(said(a="x", b="x"), True), (said(a="x", b="y"), False), (said(a="x"), False), (said(a="x", b=None), False), ([], False)],
)
def test_a_cascade_goes_on_unless_all_say_the_same(ballots, agree):
    assert unanimous(ballots) is agree


@given(panels)
def test_probabilities_and_shares_are_such(panel):
    ballots = [Ballot(member, label) for member, label in panel]
    decision = decide(ballots, prior_weights(MEMBERS))
    whole = sum(standing.probability for standing in decision.standings) + decision.none_probability
    assert whole == pytest.approx(1)
    assert sum(standing.share for standing in decision.standings) == pytest.approx(1 if decision.standings else 0)
    assert [one.score for one in decision.standings] == sorted((one.score for one in decision.standings), reverse=True)


@given(panels, st.permutations(["x", "y", "z"]))
def test_the_outcome_does_not_depend_on_what_labels_are_called(panel, names):
    renamed = dict(zip(["x", "y", "z"], names, strict=True))
    plain = decide([Ballot(member, label) for member, label in panel], uniform(MEMBERS))
    other = decide([Ballot(member, renamed.get(label or "")) for member, label in panel], uniform(MEMBERS))
    assert other.winner == (renamed[plain.winner] if plain.winner else None)


@given(panels)
def test_one_more_vote_for_the_winner_does_not_unseat_it(panel):
    ballots = [Ballot(member, label) for member, label in panel]
    winner = decide(ballots, uniform(MEMBERS)).winner
    if winner is not None:
        assert decide([*ballots, Ballot("new", winner)], uniform((*MEMBERS, "new"))).winner == winner
