"""The options of `adaptive`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from app.orchestration.base import StrategyOptions
from app.orchestration.outlook import POLICIES, Policy, Preference

Delegate = Literal["direct", "fallback", "parallel", "consensus"]
Weight = Annotated[float, Field(ge=0, le=10)]
Names = Annotated[tuple[str, ...], Field(max_length=32)]


class WeightsOptions(StrategyOptions):
    """What counts how much. `balanced` is 1, 0.3, 0.2."""

    quality: Weight = Field(default=1.0, description="How likely the answer is good.")
    cost: Weight = Field(default=0.0, description="Each doubling of the cost takes a tenth of this off.")
    latency: Weight = Field(default=0.0, description="Each doubling of the time takes a tenth of this off.")


class AdaptiveOptions(StrategyOptions):
    """What is wanted of the choice, and what it may not do."""

    policy: Policy = Field(default="balanced", description="What is wanted most.")
    weights: WeightsOptions | None = Field(default=None, description="In place of those of a policy.")
    pin: Names = Field(default=(), description="The models that the choice is limited to.")
    exclude: Names = Field(default=(), description="Models that are not asked.")
    strategies: Annotated[tuple[Delegate, ...], Field(max_length=4)] = Field(
        default=(), description="The strategies that the choice is limited to; without any, all four."
    )
    max_cost_usd: float | None = Field(
        default=None, gt=0, description="What is expected to cost more is not chosen; nor what has no known price."
    )
    explore: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="The share of runs that try what is little known and may be better. 0 turns it off.",
    )

    @model_validator(mode="after")
    def _fits(self) -> AdaptiveOptions:
        both = [name for name in self.pin if name in self.exclude]
        if both:
            raise ValueError(f"{both[0]!r} is both pinned and excluded")
        if self.weights is not None and "policy" in self.model_fields_set:
            raise ValueError("weights stand in place of a policy; give one of the two")
        if self.weights is not None and not self.weights.quality + self.weights.cost + self.weights.latency:
            raise ValueError("at least one weight must be above 0")
        return self

    @property
    def preference(self) -> Preference:
        if self.weights is None:
            return POLICIES[self.policy]
        return Preference(self.weights.quality, self.weights.cost, self.weights.latency)
