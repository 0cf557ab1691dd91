"""Bodies and answers about workflows."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import Field
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.api.schemas.orchestrations import BACKGROUND, PRIORITY, WEBHOOK, BudgetBody, OrchestrationBody
from app.config.shape import Name
from app.config.workflows import StepName, WorkflowConfig
from app.core.chat import CacheMode
from app.core.jobs import Priority
from app.core.runs import OnBudget


class WorkflowBody(WorkflowConfig):
    """A definition to store, as a workflow of the configuration, with its name."""

    name: Name
    validate_only: bool = Field(default=False, description="Check it, and store nothing.")


class WorkflowRunBody(Body):
    """What a workflow is given."""

    inputs: dict[str, Any] = Field(default_factory=dict)
    budget: BudgetBody = Field(default_factory=BudgetBody)
    on_budget: OnBudget = "fail"
    cache: CacheMode | None = Field(default=None, description="For the calls of its steps; without it as configured.")
    stream: bool = Field(default=False, description="Answer as an event stream.")
    on_disconnect: Literal["cancel", "continue"] | None = Field(
        default=None, description="A stream whose reader has left and not come back is cancelled, or goes on to its end."
    )
    background: bool = BACKGROUND
    webhook: str | None = WEBHOOK
    priority: Priority = PRIORITY
    metadata: dict[str, Any] = Field(default_factory=dict, description="Comes back in the result.")

    def as_orchestration(self, name: str) -> OrchestrationBody:
        """The same as a body of `POST /v1/orchestrations`, for the queue."""
        return OrchestrationBody(
            input=orjson.dumps(self.inputs).decode(),
            strategy="workflow",
            options={"workflow": name, "inputs": self.inputs},
            budget=self.budget,
            on_budget=self.on_budget,
            cache=self.cache,
            background=True,
            webhook=self.webhook,
            priority=self.priority,
            metadata=self.metadata,
        )


class SignalBody(Body):
    """A signal."""

    name: StepName = Field(description="As `wait.signal` names it.")
    payload: Any = Field(default=None, description="What the step gives as its output.")


class SignalEntry(TypedDict):
    """A signal that a run was sent. `created_at` is Unix time in seconds, `by` the name of the key."""

    object: Literal["signal"]
    run_id: str
    name: str
    payload: Any
    created_at: float
    by: str


class WorkflowSummary(TypedDict):
    """The newest version of a workflow, and which are kept."""

    name: str
    object: Literal["workflow"]
    version: int
    versions: list[int]
    source: Literal["configuration", "stored"]
    stored: bool
    created_at: int | None
    description: str | None


class WorkflowEntry(WorkflowSummary):
    """A version of a workflow. `diagram` is a Mermaid flowchart, `faults` say why it cannot run as configured."""

    input_schema: dict[str, Any]
    definition: dict[str, Any]
    diagram: str
    faults: list[str]


class WorkflowList(TypedDict):
    object: Literal["list"]
    data: list[WorkflowSummary]
    next_cursor: str | None


class WorkflowDiagram(TypedDict):
    """A Mermaid flowchart; with a run, how its steps stand."""

    object: Literal["workflow.diagram"]
    name: str
    version: int
    run_id: str | None
    mermaid: str
    steps: dict[str, str]
