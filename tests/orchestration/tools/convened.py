"""Panels over models that speak by script, whose members act with tools of a toolbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.core.chat import DEFAULT_GENERATION, Generation, ToolChoice, ToolDefinition
from app.core.clock import SystemClock
from app.core.messages import user
from app.core.runs import Budget, Deltas, OrchestrationConfig, RunRequest
from app.orchestration.base import BaseOrchestrator
from app.orchestration.consensus.orchestrator import ConsensusOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.drive import drive
from app.orchestration.parallel.orchestrator import ParallelOrchestrator
from app.orchestration.past import Past
from app.orchestration.prompts import Prompts
from app.orchestration.simple import SimpleOrchestrator
from app.tools.toolbox import Toolbox
from tests.orchestration.scripted import Ran, Scripted, lawful

CONSENSUS, PARALLEL, SIMPLE = ConsensusOrchestrator(), ParallelOrchestrator(), SimpleOrchestrator()
PANELS: Sequence[BaseOrchestrator] = (CONSENSUS, PARALLEL, SIMPLE)


def convened(
    panel: BaseOrchestrator,
    models: Sequence[Scripted],
    box: Toolbox | None,
    *,
    client: tuple[ToolDefinition, ...] = (),
    tool_choice: ToolChoice = "auto",
    generation: Generation = DEFAULT_GENERATION,
    deltas: Deltas = "all",
    past: Past | None = None,
    **options: Any,
) -> tuple[RunRequest, RunContext]:
    """A run of `panel`, ready to begin. `past` is what had come of it before, `options` are the strategy's."""
    config = OrchestrationConfig(panel.name, tuple(model.name for model in models))
    request = RunRequest(
        config,
        (user("What is it?"),),
        generation,
        client,
        tool_choice,
        Budget(),
        deltas=deltas,
        scopes=frozenset({"run"}),
    )
    chosen = panel.Options.model_validate(options)
    made = tuple(model.model for model in models)
    clock = SystemClock()
    past = past or Past()
    context = RunContext("run_1", request, made, None, chosen, clock, Prompts(), toolbox=box, past=past)
    context.recall(past.finished, past.returned)
    return request, context


async def convene(panel: BaseOrchestrator, models: Sequence[Scripted], box: Toolbox | None, **how: Any) -> Ran:
    """A run to its end."""
    request, context = convened(panel, models, box, **how)
    panel.check(request, context)
    return lawful([event async for event in drive(panel, request, context)], models, "run_1")
