"""A run in the review queue, and what was decided of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import orjson

from app.core.chat import JsonObject
from app.core.errors import InvalidRequest
from app.core.run_json import json_bytes
from app.core.runs import OrchestrationOutput, RunRequest
from app.core.tool_runs import ToolRun

DecisionKind = Literal["accept", "choose", "edit", "reject"]
ReviewStatus = Literal["pending", "decided"]
_RUN: Final = "run_"
_REVIEW: Final = "rev_"


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the conversation that was asked."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A candidate's answer."""

    id: str
    model: str
    text: str


@dataclass(frozen=True, slots=True)
class UncertainCall:
    """A call of a tool whose effect nobody knows; `arguments` is JSON text, `version` None where there is no such tool."""

    id: str
    tool: str
    version: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a reviewer needs. `uncertain` are calls whose effect is to be looked up; `truncated` says that texts were longer
    than is kept. Times in seconds since the epoch."""

    id: str
    run_id: str
    created_at: float
    strategy: str
    recipe: str | None
    category: str | None
    conversation: tuple[Turn, ...]
    answer: str
    candidates: tuple[Proposal, ...]
    consensus: JsonObject | None
    confidence: float | None
    truncated: bool
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request_id: str = ""
    uncertain: tuple[UncertainCall, ...] = ()

    def as_json(self) -> bytes:
        return json_bytes(asdict(self))


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, by whom and when. `text` is the answer that stands now, None where there is none.

    `by` and `key_id` are the key's, `reviewer` who the caller says it was; `operation` tells a repetition from a second one.
    """

    decision: DecisionKind
    at: float
    by: str
    key_id: str
    candidate_id: str | None = None
    text: str | None = None
    comment: str | None = None
    reviewer: str | None = None
    request_id: str = ""
    operation: str = ""

    def as_json(self) -> bytes:
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Review:
    """An entry and its decision, None while it is pending."""

    entry: Entry
    decision: Decision | None = None

    @property
    def status(self) -> ReviewStatus:
        return "decided" if self.decision else "pending"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which reviews are listed. Bounds are inclusive; an entry without a confidence, as of a run whose answers could not be
    read, is less sure than all others."""

    status: ReviewStatus | None = None
    strategy: str | None = None
    recipe: str | None = None
    category: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None

    def takes(self, review: Review) -> bool:
        entry, low, high = review.entry, self.min_confidence, self.max_confidence
        named = ((self.strategy, entry.strategy), (self.recipe, entry.recipe), (self.category, entry.category))
        if self.status not in (None, review.status) or any(wanted not in (None, own) for wanted, own in named):
            return False
        if low is None and high is None:
            return True
        sure = entry.confidence
        if sure is None:
            return low is None
        return (low is None or sure >= low) and (high is None or sure <= high)


def review_id(run_id: str) -> str:
    """The id of a run's review."""
    return _REVIEW + run_id.removeprefix(_RUN)


def entry_of(request: RunRequest, result: OrchestrationOutput, category: str | None, *, at: float, max_text: int) -> Entry:
    """What a reviewer needs of a run, its texts cut at `max_text` characters each. `category` is the task's."""
    conversation = _within([Turn(message.role, message.text) for message in request.messages], max_text)
    answers = [one for one in result.candidates if one.status == "succeeded"]
    uncertain = [(call, _arguments_of(call)) for call in result.tool_calls if call.uncertain]
    texts = [result.output.text, *(one.text for one in answers), *(arguments for _, arguments in uncertain)]
    whole = sum(len(turn.text) for turn in conversation) == sum(len(message.text) for message in request.messages)
    return Entry(
        review_id(result.id),
        result.id,
        at,
        result.strategy,
        result.recipe,
        category,
        conversation,
        result.output.text[:max_text],
        tuple(Proposal(one.id, one.model, one.text[:max_text]) for one in answers),
        asdict(result.consensus) if result.consensus else None,
        result.consensus.confidence if result.consensus else None,
        not whole or any(len(text) > max_text for text in texts),
        request.metadata,
        request.request_id,
        tuple(UncertainCall(call.id, call.name, call.version, arguments[:max_text]) for call, arguments in uncertain),
    )


def _arguments_of(call: ToolRun) -> str:
    """Those that it was made with."""
    return call.arguments if call.edited is None else orjson.dumps(call.edited).decode()


def _within(turns: Sequence[Turn], most: int) -> tuple[Turn, ...]:
    """The last of `turns`, as far as `most` characters reach."""
    kept: list[Turn] = []
    for turn in reversed(turns):
        if most <= 0:
            break
        kept.append(Turn(turn.role, turn.text[-most:]))
        most -= len(turn.text)
    return tuple(reversed(kept))


def read_review(entry: bytes, decision: bytes | None) -> Review:
    """What `Entry.as_json` and `Decision.as_json` made."""
    value: Any = orjson.loads(entry)
    value["conversation"] = tuple(Turn(**turn) for turn in value["conversation"])
    value["candidates"] = tuple(Proposal(**one) for one in value["candidates"])
    value["uncertain"] = tuple(UncertainCall(**one) for one in value.get("uncertain", ()))
    return Review(Entry(**value), Decision(**orjson.loads(decision)) if decision else None)


def answer_of(entry: Entry, kind: DecisionKind, candidate_id: str | None, text: str | None) -> str | None:
    """The answer that stands after a decision, None after a rejection.

    Raises:
        InvalidRequest: the entry has no such candidate.
    """
    if kind == "accept":
        return entry.answer
    if kind == "edit":
        return text
    if kind == "reject":
        return None
    for one in entry.candidates:
        if one.id == candidate_id:
            return one.text
    known = ", ".join(one.id for one in entry.candidates)
    raise InvalidRequest(f"{str(candidate_id)[:50]!r} is no candidate of this review; it has {known}", param="candidate_id")
