"""Bodies and answers of the review queue."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.orchestration.reviewing.entries import DecisionKind, ReviewStatus
from app.orchestration.reviewing.reviews import Decided


class ReviewBody(Body):
    """A decision: the answer stands (`accept`), a candidate's does (`choose`), another does (`edit`), or none (`reject`)."""

    decision: DecisionKind
    candidate_id: str | None = Field(
        default=None, min_length=1, max_length=64, description="For `choose`: whose answer stands."
    )
    text: str | None = Field(default=None, min_length=1, max_length=200_000, description="For `edit`: the answer that stands.")
    comment: str | None = Field(default=None, max_length=2_000, description="Why; kept with the decision.")
    reviewer: str | None = Field(
        default=None, min_length=1, max_length=200, description="Who decides, where that is not the key's owner."
    )

    @model_validator(mode="after")
    def _fits(self) -> ReviewBody:
        for member, decision in (("candidate_id", "choose"), ("text", "edit")):
            given, wanted = getattr(self, member) is not None, self.decision == decision
            if given != wanted:
                raise ValueError(f"{member} is for {decision!r}, which {'wants it' if wanted else 'this is not'}")
        return self

    def to_core(self, request_id: str, operation: str) -> Decided:
        return Decided(self.decision, self.candidate_id, self.text, self.comment, self.reviewer, request_id, operation)


class ReviewDecision(TypedDict):
    """`text` is the answer that stands, null after a rejection. `by` is the key's name, `reviewer` who it said it was."""

    decision: DecisionKind
    candidate_id: str | None
    text: str | None
    comment: str | None
    by: str
    reviewer: str | None
    decided_at: int


class ReviewSummary(TypedDict):
    """A run that needs, or needed, a person. Times in seconds since the epoch."""

    id: str
    object: Literal["review"]
    run_id: str
    status: ReviewStatus
    strategy: str
    recipe: str | None
    category: str | None
    confidence: float | None
    question: str
    answer: str
    created_at: int
    decision: ReviewDecision | None


class ReviewMessage(TypedDict):
    role: str
    text: str


class ReviewCandidate(TypedDict):
    id: str
    model: str
    text: str


class ReviewCall(TypedDict):
    """A call of a tool that a process had begun which died: look whether it took effect. `arguments` is JSON text."""

    id: str
    tool: str
    version: str | None
    arguments: str


class AuditLine(TypedDict):
    """Something that happened to a review: `queued`, or a decision. `by` is the key's name and `key_id` its id."""

    at: float
    action: Literal["queued", "accept", "choose", "edit", "reject"]
    by: str
    key_id: str
    reviewer: str | None
    request_id: str
    comment: str | None


class ReviewEntry(ReviewSummary):
    """All that is kept of a review; `truncated` says that texts were longer than is kept."""

    conversation: list[ReviewMessage]
    candidates: list[ReviewCandidate]
    consensus: dict[str, Any] | None
    uncertain: list[ReviewCall]
    truncated: bool
    metadata: dict[str, Any]
    audit: list[AuditLine]


class ReviewList(TypedDict):
    object: Literal["list"]
    data: list[ReviewSummary]
    next_cursor: str | None
