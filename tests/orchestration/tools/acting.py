"""Runs of `tools` over models that speak by script, with tools of a toolbox."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from app.config.tools import ToolsConfig
from app.core.chat import ChatRequest, ToolDefinition
from app.core.clock import SystemClock
from app.core.messages import Message, ToolCallPart, ToolResultPart, user
from app.core.runs import OrchestrationConfig, RunRequest
from app.core.tool_runs import ToolRun
from app.orchestration.context import RunContext
from app.orchestration.drive import drive
from app.orchestration.past import Past
from app.orchestration.prompts import Prompts
from app.orchestration.spending import Spending
from app.orchestration.tools.options import ToolOptions
from app.orchestration.tools.orchestrator import ToolOrchestrator
from app.tools.python_tools import PythonTool, tool_of
from app.tools.toolbox import Toolbox
from tests.orchestration.scripted import Ran, Reply, Scripted, lawful

RUN_ID = "run_" + "a1" * 12
ALL = {"effect": "allow", "tools": ["*"]}


def toolbox(path: Path, *tools: Callable[..., Any] | PythonTool, **config: Any) -> Toolbox:
    """The built-in tools and `tools` (functions that read, if they are not made already), all allowed if not said otherwise."""
    made = [one if isinstance(one, PythonTool) else tool_of(one, side_effect="read") for one in tools]
    checked = ToolsConfig.model_validate({"permissions": [ALL], **config})
    return Toolbox(checked, SystemClock(), path, more=lambda: made)


def call(name: str, number: int = 1, /, **arguments: Any) -> ToolCallPart:
    return ToolCallPart(f"t{number}", name, json.dumps(arguments))


def asks(*calls: ToolCallPart, say: str = "") -> Reply:
    return Reply([say] if say else [], tool_calls=calls, finish_reason="tool_calls")


def script(*replies: Any) -> Callable[[ChatRequest], Any]:
    """Says one after the other, and the last of them from then on."""
    left = list(replies)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def context_of(
    models: Sequence[Scripted],
    box: Toolbox | None,
    /,
    *,
    messages: tuple[Message, ...] = (user("What is it?"),),
    client: tuple[ToolDefinition, ...] = (),
    run_id: str = RUN_ID,
    **more: Any,
) -> tuple[RunRequest, RunContext]:
    """A run, ready to begin. `more` are options, and members of the request and of the context."""
    request = {name: more.pop(name) for name in ("tool_choice", "generation", "deltas", "recipe") if name in more}
    past = Past(more.pop("before", None), more.pop("taken", False))
    finished, returned, turns = more.pop("finished", []), more.pop("returned", {}), more.pop("turns", None)
    spending = Spending(purse=more.pop("purse", None))
    options = ToolOptions.model_validate(more)
    config = OrchestrationConfig("tools", tuple(model.name for model in models), recipe=request.pop("recipe", None))
    run = RunRequest(config, messages, tools=client, **{"deltas": "all", **request}, scopes=frozenset({"run"}))
    made = tuple(model.model for model in models)
    clock, prompts = SystemClock(), Prompts()
    context = RunContext(
        run_id, run, made, None, options, clock, prompts, toolbox=box, turns=turns, spending=spending, past=past
    )
    context.recall(finished, returned)
    return run, context


async def act(models: Scripted | Sequence[Scripted], box: Toolbox | None, /, **how: Any) -> Ran:
    """A run to its end."""
    models = [models] if isinstance(models, Scripted) else models
    request, context = context_of(models, box, **how)
    strategy = ToolOrchestrator()
    strategy.check(request, context)
    return lawful([event async for event in drive(strategy, request, context)], models, context.run_id)


def told(request: ChatRequest) -> list[Any]:
    """What a model was told of the calls of the step before, as JSON."""
    last = request.messages[-1]
    return [json.loads(part.text) for part in last.parts if isinstance(part, ToolResultPart)]


def ends(ran: Ran) -> list[tuple[str, str]]:
    """Tools and how their calls ended, in the order in which they were asked for."""
    return [(one.name, one.status) for one in ran.result.tool_calls]


def only(ran: Ran) -> ToolRun:
    (one,) = ran.result.tool_calls
    return one
