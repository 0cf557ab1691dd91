"""Which strategy and which models a request gets: what it names, else its recipe's, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from app.config.planning import PlanTarget
from app.config.spec import GenerationConfig, OrchestratorConfig, QuorumSpec, RecipeReliability
from app.core.chat import CacheMode, Generation
from app.core.errors import InvalidRequest, NotFound
from app.core.models import Model
from app.core.runs import OrchestrationConfig, RunRequest
from app.orchestration.base import BaseOrchestrator, NamedModel, StrategyOptions
from app.providers.fitting import missing

STRATEGY_PREFIX = "quorum/"


class ModelSource(Protocol):
    """Where models come from."""

    def resolve(self, name: str) -> Model:
        """The model of that name.

        Raises:
            NotFound: there is none.
        """
        ...

    def tuned(self, model: Model, reliability: RecipeReliability) -> Model:
        """`model` for the calls of a recipe that has settings of its own."""
        ...

    def models(self) -> Sequence[Model]:
        """All that have an alias, in the configuration's order."""
        ...


@dataclass(frozen=True, slots=True)
class Selected:
    """`named` holds the models that the strategy's options name, by name."""

    models: tuple[Model, ...]
    lead: Model | None
    named: Mapping[str, Model] = field(default_factory=dict[str, Model])


class Targets:
    """What a request may name, by one configuration: recipes, `quorum/<strategy>`, models."""

    def __init__(self, spec: QuorumSpec) -> None:
        self._spec = spec
        self._recipes = {name: _recipe_config(name, recipe) for name, recipe in spec.recipes.items()}
        self._generation = {name: _set(recipe.generation) for name, recipe in spec.recipes.items()}
        self._cache: dict[str, CacheMode | None] = {
            name: _on(recipe.cache) for name, recipe in spec.recipes.items() if recipe.cache is not None
        }
        self._default_cache: CacheMode | None = _on(spec.defaults.cache)
        self._default_generation = _set(spec.defaults.generation)

    def named(self, name: str) -> OrchestrationConfig:
        """What `model` of an OpenAI request stands for: a recipe, `quorum/<strategy>`, or one model asked directly."""
        recipe = self._recipes.get(name)
        if recipe is not None:
            return recipe
        if name.startswith(STRATEGY_PREFIX):
            return OrchestrationConfig(name.removeprefix(STRATEGY_PREFIX))
        if name == "quorum":
            return OrchestrationConfig(self._spec.defaults.strategy)
        return OrchestrationConfig("direct", (name,))

    def asked(
        self,
        *,
        strategy: str | None,
        recipe: str | None,
        models: tuple[str, ...],
        lead_model: str | None,
        options: Mapping[str, Any],
    ) -> OrchestrationConfig:
        """What a native request says over what its recipe says over the defaults.

        Raises:
            NotFound: there is no such recipe.
        """
        if recipe is None:
            return OrchestrationConfig(strategy or self._spec.defaults.strategy, models, lead_model, options)
        base = self._recipes.get(recipe)
        if base is None:
            known = ", ".join(self._recipes) or "none is configured"
            raise NotFound(f"there is no recipe {recipe!r}; known: {known}", param="recipe")
        if strategy is not None and strategy != base.strategy:
            message = f"the recipe {recipe!r} is of strategy {base.strategy!r}; leave `strategy` out"
            raise InvalidRequest(message, param="strategy")
        return replace(
            base,
            models=models or base.models,
            lead_model=lead_model or base.lead_model,
            options={**base.options, **options},
        )

    def delegated(self, target: PlanTarget, outer: OrchestrationConfig) -> OrchestrationConfig:
        """What `target` stands for in a run of `outer`, whose models it has where it names none.

        Raises:
            NotFound: there is no such recipe.
        """
        config = OrchestrationConfig(target.strategy or "", target.models, target.lead_model, target.options, outer.recipe)
        if target.recipe is not None:
            config = self.asked(strategy=None, recipe=target.recipe, models=(), lead_model=None, options={})
        return replace(config, models=config.models or outer.models, lead_model=config.lead_model or outer.lead_model)

    def cache(self, recipe: str | None) -> CacheMode | None:
        """What the recipe, else the configuration, says of the cache; None where that is "off"."""
        return self._cache.get(recipe or "", self._default_cache)

    def generation(self, asked: Generation, recipe: str | None) -> Generation:
        """`asked`, with what it leaves open taken from the recipe and the defaults."""
        settings = {**self._default_generation, **self._generation.get(recipe or "", {})}
        if not settings:
            return asked
        return replace(asked, **{key: value for key, value in settings.items() if getattr(asked, key) in (None, ())})


def _recipe_config(name: str, recipe: OrchestratorConfig) -> OrchestrationConfig:
    return OrchestrationConfig(recipe.strategy, recipe.models, recipe.lead_model, recipe.options, name)


def _on(cache: CacheMode) -> CacheMode | None:
    return None if cache == "off" else cache


def _set(generation: GenerationConfig) -> dict[str, Any]:
    return {key: value for key, value in generation if value not in (None, ())}


def select(
    source: ModelSource, spec: QuorumSpec, strategy: BaseOrchestrator, request: RunRequest, options: StrategyOptions
) -> Selected:
    """The models of a run, in order, and its lead.

    Models that the request or its recipe names are taken as they are: one that cannot do what is asked fails as a candidate.
    Defaults are filtered by what they can do. Models that the strategy's options name are the run's models; what they can do is
    the strategy's own to judge, since it may ask them for something else.

    Raises:
        NotFound: a name that no model has.
        CapabilityMissing: none of the models can do what is asked.
        InvalidRequest: more models than allowed, or none at all.
    """
    config = request.config
    if strategy.models_needed == 0:
        return Selected((), None)
    in_options = strategy.models_of(options)
    if any(not one.helps for one in in_options):
        return _of_options(source, spec, request, in_options)
    named = config.models
    if len(named) > spec.limits.max_models:
        raise InvalidRequest(f"{len(named)} models are named; at most {spec.limits.max_models} may be", param="models")
    if named and strategy.models_needed is not None and len(named) > strategy.models_needed:
        message = f"the strategy {strategy.name!r} takes {strategy.models_needed} model, {len(named)} are named"
        raise InvalidRequest(message, param="models")
    if strategy.delegates:
        lead = source.resolve(config.lead_model) if config.lead_model else None
        return Selected(tuple(source.resolve(name) for name in named), lead, _resolved(source, in_options))
    names = named or spec.defaults.models
    models = tuple(source.resolve(name) for name in names) if names else tuple(source.models())
    if not models:
        raise InvalidRequest("no model is configured; add one under `models` in quorum.yaml", param="models")
    faults = [missing(model.profile, request.messages, request.generation, request.tools) for model in models]
    if faults[0] is not None and all(faults):
        raise faults[0]
    if not named:
        limits = spec.limits
        most = strategy.models_needed or (limits.max_models if strategy.chooses else limits.max_default_models)
        fitting = [model for model, fault in zip(models, faults, strict=True) if not fault]
        models = tuple(fitting if spec.defaults.models and not strategy.models_needed else fitting[:most])
    lead_name = config.lead_model or spec.defaults.lead_model
    return Selected(models, source.resolve(lead_name) if lead_name else None, _resolved(source, in_options))


def tuned(source: ModelSource, selected: Selected, reliability: RecipeReliability) -> Selected:
    """`selected`, each for the calls of a recipe with these settings."""
    return Selected(
        tuple(source.tuned(model, reliability) for model in selected.models),
        source.tuned(selected.lead, reliability) if selected.lead else None,
        {name: source.tuned(model, reliability) for name, model in selected.named.items()},
    )


def _of_options(source: ModelSource, spec: QuorumSpec, request: RunRequest, named: Sequence[NamedModel]) -> Selected:
    if request.config.models:
        raise InvalidRequest("the options name the models already; leave `models` out", param="models")
    if len(named) > spec.limits.max_models:
        message = f"the options name {len(named)} models; at most {spec.limits.max_models} may be"
        raise InvalidRequest(message, param=f"options.{named[0].path[0]}")
    found = _resolved(source, named)
    lead = request.config.lead_model
    return Selected(tuple(found[one.name] for one in named if not one.helps), source.resolve(lead) if lead else None, found)


def _resolved(source: ModelSource, named: Sequence[NamedModel]) -> dict[str, Model]:
    found: dict[str, Model] = {}
    for one in named:
        try:
            found[one.name] = source.resolve(one.name)
        except NotFound as error:
            param = ".".join(str(step) for step in ("options", *one.path))
            raise InvalidRequest(error.message, param=param) from None
    return found
