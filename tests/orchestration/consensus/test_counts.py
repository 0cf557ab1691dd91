"""One count for all: winner, agreement and probability are of the same votes, and what is documented is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.core.errors import InvalidRequest
from app.core.runs import Consensus
from app.orchestration.consensus.aggregators import Fields, Numeric, Vote
from app.orchestration.consensus.judge import Judged
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.consensus.texts import Texts
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.confidence import Calibrator, Calibrators
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import uniform
from tests.orchestration.consensus.paneled import paneled, saying
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Ran, Scripted, failure

NUMBER = {"type": "number"}
JSON = {"type": "json"}
PARIS = "the capital city of France is beautiful Paris"
BERLIN = "Berlin is a large German town on Spree river"


def outcome(ran: Ran) -> Consensus:
    assert ran.result.consensus
    return ran.result.consensus


async def thrice(one: str, other: str, **options: Any) -> Consensus:
    """`a` says one thing three times, `b` and `c` another once each, and fail then."""
    said = {"a": iter([one] * 3), "b": iter([other]), "c": iter([other])}

    def answer(name: str) -> Callable[[Any], Any]:
        return lambda _request: next(said[name], None) or failure(name)

    return outcome(await paneled(*(Scripted(name, candidate=answer(name)) for name in said), k=3, weights="uniform", **options))


async def test_one_model_that_repeats_itself_outvotes_no_two_others_whichever_way_is_counted() -> None:
    texts = await thrice(PARIS, BERLIN)
    assert [one["members"] for one in texts.clusters] == [["b", "c"], ["a"]]
    assert texts.winner in texts.clusters[0]["candidates"]
    assert (await thrice('{"x": 1}', '{"x": 2}', extract=JSON)).winner == {"x": 2}
    assert (await thrice("1", "2", extract=NUMBER, aggregator="numeric")).winner == 2
    assert (await thrice("1", "2", extract=NUMBER)).winner == 2


@pytest.mark.parametrize(
    ("one", "other", "options"),
    [
        (PARIS, BERLIN, {}),
        ('{"x": 1}', '{"x": 2}', {"extract": JSON}),
        ("1", "2", {"extract": NUMBER, "aggregator": "numeric"}),
        ("1", "2", {"extract": NUMBER}),
    ],
    ids=["cluster", "fields", "numeric", "vote"],
)
async def test_agreement_is_a_share_of_votes_one_a_model_whatever_they_weigh(one: str, other: str, options: Any) -> None:
    heavy = outcome(await paneled(*saying(one, one, other), weights={"a": 9, "b": 3}, **options))
    assert heavy.agreement == 0.6667
    nothing = outcome(await paneled(*saying(one, one), weights={"a": 0, "b": 0}, **options))
    assert nothing.agreement == 1.0
    counted = await thrice(one, other, **options)
    assert counted.agreement == 0.6667


async def test_the_winner_is_found_among_the_clusters_with_its_share_and_probability() -> None:
    panels: list[tuple[list[str], dict[str, Any]]] = [
        (["391", "391", "400"], {"extract": NUMBER}),
        (['{"x": 1}', '{"x": 1}', "[]"], {"extract": JSON, "aggregator": "vote"}),
        ([PARIS, PARIS, BERLIN], {}),
        (["10", "20"], {"extract": NUMBER, "aggregator": "numeric"}),
        (["10", "11", "12"], {"extract": NUMBER, "aggregator": "numeric"}),
    ]
    for texts, options in panels:
        found = outcome(await paneled(*saying(*texts), weights="uniform", **options))
        assert found.clusters[0]["value"] == found.winner
        for one in (*found.clusters, *found.dissent):
            assert one.keys() >= {"value", "members", "share", "probability"}
        assert found.clusters[0]["share"] == found.agreement


async def test_a_number_that_nobody_says_has_no_share_and_little_probability() -> None:
    between = outcome(await paneled(*saying("10", "20"), extract=NUMBER, aggregator="numeric", weights="uniform"))
    assert (between.winner, between.agreement, between.clusters[0]["members"]) == (15, 0.0, [])
    said = outcome(await paneled(*saying("10", "20"), extract=NUMBER, weights="uniform"))
    assert between.confidence < said.confidence


async def test_an_answer_that_a_judge_chose_leads_the_clusters_with_what_its_own_votes_say() -> None:
    lead = Scripted("lead", choice=json.dumps({"choice": 3}))
    found = outcome(await paneled(*saying(PARIS, PARIS, BERLIN), lead, lead="lead", aggregator="judge"))
    assert found.winner == found.clusters[0]["value"] == "c3"
    assert (found.agreement, [one["members"] for one in found.dissent]) == (0.3333, [["a", "b"]])


async def test_the_trimmed_mean_is_reached_by_an_option() -> None:
    said = saying("10", "11", "14", "15", "100")
    median = outcome(await paneled(*said, extract=NUMBER, aggregator="numeric"))
    mean = outcome(await paneled(*said, extract=NUMBER, aggregator="numeric", estimator="trimmed_mean"))
    assert (median.winner, mean.winner) == (14, 12.5)
    assert [one["value"] for one in mean.dissent] == [100]


async def test_numbers_are_near_enough_by_three_models_and_not_by_what_one_repeats() -> None:
    models = [Scripted(name, "100") for name in "ab"]
    ran = await paneled(*models, extract=NUMBER, aggregator="numeric", stop="decided", epsilon=0.05, k=4)
    assert len(ran.result.candidates) == 8
    assert ran.result.evidence
    assert ran.result.evidence.summary["coverage"] == 0.5


async def test_fields_that_are_written_differently_are_as_sure_as_they_agree() -> None:
    said = ['{"city": "Paris", "n": 1}', '{"city": "paris", "n": 1.0}', '{"city": "PARIS", "n": 1}']
    found = outcome(await paneled(*saying(*said), extract=JSON, weights="uniform"))
    whole = outcome(
        await paneled(*saying(*["yes"] * 3), extract={"type": "choice", "choices": ["yes", "no"]}, weights="uniform")
    )
    assert (found.agreement, found.dissent) == (1.0, ())
    assert found.confidence == whole.confidence


async def test_an_object_that_nobody_says_is_less_sure_than_its_least_sure_field() -> None:
    said = [json.dumps({f"f{field}": 2 if field == model else 1 for field in range(6)}) for model in range(3)]
    found = outcome(await paneled(*saying(*said), extract=JSON, weights="uniform"))
    two_of_three = outcome(await paneled(*saying("1", "1", "2"), extract=NUMBER, weights="uniform"))
    assert found.winner == {f"f{field}": 1 for field in range(6)}
    assert len(found.dissent) == 3
    assert found.confidence < two_of_three.confidence


def test_only_votes_are_as_sure_as_calibrators_that_were_fitted_to_votes_say() -> None:
    doubtful = Calibrators(Calibrator(coefficients=(-3.0, 0.1, 0.0, 0.0), rows=1_000))
    decision = decide([Ballot(member, "x") for member in "abc"], uniform(tuple("abc")))
    sure = {
        kind.name: kind(ConsensusOptions(), uniform(tuple("abc")), doubtful, panel=3).confidence(decision)
        for kind in (Vote, Numeric, Texts, Fields, Judged)
    }
    assert sure.pop("vote").probability < 0.2
    for found in sure.values():
        assert found == Calibrators().confidence(decision, 3)
        assert found.high - found.low > 0.3


def test_texts_are_not_stopped_early_for_a_further_one_may_change_which_are_alike() -> None:
    for rule in ("decided", "confident"):
        with pytest.raises(InvalidRequest) as refused:
            engine(*saying("yes", "no")).begin(asked("consensus", ("a", "b"), options={"stop": rule}))
        assert "a further text may change which texts are alike" in refused.value.message
    with pytest.raises(InvalidRequest, match="estimator is for the aggregator numeric"):
        engine(*saying("1", "2")).begin(asked("consensus", ("a", "b"), options={"estimator": "median", "extract": NUMBER}))
