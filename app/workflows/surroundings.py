"""What a configuration has that definitions may name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from app.config.document import Fault
from app.config.explaining import close_to, listed
from app.config.spec import OrchestratorConfig, QuorumSpec
from app.core.clock import SystemClock
from app.core.errors import QuorumError
from app.core.tools import Tool, ToolSpec, Version, parse_reference
from app.orchestration.bundles.tools import Bundles
from app.tools.mcp.tools import SEPARATOR
from app.tools.toolbox import Toolbox
from app.workflows.checking import faults_of_all
from app.workflows.known import Known, MemberFault
from app.workflows.middleware import known_middleware
from app.workflows.tools import specs_of


def known_of(
    spec: QuorumSpec, orchestration: Callable[[OrchestratorConfig], list[MemberFault]], *, toolbox: Toolbox | None = None
) -> Known:
    """The surroundings of definitions under the configuration `spec`.

    Parameters:
        orchestration: the faults of a strategy and its options.
        toolbox: the tools of the service; without it those that the configuration alone can tell of.
    """
    tools = toolbox or _described(spec)

    def tool(name: str) -> ToolSpec | None:
        try:
            return tools.find(name).spec if tools is not None else None
        except QuorumError:
            return None

    def unseen(name: str) -> bool:
        return tools is None or name.partition(SEPARATOR)[0] in spec.tools.mcp

    return Known(
        spec.workflows,
        frozenset(spec.recipes),
        orchestration,
        lambda name: _model_fault(spec, name),
        tool,
        unseen,
        frozenset(known_middleware()),
        frozenset(name for name, recipe in spec.recipes.items() if recipe.strategy == "workflow"),
    )


def tools_there(spec: QuorumSpec) -> list[tuple[str, Version]] | None:
    """Every version of every tool that a configuration has but those of MCP servers; None where it is faulty otherwise."""
    tools = _described(spec)
    return None if tools is None else [(one.spec.name, one.spec.version) for one in tools.all()]


def workflow_faults(spec: QuorumSpec, orchestration: Callable[[OrchestratorConfig], list[MemberFault]]) -> list[Fault]:
    """The faults of the workflows of a configuration."""
    found = [*faults_of_all(spec.workflows, known_of(spec, orchestration)), *_names(spec)]
    return [Fault(("workflows", *fault.path), fault.message) for fault in found]


def _names(spec: QuorumSpec) -> Iterator[Fault]:
    """Faults of the names of workflows that are tools."""
    others = {parsed.name for parsed in map(parse_reference, (*spec.tools.http, *spec.tools.bundles)) if parsed}
    for name, config in spec.workflows.items():
        if config.as_tool is None:
            continue
        parsed = parse_reference(name)
        if parsed is None or parsed.name != name:
            yield Fault((name,), "is no name that a tool may have: a letter, then letters, digits, - and _")
        elif name in others or name in spec.tools.builtins:
            yield Fault((name,), f"there is another tool {name!r}; give one of them another name")


def _described(spec: QuorumSpec) -> Toolbox | None:
    """The tools of a configuration, none of which is started; None where it is faulty, which is told elsewhere."""
    clock = SystemClock()
    bundles = Bundles(spec, clock)

    def more() -> list[Tool]:
        return [*bundles.tools(), *specs_of(spec)]

    try:
        return Toolbox(spec.tools.model_copy(update={"mcp": {}}), clock, Path(), more=more)
    except (QuorumError, ValueError):
        return None


def _model_fault(spec: QuorumSpec, name: str) -> str | None:
    """What is wrong with a model's name. Of providers that are registered at run time nothing is known."""
    provider, slash, model = name.partition("/")
    if name in spec.models or (slash and model and provider in spec.providers) or not spec.providers:
        return None
    if name in spec.recipes:
        return f"{name!r} is a recipe; name a model"
    hint = close_to(name, spec.models) or (f"; models here: {listed(spec.models)}" if spec.models else "; there are no models")
    return f"{name!r} is not a model{hint}"
