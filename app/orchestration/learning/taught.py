"""What a strategy says of its run so that one may learn from it, and what is kept of that. Pure.

Of texts nothing is kept: labels that are no choice, number or short find of a pattern are kept as a digest, and of the prompt
the keyed hashes of its terms.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import orjson

from app.core.chat import JsonObject
from app.core.runs import OrchestrationOutput, RunRequest
from app.orchestration.evidence.confidence import Vector, features
from app.orchestration.evidence.extraction import (
    AnswerKind,
    Choices,
    JsonAnswer,
    NumberAnswer,
    TextAnswer,
)

OPAQUE: Final = "#"
"""Begins a label that stands for a text; such a one is never the same as one that was written."""
LONGEST_LABEL: Final = 64
LONGEST_CATEGORY: Final = 64
MOST_READER_BYTES: Final = 4_000
"""A way to read answers that is longer as JSON is not kept; then a right answer cannot be stated."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a candidate was counted as saying. `label` is None where it could not be read."""

    candidate: str
    member: str
    label: str | None


@dataclass(frozen=True, slots=True)
class Taught:
    """What was counted in a run.

    `said` are the answers, failed calls left out; `panel` is how many members were asked. `winner` is the label that won, and
    `probability` its own under the weights, where it won by a vote over labels: calibrators learn of such alone. `reader` tells
    how a right answer is read into a label; None where labels only say who agrees with whom (`opaque`). `near` is a number, and
    how far another may lie from it and still be the same answer. `votes` says whether the labels were counted against each
    other, as a panel's fit takes them.
    """

    said: tuple[Said, ...]
    panel: int
    winner: str | None
    probability: float | None = None
    reader: AnswerKind | None = None
    near: tuple[float, float] | None = None
    votes: bool = True


@dataclass(frozen=True, slots=True)
class Noted:
    """What is kept of a run.

    `took` has each member's mean latency in seconds and cost in dollars, `terms` how often each hashed term stands in the
    prompt, `source` the candidate whose answer was the run's.
    """

    run_id: str
    at: float
    strategy: str
    recipe: str | None
    category: str | None
    taught: Taught
    source: str | None
    confidence: float | None
    took: Mapping[str, tuple[float | None, float | None]]
    terms: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def features(self) -> Vector | None:
        """Those of the decision, as calibrators take them."""
        taught = self.taught
        if taught.probability is None:
            return None
        return features(taught.probability, len({said.member for said in taught.said}), taught.panel)

    def member_of(self, candidate: str) -> str | None:
        return next((said.member for said in self.taught.said if said.candidate == candidate), None)

    def as_json(self) -> bytes:
        taught = self.taught
        return orjson.dumps(
            {
                "run": self.run_id,
                "at": round(self.at, 3),
                "strategy": self.strategy,
                "recipe": self.recipe,
                "category": self.category,
                "said": [[said.candidate, said.member, said.label] for said in taught.said],
                "panel": taught.panel,
                "winner": taught.winner,
                "probability": taught.probability,
                "reader": _reader_json(taught.reader),
                "near": taught.near,
                "votes": taught.votes,
                "source": self.source,
                "confidence": self.confidence,
                "took": self.took,
                "terms": self.terms,
            }
        )


def noted(stored: bytes) -> Noted:
    """What `Noted.as_json` made.

    Raises:
        ValueError: it is not of that shape.
    """
    try:
        value: dict[str, Any] = orjson.loads(stored)
        near = value["near"]
        taught = Taught(
            tuple(Said(str(one[0]), str(one[1]), one[2]) for one in value["said"]),
            int(value["panel"]),
            value["winner"],
            value["probability"],
            _reader(value["reader"]),
            (float(near[0]), float(near[1])) if near else None,
            bool(value["votes"]),
        )
        return Noted(
            value["run"],
            float(value["at"]),
            value["strategy"],
            value["recipe"],
            value["category"],
            taught,
            value["source"],
            value["confidence"],
            {member: (took[0], took[1]) for member, took in value["took"].items()},
            value["terms"],
        )
    except (KeyError, TypeError, IndexError, AttributeError) as fault:
        raise ValueError(f"what is kept of a run cannot be read: {fault!r}") from fault


def note(result: OrchestrationOutput, taught: Taught, *, at: float, category: str | None, terms: Mapping[str, int]) -> Noted:
    """What is kept of the run that `result` came of."""
    return Noted(
        result.id,
        at,
        result.strategy,
        result.recipe,
        category,
        _kept(taught),
        _source(result, taught),
        result.consensus.confidence if result.consensus else None,
        _took(result),
        terms,
    )


def category_of(request: RunRequest) -> str | None:
    """The task's category, where the request's metadata names one."""
    named = request.metadata.get("category")
    return named[:LONGEST_CATEGORY] if isinstance(named, str) and named else None


def unread(result: OrchestrationOutput) -> Taught | None:
    """What a run teaches whose answers nobody has counted against each other: who answered. None where nobody did."""
    said = tuple(Said(one.id, one.model, OPAQUE + one.id) for one in result.candidates if one.status == "succeeded")
    if not said:
        return None
    own = [one for one in said if one.member == result.output.source_model]
    stands = None if result.output.is_synthesized or not own else own[-1]
    return Taught(said, len({one.member for one in said}), stands.label if stands else None, votes=False)


def opaque(text: str) -> str:
    """A label that says whether two texts are the same and nothing else."""
    return OPAQUE + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def kept_label(label: str, reader: AnswerKind | None) -> str:
    """`label` as it is kept: itself, where it is short and was to be one of few words."""
    if label.startswith(OPAQUE):
        return label
    short = len(label) <= LONGEST_LABEL
    worded = isinstance(reader, (Choices, NumberAnswer)) or (isinstance(reader, TextAnswer) and reader.pattern is not None)
    return label if short and worded else opaque(label)


def _kept(taught: Taught) -> Taught:
    def kept(label: str | None) -> str | None:
        return None if label is None else kept_label(label, taught.reader)

    return Taught(
        tuple(Said(said.candidate, said.member, kept(said.label)) for said in taught.said),
        taught.panel,
        kept(taught.winner),
        taught.probability,
        taught.reader if len(orjson.dumps(_reader_json(taught.reader))) <= MOST_READER_BYTES else None,
        taught.near,
        taught.votes,
    )


def _source(result: OrchestrationOutput, taught: Taught) -> str | None:
    """The candidate whose answer was the run's, where it was one's."""
    if result.output.is_synthesized:
        return None
    own = [said.candidate for said in taught.said if said.member == result.output.source_model and said.label == taught.winner]
    return own[0] if own else None


def _took(result: OrchestrationOutput) -> dict[str, tuple[float | None, float | None]]:
    by_member: dict[str, list[tuple[float | None, float | None]]] = {}
    for one in result.candidates:
        if one.status == "succeeded":
            latency = None if one.cached else one.latency_ms / 1000
            by_member.setdefault(one.model, []).append((latency, one.cost_usd))
    return {
        member: (_mean([took[0] for took in all_of]), _mean([took[1] for took in all_of]))
        for member, all_of in by_member.items()
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(math.fsum(known) / len(known), 8) if known else None


def _reader_json(reader: AnswerKind | None) -> JsonObject | None:
    match reader:
        case None:
            return None
        case Choices():
            return {"choices": reader.labels, "texts": dict(reader.texts or {}), "pattern": reader.pattern}
        case NumberAnswer():
            return {"number": reader.unit, "pattern": reader.pattern}
        case JsonAnswer():
            return {"json": True}
        case TextAnswer():
            return {"text": True, "pattern": reader.pattern}


def _reader(value: Any) -> AnswerKind | None:
    if value is None:
        return None
    told = cast("dict[str, Any]", value)
    if "choices" in told:
        return Choices(tuple(told["choices"]), told["texts"] or None, told["pattern"])
    if "number" in told:
        return NumberAnswer(told["number"], told["pattern"])
    return JsonAnswer() if "json" in told else TextAnswer(told["pattern"])
