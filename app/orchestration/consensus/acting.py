"""Whether a panel acts: some of its members want calls of tools made, and others answer. Pure.

Members that want the same calls are of one voice; all that answer, whatever they say, are of another. The panel acts where the
heaviest voice is one that wants something and no other is as heavy; else what its members answer is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from app.core.chat import JsonObject
from app.core.runs import Consensus
from app.orchestration.calls import Member, Wanted
from app.orchestration.consensus.aggregator import UNTRIED, Aggregator, Found, Heard
from app.orchestration.evidence.bundle import disputed_labels, vote_consensus
from app.orchestration.evidence.extraction import Extracted
from app.orchestration.evidence.similarity import label_distances
from app.orchestration.evidence.vote import Decision

ANSWER: Final = "answer"
_NEAR: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the calls that members want. With `found` the panel acts, and its winner stands there; `unwanted` says why
    it may not write all the same. Without it those who answer are counted."""

    decision: Decision
    found: Found | None = None
    unwanted: str | None = None

    @property
    def winner(self) -> Member | None:
        """Whose calls are made, where the panel acts."""
        return self.found.stands.call if self.found and self.found.stands else None


def read_of(call: Member) -> Extracted:
    """A member that wants calls made, as evidence: it gives no answer."""
    assert call.wants is not None  # noqa: S101 - who asks has looked
    names = ", ".join(repr(one.name) for one in call.wants.calls)
    return Extracted(data=_shown(call.wants), errors=(f"wants {names} called first",))


def verdict(heard: Sequence[Heard], aggregator: Aggregator) -> Verdict | None:
    """What the panel does; None where nobody wants anything."""
    wanting = [one for one in heard if one.call.wants is not None]
    if not wanting:
        return None
    labels = [_voice(one) for one in heard]
    decision = aggregator.decision(heard, labels)
    first = decision.standings[0]
    tied = len(decision.standings) > 1 and decision.standings[1].score >= first.score - _NEAR
    answers = any(standing.label == ANSWER for standing in decision.standings)
    if first.label == ANSWER or (tied and answers):
        return Verdict(decision)
    stands = aggregator.standing([one for one in wanting if _voice(one) == first.label])
    values: dict[str, Any] = {ANSWER: None}
    values |= {one.call.wants.label: _shown(one.call.wants) for one in wanting if one.call.wants is not None}
    confidence = UNTRIED.confidence(decision, aggregator.panel, aggregator.category)
    consensus = vote_consensus(decision, confidence, values=values, review_below=aggregator.options.review_below)
    found = Found(
        consensus,
        confidence,
        values[first.label],
        stands,
        disputed_labels([one.replicate() for one in heard]),
        label_distances(labels),
    )
    return Verdict(decision, found, _unwanted(consensus, tied=tied))


def dissenting(found: Found, verdict: Verdict, heard: Sequence[Heard]) -> Found:
    """`found`, the outcome of the answers, with what was wanted and is not made among the dissent."""
    wants = {one.call.wants.label: one.call.wants for one in heard if one.call.wants is not None}
    over: list[JsonObject] = [
        {
            "value": _shown(wants[standing.label]),
            "members": list(standing.members),
            "share": round(standing.share, 4),
            "probability": round(standing.probability, 4),
            "reason": "not_run",
        }
        for standing in verdict.decision.standings
        if standing.label in wants
    ]
    return replace(found, consensus=replace(found.consensus, dissent=(*found.consensus.dissent, *over)))


def _unwanted(consensus: Consensus, *, tied: bool) -> str | None:
    if tied:
        return "the panel does not agree on it"
    if consensus.needs_review:
        return f"the panel is not sure enough of it ({consensus.confidence:g}), so a person is to look first"
    return None


def _voice(one: Heard) -> str | None:
    if one.call.wants is not None:
        return one.call.wants.label
    return None if one.read.label is None else ANSWER


def _shown(wants: Wanted) -> JsonObject:
    return {"calls": [{"tool": call.name, "arguments": _arguments(call.arguments)} for call in wants.calls]}


def _arguments(text: str) -> Any:
    try:
        return orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        return text
