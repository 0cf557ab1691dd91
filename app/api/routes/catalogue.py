"""What there is: models, recipes and strategies."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response
from typing_extensions import TypedDict

from app.api.access import Reader
from app.api.describe import described
from app.api.schemas.answers import ModelEntry, ModelList, StrategyEntry, StrategyList
from app.api.services import Services, services_of
from app.config.fingerprint import fingerprint
from app.config.spec import OrchestratorConfig, QuorumSpec
from app.core.errors import InvalidRequest
from app.core.models import Model
from app.core.run_json import json_bytes
from app.core.usage import FlatPrice
from app.orchestration.selection import STRATEGY_PREFIX
from app.orchestration.strategies import parse_options

router = APIRouter(tags=["Catalogue"])

ModelName = Annotated[str, Path(openapi_examples={"strategy": {"value": "quorum/simple"}, "model": {"value": "mock-swift"}})]


@router.get("/v1/models", summary="Models and recipes", openapi_extra=described(ModelList))
async def list_models(request: Request, who: Reader) -> Response:
    """Everything that `model` may name, in OpenAI's list shape, with capabilities and prices."""
    services = services_of(request)
    return _json({"object": "list", "data": list(_entries(services, who.tenant).values()), "next_cursor": None})


@router.get("/v1/models/{name:path}", summary="One model or recipe", openapi_extra=described(ModelEntry))
async def get_model(request: Request, name: ModelName, who: Reader) -> Response:
    """A model by its alias or as `provider/model`, a recipe, or a strategy as `quorum/<strategy>`."""
    services = services_of(request)
    entry = _entries(services, who.tenant).get(name)
    if entry is None:
        entry = _model(services.registry.resolve(name), services.engine.spec)
    return _json(entry)


@router.get("/v1/strategies", summary="Strategies and their options", openapi_extra=described(StrategyList))
async def list_strategies(request: Request, _who: Reader) -> Response:
    """Each strategy with the JSON schema of its `options`."""
    data: list[StrategyEntry] = [
        {
            "id": strategy.name,
            "object": "strategy",
            "summary": strategy.summary,
            "model": STRATEGY_PREFIX + strategy.name,
            "options": strategy.Options.model_json_schema(),
        }
        for strategy in services_of(request).engine.strategies.all()
    ]
    return _json({"object": "list", "data": data, "next_cursor": None})


def _entries(services: Services, tenant: str) -> dict[str, ModelEntry]:
    spec, learned = services.engine.spec, services.learned(tenant)
    models: dict[str, ModelEntry] = {model.profile.name: _model(model, spec) for model in services.registry.models()}
    recipes: dict[str, ModelEntry] = {
        name: {
            "id": name,
            "object": "model",
            "created": 0,
            "owned_by": "quorum",
            "kind": "recipe",
            "strategy": recipe.strategy,
            "lead_model": recipe.lead_model,
            "description": recipe.description,
            "learned": learned,
            **_made_of(recipe, services),
        }
        for name, recipe in spec.recipes.items()
    }
    plain_defaults = OrchestratorConfig(lead_model=spec.defaults.lead_model, generation=spec.defaults.generation)
    strategies: dict[str, ModelEntry] = {
        STRATEGY_PREFIX + strategy.name: {
            "id": STRATEGY_PREFIX + strategy.name,
            "object": "model",
            "created": 0,
            "owned_by": "quorum",
            "kind": "strategy",
            "description": strategy.summary,
            "learned": learned,
            "fingerprint": fingerprint(
                spec, spec.defaults.models or tuple(spec.models), plain_defaults, plans=strategy.delegates
            ),
        }
        for strategy in services.engine.strategies.all()
    }
    return models | recipes | strategies


class _MadeOf(TypedDict):
    models: tuple[str, ...]
    fingerprint: str


def _made_of(recipe: OrchestratorConfig, services: Services) -> _MadeOf:
    """The models whose answers a recipe asks for, and the fingerprint of all that it is made of."""
    plans = False
    try:
        strategy = services.engine.strategies.get(recipe.strategy)
        plans = strategy.delegates
        named = strategy.models_of(parse_options(strategy, recipe.options))
    except InvalidRequest:  # of a package that was there when the configuration was read
        named = ()
    helping = [one.name for one in named if one.helps] + ([recipe.lead_model] if recipe.lead_model else [])
    models = tuple(dict.fromkeys((*recipe.models, *(one.name for one in named if not one.helps))))
    made = fingerprint(services.engine.spec, [*models, *helping], recipe, plans=plans)
    return {"models": models, "fingerprint": made}


def _model(model: Model, spec: QuorumSpec) -> ModelEntry:
    profile = model.profile
    return {
        "id": profile.name,
        "object": "model",
        "created": 0,
        "owned_by": profile.provider,
        "kind": "model",
        "provider": profile.provider,
        "model": profile.model,
        "family": profile.family,
        "capabilities": profile.capabilities,
        "price_per_mtok": profile.price if isinstance(profile.price, FlatPrice) else None,
        "priced": profile.price is not None,
        "context_window": profile.context_window,
        "max_output_tokens": profile.max_output_tokens,
        "tags": profile.tags,
        "fingerprint": fingerprint(spec, [profile.name]),
    }


def _json(value: Any) -> Response:
    return Response(json_bytes(value), media_type="application/json")
