"""What a definition is checked against: the strategies, recipes, models, tools and other workflows that there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from app.config.document import MemberPath
from app.config.spec import OrchestratorConfig
from app.config.workflows import WorkflowConfig
from app.core.tools import ToolSpec, parse_reference

MemberFault = tuple[MemberPath, str]


def no_faults(_: OrchestratorConfig) -> list[MemberFault]:
    return []


def no_fault(_: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Known:
    """The surroundings of a definition.

    Parameters:
        workflows: those that there are, by name.
        recipes: names of recipes.
        orchestration: the faults of a strategy and its options.
        model: what is wrong with a model's name; None where there is such a model.
        tool: what is known of a tool; None where there is none of that name. A name of an MCP server's tool, of which nothing
            is known before that server was asked, is in none of these, and `unseen` says so.
        middleware: the names of middleware.
        workflow_recipes: names of those recipes that run a workflow.
        pinned: what `name@2` refers to; without it there is one version of each, the first.
    """

    workflows: Mapping[str, WorkflowConfig] = field(default_factory=dict[str, WorkflowConfig])
    recipes: Collection[str] = ()
    orchestration: Callable[[OrchestratorConfig], list[MemberFault]] = no_faults
    model: Callable[[str], str | None] = no_fault
    tool: Callable[[str], ToolSpec | None] | None = None
    unseen: Callable[[str], bool] = field(default=lambda _: False)
    middleware: Collection[str] = ()
    workflow_recipes: Collection[str] = ()
    pinned: Callable[[str], WorkflowConfig | None] | None = None

    def workflow(self, reference: str) -> WorkflowConfig | None:
        """The workflow that `name` (the newest version) or `name@2` refers to."""
        name, at, version = reference.partition("@")
        if at and self.pinned is not None:
            return self.pinned(reference)
        return self.workflows.get(name) if version in ("", "1") else None

    def called(self, reference: str) -> str:
        """The same name for references to the same workflow."""
        name = reference.partition("@")[0]
        return name if self.workflow(reference) is self.workflow(name) else reference

    def called_by_tool(self, reference: str) -> str | None:
        """The workflow that the tool `reference` is; None where it is another tool."""
        parsed = parse_reference(reference)
        config = self.workflows.get(parsed.name) if parsed else None
        return parsed.name if parsed and config is not None and config.as_tool is not None else None
