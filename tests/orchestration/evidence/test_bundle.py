"""The evidence as the contract shows it."""

import json

from app.core.runs import BundleMetadata
from app.orchestration.evidence.ballots import Ballot
from app.orchestration.evidence.bundle import (
    Replicate,
    cluster_outcome,
    disputed_labels,
    evidence_bundle,
    fields_outcome,
    numeric_outcome,
    vote_consensus,
)
from app.orchestration.evidence.confidence import Confidence
from app.orchestration.evidence.extraction import NumberAnswer, extract
from app.orchestration.evidence.fields import field_consensus
from app.orchestration.evidence.numeric import numeric_consensus
from app.orchestration.evidence.similarity import label_distances
from app.orchestration.evidence.vote import decide
from app.orchestration.evidence.weights import uniform

SURE = Confidence(0.8, 0.6, 0.9)
TEXTS = {"a": "The answer is 4. Confidence: 90 %", "b": "It is 4", "c": "I do not know"}
REPLICATES = [
    Replicate(f"c{place}", model, extract(text, NumberAnswer(), stated=True))
    for place, (model, text) in enumerate(TEXTS.items())
]


def test_a_vote_shows_its_labels_as_clusters_and_the_minority_as_dissent():
    decision = decide([Ballot("a", "4"), Ballot("b", "4"), Ballot("c", "5")], uniform(("a", "b", "c")))
    found = vote_consensus(decision, SURE, review_below=0.9)
    assert (found.method, found.winner, found.agreement, found.confidence) == ("vote", "4", 0.6667, 0.8)
    assert [one["value"] for one in found.clusters] == ["4", "5"]
    assert [one["members"] for one in found.dissent] == [["c"]]
    assert found.needs_review
    assert not vote_consensus(decision, SURE, review_below=0.7).needs_review
    assert not vote_consensus(decision, SURE).needs_review


def test_a_bundle_has_the_members_of_the_contract_and_is_json():
    bundle = evidence_bundle(
        BundleMetadata("sum", 1, ("a", "b", "c")),
        REPLICATES,
        consensus="4",
        disagreements=disputed_labels(REPLICATES),
        distances=label_distances([one.read.label for one in REPLICATES]),
        confidence=SURE,
        diversity=0.5,
    )
    assert json.loads(json.dumps(bundle.summary)) == bundle.summary
    assert {"consensus", "disagreements", "pairwise_distance", "confidence", "interval"} <= bundle.summary.keys()
    assert bundle.summary["disagreements"] == [{"field": "answer", "values": [4.0, 4.0, None]}]
    assert (bundle.summary["pairwise_distance"], bundle.summary["interval"], bundle.summary["valid"]) == (0.6667, [0.6, 0.9], 2)
    assert bundle.replicates[0]["stated_confidence"] == 0.9
    assert bundle.replicates[2]["quality"] == {"valid": False, "errors": ["says no number"]}
    assert {"id", "model", "data", "quality", "usage"} <= bundle.replicates[1].keys()


def test_an_interval_without_end_is_null_in_json():
    bundle = evidence_bundle(
        BundleMetadata("sum", 1, ("a",)),
        REPLICATES[:1],
        consensus=4,
        disagreements=(),
        distances=((0.0,),),
        confidence=SURE,
        interval=(float("-inf"), float("inf")),
    )
    assert (bundle.summary["interval"], bundle.summary["pairwise_distance"]) == ([None, None], None)


def test_what_was_said_is_the_clusters_of_a_number_and_outliers_are_the_dissent():
    said = {"m0": 5, "m1": 5, "m2": 5, "m3": 6, "m4": 60}
    replicates = [Replicate(member, member, extract(str(value), NumberAnswer())) for member, value in said.items()]
    ballots = [Ballot(one.model, one.read.label) for one in replicates]
    decision = decide(ballots, uniform(tuple(said)))
    values = {"5": 5.0, "6": 6.0, "60": 60.0}
    found = numeric_outcome(numeric_consensus([5, 5, 5, 6, 60]), replicates, decision, values, SURE)
    assert (found.winner, found.agreement) == (5, 0.6)
    assert [(one["value"], one["members"], one["share"]) for one in found.clusters] == [
        (5.0, ["m0", "m1", "m2"], 0.6),
        (6.0, ["m3"], 0.2),
        (60.0, ["m4"], 0.2),
    ]
    assert [(one["value"], one["reason"]) for one in found.dissent] == [(60.0, "outlier")]


def test_a_cluster_is_told_by_its_candidates():
    decision = decide([Ballot("a", "c0"), Ballot("b", "c0"), Ballot("c", "c2")], uniform(("a", "b", "c")))
    found = cluster_outcome({"c0": REPLICATES[:2], "c2": REPLICATES[2:]}, decision, SURE)
    assert (found.winner, found.clusters[0]["value"], found.clusters[0]["candidates"]) == ("c0", "c0", ["c0", "c1"])
    assert (found.dissent[0]["members"], found.dissent[0]["share"]) == (["c"], 0.3333)
    assert found.clusters[0]["probability"] > found.dissent[0]["probability"]


def test_disputed_fields_are_the_dissent_of_json():
    decision = decide([Ballot("a", "1"), Ballot("b", "1"), Ballot("c", "2")], uniform(("a", "b", "c")))
    found = fields_outcome(field_consensus([{"a": 1}, {"a": 1}, {"a": 2}]), [decision], SURE)
    (dissent,) = found.dissent
    assert (found.winner, dissent["field"], dissent["value"], dissent["values"]) == ({"a": 1}, "a", 1, [1, 1, 2])
    assert (dissent["share"], dissent["probability"]) == (0.6667, round(decision.probability, 4))


def test_the_interval_of_a_small_number_is_as_exact_as_that_of_a_large_one():
    bundle = evidence_bundle(
        BundleMetadata("sum", 1, ("a",)),
        REPLICATES[:1],
        consensus=2e-7,
        disagreements=(),
        distances=((0.0,),),
        confidence=SURE,
        interval=(1e-7, 3e-7),
        coverage=0.75,
    )
    assert (bundle.summary["interval"], bundle.summary["coverage"]) == ([1e-7, 3e-7], 0.75)
