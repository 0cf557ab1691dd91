"""The evidence as the contract shows it: `Consensus` and `EvidenceBundle` from what the aggregators found. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from app.core.chat import JsonObject
from app.core.runs import BundleMetadata, Consensus, EvidenceBundle
from app.core.usage import NO_USAGE, Usage
from app.orchestration.evidence.cluster import Cluster
from app.orchestration.evidence.confidence import Confidence
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.fields import FieldConsensus
from app.orchestration.evidence.numeric import NumericConsensus
from app.orchestration.evidence.similarity import Distances, mean_distance
from app.orchestration.evidence.vote import Decision

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Replicate:
    """One answer as evidence: `id` is its candidate's."""

    id: str
    model: str
    read: Extracted
    usage: Usage = NO_USAGE

    def as_json(self) -> JsonObject:
        usage = {"input_tokens": self.usage.input_tokens, "output_tokens": self.usage.output_tokens}
        quality = {"valid": self.read.valid, "errors": list(self.read.errors)}
        found: JsonObject = {"id": self.id, "model": self.model, "data": self.read.data, "quality": quality, "usage": usage}
        return found if self.read.stated is None else {**found, "stated_confidence": self.read.stated}


def vote_consensus(decision: Decision, confidence: Confidence, *, review_below: float | None = None) -> Consensus:
    """The outcome of a vote; each label is a cluster. Without a winner it needs review where anything does."""
    return Consensus(
        "vote",
        decision.winner,
        _rounded(decision.agreement),
        _rounded(confidence.probability),
        tuple(
            {
                "value": standing.label,
                "members": list(standing.members),
                "share": _rounded(standing.share),
                "probability": _rounded(standing.probability),
            }
            for standing in decision.standings
        ),
        decision.dissent(),
        wants_review(confidence, review_below),
    )


def numeric_outcome(
    found: NumericConsensus,
    replicates: Sequence[Replicate],
    confidence: Confidence,
    *,
    review_below: float | None = None,
) -> Consensus:
    """The outcome over numbers: `replicates` are those whose numbers it was, in that order; the outliers are the dissent."""
    return Consensus(
        "numeric",
        found.value,
        _rounded(found.agreement),
        _rounded(confidence.probability),
        dissent=tuple(
            {"value": replicates[place].read.data, "members": [replicates[place].model], "reason": "outlier"}
            for place in found.outliers
        ),
        needs_review=wants_review(confidence, review_below),
    )


def cluster_outcome(
    found: Sequence[Cluster],
    replicates: Sequence[Replicate],
    confidence: Confidence,
    *,
    review_below: float | None = None,
) -> Consensus:
    """The outcome over texts: the medoid of the heaviest cluster wins, told by its candidate's id; the others dissent."""

    def shown(cluster: Cluster) -> JsonObject:
        return {
            "medoid": replicates[cluster.medoid].id,
            "candidates": [replicates[place].id for place in cluster.places],
            "members": list(dict.fromkeys(replicates[place].model for place in cluster.places)),
            "share": _rounded(cluster.share),
        }

    winner = found[0] if found else None
    return Consensus(
        "cluster",
        replicates[winner.medoid].id if winner else None,
        _rounded(winner.share) if winner else 0.0,
        _rounded(confidence.probability),
        tuple(map(shown, found)),
        tuple(map(shown, found[1:])),
        wants_review(confidence, review_below),
    )


def fields_outcome(found: FieldConsensus, confidence: Confidence, *, review_below: float | None = None) -> Consensus:
    """The outcome over JSON objects: the object of the fields' winners, the disputed fields as the dissent."""
    return Consensus(
        "fields",
        found.value,
        _rounded(found.agreement),
        _rounded(confidence.probability),
        dissent=tuple(dict(one) for one in found.disagreements),
        needs_review=wants_review(confidence, review_below),
    )


def wants_review(confidence: Confidence, review_below: float | None) -> bool:
    """Whether a person should look: the outcome is less sure than `review_below`."""
    return review_below is not None and confidence.probability < review_below


def evidence_bundle(
    meta: BundleMetadata,
    replicates: Sequence[Replicate],
    *,
    consensus: Any,
    disagreements: Sequence[JsonObject],
    distances: Distances,
    confidence: Confidence,
    interval: tuple[float, float] | None = None,
    diversity: float | None = None,
) -> EvidenceBundle:
    """The bundle.

    Args:
        meta: The task, the panel, the seeds.
        replicates: Every answer, in the order in which they came.
        consensus: The winning value.
        disagreements: `{field, values}` of what not all say alike; a vote or a number is one field, called `answer`.
        distances: Between the answers, in the order of `replicates`.
        confidence: Of the outcome.
        interval: Of a numeric value; that of the probability where None.
        diversity: Of the panel, 0 to 1.
    """
    low, high = interval if interval is not None else (confidence.low, confidence.high)
    mean = mean_distance(distances)
    summary: JsonObject = {
        "consensus": consensus,
        "disagreements": [dict(one) for one in disagreements],
        "pairwise_distance": None if mean is None else _rounded(mean),
        "distances": [[_rounded(value) for value in row] for row in distances],
        "confidence": _rounded(confidence.probability),
        "interval": [_finite(low), _finite(high)],
        "valid": sum(replicate.read.valid for replicate in replicates),
    }
    if diversity is not None:
        summary["diversity"] = _rounded(diversity)
    return EvidenceBundle(meta, tuple(replicate.as_json() for replicate in replicates), summary)


def disputed_labels(replicates: Sequence[Replicate]) -> tuple[JsonObject, ...]:
    """What a vote or a number is disputed by: the one field `answer`, where not all replicates say alike."""
    said = [replicate.read.label for replicate in replicates]
    return ({"field": "answer", "values": [replicate.read.data for replicate in replicates]},) if len(set(said)) > 1 else ()


def _rounded(value: float) -> float:
    return round(value, _DIGITS)


def _finite(value: float) -> float | None:
    return _rounded(value) if abs(value) != float("inf") else None
