"""The evidence as the contract shows it: `Consensus` and `EvidenceBundle` from what the aggregators found. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.chat import JsonObject
from app.core.runs import BundleMetadata, Consensus, EvidenceBundle
from app.core.usage import NO_USAGE, Usage
from app.orchestration.evidence.confidence import Confidence
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.fields import FieldConsensus
from app.orchestration.evidence.numeric import NumericConsensus
from app.orchestration.evidence.similarity import Distances, mean_distance
from app.orchestration.evidence.vote import Decision, Standing

_DIGITS = 4
INTERVAL_COVERAGE: Final = 0.95
"""How likely the interval of a probability holds it."""


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


def vote_consensus(
    decision: Decision,
    confidence: Confidence,
    *,
    values: Mapping[str, Any] | None = None,
    review_below: float | None = None,
) -> Consensus:
    """The outcome of a vote; each label is a cluster, told by its value. Without a winner it needs review where anything does.

    Args:
        values: By label, what was read; the label itself where None.
    """
    shown = tuple(
        _shown(standing, standing.label if values is None else values[standing.label]) for standing in decision.standings
    )
    return Consensus(
        "vote",
        shown[0]["value"] if shown else None,
        _rounded(decision.agreement),
        _rounded(confidence.probability),
        shown,
        shown[1:],
        wants_review(confidence, review_below),
    )


def numeric_outcome(
    found: NumericConsensus,
    replicates: Sequence[Replicate],
    decision: Decision,
    values: Mapping[str, float],
    confidence: Confidence,
    *,
    review_below: float | None = None,
) -> Consensus:
    """The outcome over numbers: what was said is the clusters, the outliers are the dissent.

    Args:
        found: The number, and which are outliers: places in `replicates`.
        replicates: The answers whose numbers it is of.
        decision: The vote of who says which, led by the number found, which is what others near to it are counted for.
        values: By label, the number.
        confidence: Of the outcome.
    """
    outliers = {replicates[place].read.label for place in found.outliers}
    shown = {standing.label: _shown(standing, values[standing.label]) for standing in decision.standings}
    return Consensus(
        "numeric",
        found.value,
        _rounded(decision.agreement),
        _rounded(confidence.probability),
        tuple(shown.values()),
        tuple({**one, "reason": "outlier"} for label, one in list(shown.items())[1:] if label in outliers),
        wants_review(confidence, review_below),
    )


def cluster_outcome(
    found: Mapping[str, Sequence[Replicate]],
    decision: Decision,
    confidence: Confidence,
    *,
    method: str = "cluster",
    winner: str | None = None,
    review_below: float | None = None,
) -> Consensus:
    """The outcome over texts: the candidate that stands for the cluster that leads wins; the other clusters dissent.

    Args:
        found: By the candidate that stands for it, a cluster's answers.
        decision: The vote over the clusters, each named by that candidate.
        confidence: Of the outcome.
        winner: The candidate that stands for the leading cluster where it is another of its own.
    """
    shown = tuple(
        {
            **_shown(standing, winner if winner is not None and place == 0 else standing.label),
            "candidates": [one.id for one in found[standing.label]],
        }
        for place, standing in enumerate(decision.standings)
    )
    return Consensus(
        method,
        shown[0]["value"] if shown else None,
        _rounded(decision.agreement),
        _rounded(confidence.probability),
        shown,
        shown[1:],
        wants_review(confidence, review_below),
    )


def fields_outcome(
    found: FieldConsensus,
    votes: Sequence[Decision],
    confidence: Confidence,
    *,
    review_below: float | None = None,
) -> Consensus:
    """The outcome over JSON objects: the object of the fields' winners, the disputed fields as the dissent.

    Args:
        found: The object.
        votes: The vote over each of its fields, led by what won.
        confidence: Of the outcome.
    """
    return Consensus(
        "fields",
        found.value,
        _rounded(found.agreement),
        _rounded(confidence.probability),
        dissent=tuple(
            {
                "field": field.path,
                "value": field.value,
                "values": list(field.values),
                "share": _rounded(field.agreement),
                "probability": _rounded(vote.probability),
            }
            for field, vote in zip(found.fields, votes, strict=True)
            if field.disputed
        ),
        needs_review=wants_review(confidence, review_below),
    )


def _shown(standing: Standing, value: Any) -> JsonObject:
    return {
        "value": value,
        "members": list(standing.members),
        "share": _rounded(standing.share),
        "probability": _rounded(standing.probability),
    }


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
    coverage: float = INTERVAL_COVERAGE,
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
        coverage: How likely it holds what it is of.
        diversity: Of the panel, 0 to 1.
    """
    ends = (_rounded(confidence.low), _rounded(confidence.high)) if interval is None else map(_end, interval)
    mean = mean_distance(distances)
    summary: JsonObject = {
        "consensus": consensus,
        "disagreements": [dict(one) for one in disagreements],
        "pairwise_distance": None if mean is None else _rounded(mean),
        "distances": [[_rounded(value) for value in row] for row in distances],
        "confidence": _rounded(confidence.probability),
        "interval": list(ends),
        "coverage": _rounded(coverage),
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


def _end(value: float) -> float | None:
    """An end of a number's interval, to as many digits whatever its size; None where there is none."""
    return float(f"{value:.10g}") if abs(value) != float("inf") else None
