"""A panel asked all at once: which answers are worth waiting for."""

import pytest

from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.confidence import Calibrators
from app.orchestration.evidence.waiting import Arrival, wait_for
from app.orchestration.evidence.weights import PanelWeights, uniform

ARRIVALS = [Arrival(Ballot("slow", "yes"), 9.0), Arrival(Ballot("quick", "no"), 1.0), Arrival(Ballot("good", "yes"), 4.0)]
PLAIN = uniform(("slow", "quick", "good"))


def test_it_ends_when_no_later_answer_can_change_the_outcome():
    found = wait_for(ARRIVALS, PanelWeights({"slow": 0.5, "quick": 0.1, "good": 1.0}), Calibrators(), sure_at=1.0)
    assert (found.decision.winner, found.answers, found.seconds) == ("yes", 2, 4.0)


def test_it_waits_for_all_where_each_may_matter():
    found = wait_for(ARRIVALS, PLAIN, Calibrators(), sure_at=1.0)
    assert (found.decision.winner, found.answers, found.seconds) == ("yes", 3, 9.0)


def test_it_ends_when_the_outcome_is_sure_enough():
    assert wait_for(ARRIVALS, PLAIN, Calibrators(), sure_at=0.3).answers == 1


def test_an_answer_that_a_member_gives_to_everything_ends_nothing():
    weights = PanelWeights({"quick": 2.0, "good": 2.0, "slow": 2.0}, classes=("no", "yes"), by_class={"quick": {"no": -2.0}})
    assert wait_for(ARRIVALS, weights, Calibrators(), sure_at=0.6).answers == 2


def test_patience_ends_it_with_what_there_is():
    found = wait_for(ARRIVALS, PLAIN, Calibrators(), sure_at=1.0, patience_s=5.0)
    assert (found.answers, found.seconds) == (2, 5.0)
    unread = [Arrival(Ballot("a", None), 1.0), Arrival(Ballot("b", "x"), 8.0)]
    assert wait_for(unread, uniform(("a", "b")), Calibrators(), sure_at=1.0, patience_s=2.0).decision.winner == "x"


def test_nothing_to_wait_for_is_refused():
    with pytest.raises(ValueError, match="nothing arrives"):
        wait_for([], PLAIN, Calibrators(), sure_at=0.5)
