"""A question answered in this process, by the same configuration and engine as the service's."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from app.assembly.configuration import configuration_of, connect_workflows, library_of
from app.cli.asking.question import Question
from app.config.loading import Loaded
from app.config.settings import load_settings
from app.core.chat import Generation
from app.core.messages import system, user
from app.core.principal import LOCAL
from app.core.run_events import RunEvent
from app.core.runs import Deltas, RunRequest
from app.orchestration.local import LocalRuntime
from app.orchestration.strategies import Strategies


def configuration(path: Path | None, strategies: Strategies) -> Loaded:
    """What the service would load: `path`, else QUORUM_CONFIG, else ./quorum.yaml, else the environment's providers.

    Raises:
        ConfigError: it is wrong.
    """
    return configuration_of(load_settings(config=path), strategies).loaded


async def events(question: Question, loaded: Loaded, strategies: Strategies, *, deltas: Deltas) -> AsyncGenerator[RunEvent]:
    """The run's events. Closing this cancels the run.

    Raises:
        InvalidRequest: the question is impossible.
    """
    runtime = LocalRuntime(loaded.spec, strategies)
    connect_workflows(strategies, runtime.engine, library_of(loaded.spec, strategies))
    try:
        async with aclosing(runtime.engine.begin(request_of(question, runtime, deltas)).events()) as happening:
            async for event in happening:
                yield event
    finally:
        await runtime.aclose()


def request_of(question: Question, runtime: LocalRuntime, deltas: Deltas) -> RunRequest:
    """Raises NotFound: there is no such recipe."""
    config = runtime.engine.targets.asked(
        strategy=question.strategy,
        recipe=question.recipe,
        models=question.models,
        lead_model=question.lead_model,
        options=question.options,
    )
    messages = (user(question.text),) if question.system is None else (system(question.system), user(question.text))
    generation = Generation(temperature=question.temperature, max_tokens=question.max_tokens)
    return RunRequest(config, messages, generation, deltas=deltas, scopes=LOCAL.scopes)
