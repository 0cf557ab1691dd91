"""A short text that changes with what a model, a recipe or a strategy is made of. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import orjson

from app.config.spec import OrchestratorConfig, QuorumSpec

_CREDENTIALS = {"api_key", "headers", "query"}
"""Members of a provider that do not decide what its models say."""


def fingerprint(
    spec: QuorumSpec, models: Sequence[str], recipe: OrchestratorConfig | None = None, *, plans: bool = False
) -> str:
    """Of `models` (aliases or `provider/model`) with their providers and, where there is one, the recipe that asks them, with
    the prompts that the configuration overrides. No credential goes into it, so a new key changes nothing.

    Parameters:
        plans: whether the planner says what it asks: then the planner's rules, all recipes and all models count.
    """
    asked = dict.fromkeys((*models, *spec.models)) if plans else models
    made: list[Any] = [_model(spec, name) for name in asked]
    if plans:
        recipes = {name: one.model_dump(mode="json") for name, one in spec.recipes.items()}
        made += [spec.planner.model_dump(mode="json"), recipes, spec.defaults.model_dump(mode="json")]
    if recipe is not None:
        made += [recipe.model_dump(mode="json"), spec.prompts, {name: one.prompt for name, one in spec.analyses.items()}]
    return blake2b(orjson.dumps(made, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()


def _model(spec: QuorumSpec, name: str) -> list[Any]:
    model = spec.models.get(name)
    provider = spec.providers.get(model.provider if model else name.partition("/")[0])
    return [
        name,
        model.model_dump(mode="json") if model else None,
        provider.model_dump(mode="json", exclude=_CREDENTIALS) if provider else None,
    ]
