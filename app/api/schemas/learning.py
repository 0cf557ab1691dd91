"""Bodies and answers of feedback and statistics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.orchestration.learning.feedback import Given


class FeedbackBody(Body):
    """One judgement of a run, or of one of its candidates: a score, the right answer, or which candidate was best."""

    run_id: str = Field(min_length=1, max_length=64, description="The run; `latest` is the newest that is kept to learn from.")
    candidate_id: str | None = Field(
        default=None, min_length=1, max_length=64, description="For a score: the candidate it is for, in place of the run."
    )
    score: float | None = Field(default=None, ge=0, le=1, description="How good the answer is: 0 wrong, 1 right.")
    label: str | None = Field(
        default=None, min_length=1, max_length=20_000, description="The right answer, read as the run's answers were."
    )
    preferred: str | None = Field(default=None, min_length=1, max_length=64, description="The candidate that answered best.")
    comment: str | None = Field(default=None, max_length=2_000, description="Kept with it.")

    @model_validator(mode="after")
    def _one(self) -> FeedbackBody:
        given = [name for name in ("score", "label", "preferred") if getattr(self, name) is not None]
        if len(given) != 1:
            told = f"{' and '.join(given)} are given" if given else "none is given"
            raise ValueError(f"give exactly one of score, label and preferred; {told}")
        if self.candidate_id is not None and self.score is None:
            raise ValueError(f"candidate_id is for a score, and {given[0]} judges the run")
        return self

    def to_core(self) -> Given:
        return Given(self.run_id, self.candidate_id, self.score, self.label, self.preferred, self.comment)


class FeedbackEntry(TypedDict):
    """A judgement as it is kept.

    `right` is whether the run's own answer was, as far as that is known; `replaced`, whether it stands in place of another.
    `label` may be a digest of what was sent.
    """

    object: Literal["feedback"]
    run_id: str
    candidate_id: str | None
    score: float | None
    label: str | None
    preferred: str | None
    comment: str | None
    by: str
    created_at: int
    right: bool | None
    replaced: bool


class StatsEntry(TypedDict):
    """How one has been doing, over all replicas; what is older counts less, so that counts are no whole numbers.

    `success` is the share of calls that was answered. Times are of answers that did not come from the cache; tokens and
    `cost_usd` are sums. `quality` is how good answers were judged to be, 0 to 1, and `judged` how many that rests on;
    `win_rate` is how often it was preferred.
    """

    object: Literal["stats"]
    kind: Literal["model", "provider", "strategy"]
    name: str
    provider: str | None
    category: str | None
    calls: float
    success: float | None
    latency_ms: dict[str, float | None]
    ttft_ms: dict[str, float | None]
    input_tokens: float
    output_tokens: float
    cost_usd: float | None
    quality: float | None
    judged: float
    win_rate: float | None


class CalibrationStats(TypedDict):
    """How well confidences are kept: `error` is the mean distance between confidence and share of right outcomes."""

    judged: float
    error: float | None


class StatsList(TypedDict):
    object: Literal["list"]
    data: list[StatsEntry]
    next_cursor: str | None
    half_life_s: int
    calibration: CalibrationStats
