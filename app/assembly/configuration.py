"""The configuration, checked by everybody who knows a part of it."""

from __future__ import annotations

import os

from app.config.loading import Checks
from app.config.reload import Configuration
from app.config.settings import Settings
from app.config.spec import OrchestratorConfig, QuorumSpec
from app.core.errors import InvalidRequest
from app.orchestration.engine import Engine
from app.orchestration.prompts import placeholders
from app.orchestration.strategies import Strategies, parse_options
from app.providers.environment import load_or_default
from app.providers.factory import provider_faults
from app.tools.toolbox import python_faults
from app.workflows.known import no_faults
from app.workflows.library import Library
from app.workflows.orchestrator import WorkflowOrchestrator
from app.workflows.surroundings import known_of, tools_there, workflow_faults


def configuration_of(settings: Settings, strategies: Strategies) -> Configuration:
    """The configuration that `settings` name, checked by everybody who knows a part of it.

    Raises:
        ConfigError: it is wrong.
    """
    checks = checks_of(strategies)
    return Configuration(lambda: load_or_default(settings.config_path(), os.environ, checks=checks))


def all_strategies() -> Strategies:
    """Every strategy that there is, by name. What runs them puts the parts of `workflow` together."""
    strategies = Strategies()
    strategies.register(WorkflowOrchestrator())
    return strategies


def connect_workflows(strategies: Strategies, engine: Engine, library: Library) -> None:
    """Have `engine` run the workflows of `library` where a request names their strategy."""
    strategy = strategies.get("workflow")
    if isinstance(strategy, WorkflowOrchestrator):
        strategy.engine, strategy.library = engine, library


def library_of(spec: QuorumSpec, strategies: Strategies) -> Library:
    """The workflows of `spec`, for a process that is no service."""
    return Library(spec, known_of(spec, checks_of(strategies).recipe or no_faults))


def checks_of(strategies: Strategies) -> Checks:
    """What only providers and strategies can judge of a configuration."""

    def recipe(config: OrchestratorConfig) -> list[tuple[tuple[str | int, ...], str]]:
        try:
            strategy = strategies.get(config.strategy)
        except InvalidRequest as error:
            return [(("strategy",), error.message)]
        try:
            parse_options(strategy, config.options)
        except InvalidRequest as error:
            steps = (error.param or "options").split(".")
            said = error.message.removeprefix(f"{error.param}: ")
            return [(tuple(int(step) if step.isdecimal() else step for step in steps), said)]
        most, many = strategy.models_needed, len(config.models)
        if most and many > most:
            return [(("models",), f"{many} are named, and the strategy {strategy.name!r} takes {most}")]
        return []

    def recipe_models(config: OrchestratorConfig) -> list[tuple[tuple[str | int, ...], str]]:
        try:
            strategy = strategies.get(config.strategy)
            options = parse_options(strategy, config.options)
        except InvalidRequest:  # which `recipe` tells
            return []
        return [(("options", *named.path), named.name) for named in strategy.models_of(options)]

    def recipe_tools(config: OrchestratorConfig) -> list[tuple[tuple[str | int, ...], str]]:
        try:
            strategy = strategies.get(config.strategy)
            named = strategy.tools_of(parse_options(strategy, config.options))
            return [(("options", *path), name) for path, name in named]
        except InvalidRequest:  # which `recipe` tells
            return []

    return Checks(
        recipe=recipe,
        recipe_models=recipe_models,
        provider=provider_faults,
        prompts=placeholders(),
        tools=python_faults,
        recipe_tools=recipe_tools,
        tools_there=tools_there,
        workflows=lambda spec: workflow_faults(spec, recipe),
    )
