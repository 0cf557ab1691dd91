"""Scripted models as an engine finds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.config.spec import QuorumSpec, RecipeReliability
from app.core.clock import SystemClock
from app.core.errors import NotFound
from app.core.messages import user
from app.core.models import Model
from app.core.runs import OrchestrationConfig, RunRequest
from app.orchestration.engine import Engine
from app.orchestration.strategies import Strategies
from tests.orchestration.scripted import Scripted


class Known:
    """The models of a configuration that has these."""

    def __init__(self, *scripted: Scripted) -> None:
        self._models = {one.name: one.model for one in scripted}

    def tuned(self, model: Model, reliability: RecipeReliability) -> Model:
        return model

    def resolve(self, name: str) -> Model:
        if name not in self._models:
            raise NotFound(f"there is no model {name!r}", param="models")
        return self._models[name]

    def models(self) -> Sequence[Model]:
        return tuple(self._models.values())


def engine(*scripted: Scripted, **spec: Any) -> Engine:
    return Engine(Known(*scripted), Strategies(plugins=False), QuorumSpec.model_validate(spec), SystemClock())


def asked(strategy: str = "direct", models: tuple[str, ...] = (), lead: str | None = None, **more: Any) -> RunRequest:
    config = OrchestrationConfig(strategy, models, lead, more.pop("options", {}), more.pop("recipe", None))
    return RunRequest(config, more.pop("messages", (user("What is it?"),)), **more)
