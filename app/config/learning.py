"""The shape of what `quorum.yaml` says of learning and of reviews."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from app.config.shape import Spec


class PriorsConfig(Spec):
    """What is taken to be so before anything was learned."""

    quality: float = Field(default=0.7, gt=0, lt=1, description="How often a model is right whose own `quality` is not stated.")
    family_correlation: float = Field(default=0.3, ge=0, le=1, description="How alike the errors of models of one family are.")


class TrainingConfig(Spec):
    """When weights, calibrators and predictors are fitted to what was judged."""

    enabled: bool = Field(default=True, description="By itself; `quorum train` does it in any case.")
    every_s: int = Field(default=3_600, ge=5, le=31_536_000, description="How often, by one replica for all.")
    min_judged: int = Field(
        default=50, ge=10, le=1_000_000, description="Judged runs of a tenant, below which nothing is fitted."
    )
    min_new: int = Field(default=20, ge=1, le=1_000_000, description="Judgements since the last time that are worth another.")
    keep_versions: int = Field(default=10, ge=1, le=100, description="What was in force before, to go back to.")


class LearningConfig(Spec):
    """What is kept of runs to learn from, and how it is learned from."""

    observe: Literal["panels", "all", "off"] = Field(
        default="panels", description="`panels`: runs whose answers are held against each other; `all`; or none."
    )
    keep_runs: int = Field(
        default=5_000, ge=10, le=1_000_000, description="Of a tenant, the newest; as many judged ones besides."
    )
    keep_s: int = Field(default=7_776_000, ge=60, le=315_360_000, description="For so long.")
    half_life_s: int = Field(default=1_209_600, ge=60, le=315_360_000, description="What is so old counts half in statistics.")
    share: bool = Field(default=False, description="Whether tenants learn from each other's judgements.")
    train: TrainingConfig = TrainingConfig()
    priors: PriorsConfig = PriorsConfig()


class ReviewsConfig(Spec):
    """Runs that end as `needs_review`, for a person to decide."""

    enabled: bool = Field(default=True, description="Whether they are kept, with question and answers.")
    keep_s: int = Field(default=2_592_000, ge=60, le=315_360_000, description="For so long, decided or not.")
    max_kept: int = Field(
        default=10_000, ge=10, le=1_000_000, description="Of a tenant; the oldest go first, decided ones before."
    )
    max_text: int = Field(
        default=20_000, ge=200, le=1_000_000, description="Characters kept of the question and of each answer."
    )
