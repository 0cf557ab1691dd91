"""What is configured for the calls to one model: the general settings, its provider's over them, its own over those."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from app.config.spec import (
    BulkheadConfig,
    CircuitBreakerConfig,
    HedgeConfig,
    LLMProvider,
    ModelConfig,
    PaceConfig,
    RecipeReliability,
    ReliabilityConfig,
    ReliabilityOverrides,
    RepairConfig,
    RequestConfig,
    RetryConfig,
    Spec,
)

S = TypeVar("S", bound=Spec)


@dataclass(frozen=True, slots=True)
class CallConfig:
    """Settings in force for a model's calls.

    `provider_bulkhead` bounds the calls to all models of the provider together, `model_bulkhead` those to this one.
    `credential` is the secret that the provider is called with, empty where there is none. `on_demand` says that only requests
    name the model.
    """

    timeouts: RequestConfig = RequestConfig()
    retry: RetryConfig = RetryConfig()
    breaker: CircuitBreakerConfig = CircuitBreakerConfig()
    pace: PaceConfig = PaceConfig()
    repair: RepairConfig = RepairConfig()
    hedge: HedgeConfig = HedgeConfig()
    provider_bulkhead: BulkheadConfig = BulkheadConfig()
    model_bulkhead: BulkheadConfig = BulkheadConfig()
    credential: str = ""
    on_demand: bool = False


def call_config(
    general: ReliabilityConfig,
    provider: LLMProvider | None,
    model: ModelConfig | None,
    recipe: RecipeReliability = RecipeReliability(),  # noqa: B008 (frozen)
) -> CallConfig:
    """Settings of `model` at `provider`, for the calls of `recipe`; without them those of a provider object, or of a model
    without an entry."""
    of_provider = provider.reliability if provider else ReliabilityOverrides()
    of_model = model.reliability if model else ReliabilityOverrides()
    timeouts = provider.timeouts if provider else RequestConfig()
    if model is not None and model.timeouts is not None:
        timeouts = model.timeouts
    return CallConfig(
        timeouts=timeouts,
        retry=overridden(general.retry, of_provider.retry, of_model.retry, recipe.retry),
        breaker=overridden(general.breaker, of_provider.breaker, of_model.breaker),
        pace=overridden(general.pace, of_provider.pace, of_model.pace),
        hedge=overridden(general.hedge, of_provider.hedge, of_model.hedge, recipe.hedge),
        repair=overridden(general.repair, of_provider.repair, of_model.repair, recipe.repair),
        provider_bulkhead=overridden(general.bulkhead, of_provider.bulkhead),
        model_bulkhead=overridden(BulkheadConfig(), of_model.bulkhead),
        credential=provider.api_key.get_secret_value() if provider and provider.api_key else "",
    )


def overridden(base: S, *overrides: S | None) -> S:
    """`base` with the members that each of `overrides` sets, the last one's over the others'."""
    for override in overrides:
        if override is not None:
            base = base.model_copy(update={name: getattr(override, name) for name in override.model_fields_set})
    return base
