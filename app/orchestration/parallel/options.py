"""The options of `parallel`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.orchestration.tools.options import PanelOptions

Select = Literal["first", "longest", "score", "judge"]


class ParallelOptions(PanelOptions):
    """How many are asked, when it is enough, and which answer is taken."""

    min_responses: int = Field(
        default=1, ge=1, le=64, description="How many good answers are waited for, and how many models must answer at all."
    )
    quality_threshold: float = Field(
        default=0.5, ge=0, le=1, description="The score from which an answer is good: how likely it is right."
    )
    max_models: int | None = Field(
        default=None, ge=1, le=64, description="How many models are asked at most; one that fails makes room for the next."
    )
    select: Select = Field(
        default="score",
        description=(
            "Which of the good answers is taken: the `first`, the `longest`, the one with the highest `score`, or by the "
            "scores that a `judge` (the lead model) gives them."
        ),
    )
    hedge_after: Literal["p95"] | Annotated[float, Field(ge=0, le=600)] | None = Field(
        default=None,
        description=(
            "Without it all are asked at once. With it only as many as are needed, and the next one after so many seconds, or "
            "(`p95`) when those at work take longer than 95 % of their calls."
        ),
    )

    @model_validator(mode="after")
    def _fits(self) -> ParallelOptions:
        if self.max_models is not None and self.max_models < self.min_responses:
            raise ValueError(f"min_responses is {self.min_responses}, but max_models only {self.max_models}")
        return self
