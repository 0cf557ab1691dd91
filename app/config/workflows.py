"""The shape of a workflow's definition. Its meaning is checked in `workflows/checking.py`.

A text may hold references, `${steps.draft.output.text}`, of which `workflows/references.py` tells the rest; a text that is one
reference stands for the value itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.config.shape import Name, Spec

StepName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
Expression = Annotated[str, Field(min_length=1, max_length=2_000)]
MAX_STEPS = 200
MAX_DEPTH = 16
"""How deep a workflow may call itself where that is meant, and workflows may stand inside of one another at all."""


class StepGeneration(Spec):
    """Sampling and limits of a step's models; what is left out is the recipe's or the model's own."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: tuple[str, ...] = ()
    seed: int | None = None


class WorkflowOrchestration(Spec):
    """An orchestration: what `POST /v1/orchestrations` takes. Strategy, recipe, models and options may be references."""

    input: str = Field(min_length=1, description="The prompt, with references.")
    strategy: str | None = None
    recipe: str | None = None
    models: tuple[str, ...] = ()
    lead_model: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    generation: StepGeneration = StepGeneration()
    json_schema: dict[str, Any] | None = Field(
        default=None, alias="schema", description="The answer is JSON that fits it; it is `output.json` then."
    )


class WorkflowTool(Spec):
    """A call of a tool of the service."""

    name: str = Field(min_length=1, max_length=128, description="`weather`, `weather@2`.")
    arguments: dict[str, Any] = Field(default_factory=dict)
    idempotent: bool = Field(
        default=False,
        description="The tool may write and be called again with the same arguments: after a failure, or where the process "
        "died that called it.",
    )


class WorkflowTransform(Spec):
    """A value made of others, by a CEL expression over references or by a template."""

    expression: Expression | None = Field(default=None, description="CEL, as ${steps.a.output.value} * 2.")
    value: Any = Field(default=None, description="Any value, with references in its texts.")


class WorkflowCall(Spec):
    """Another workflow, or this one again."""

    name: str = Field(min_length=1, max_length=80, description="`article`, or `article@2`.")
    inputs: dict[str, Any] = Field(default_factory=dict)
    max_depth: int | None = Field(
        default=None, ge=1, le=MAX_DEPTH, description="For recursion that is meant: how many may stand inside of one another."
    )


class WorkflowWait(Spec):
    """What the run waits for, without a process that has it: exactly one of a signal, a review, a time."""

    signal: StepName | None = Field(default=None, description="The output is its payload.")
    review: str | None = Field(
        default=None, min_length=1, max_length=2_000, description="What a person is asked, with references."
    )
    value: Any = Field(default=None, description="Of a review: what is looked at, and may be edited.")
    json_schema: dict[str, Any] | None = Field(
        default=None, alias="schema", description="What the payload, or the reviewed value, must fit."
    )
    within_s: float | None = Field(
        default=None, gt=0, le=2_592_000, description="How long a signal is waited for; without it a week."
    )
    seconds: float | str | None = Field(default=None, description="How long, from when the run first comes here.")
    until: float | str | None = Field(default=None, description="Unix time in seconds, or as 2026-11-21T18:00:00Z.")


class WorkflowAction(Spec):
    """What a step does: exactly one of these."""

    orchestration: WorkflowOrchestration | None = None
    tool: WorkflowTool | None = None
    transform: WorkflowTransform | None = None
    workflow: WorkflowCall | None = None
    switch: WorkflowSwitch | None = None
    map: WorkflowMap | None = None
    wait: WorkflowWait | None = None


class WorkflowCase(WorkflowAction):
    """A case of a switch: what is done where its condition is the first that holds."""

    when: Expression


class WorkflowSwitch(Spec):
    """The first case whose condition holds, else the default, else nothing."""

    cases: tuple[WorkflowCase, ...] = Field(min_length=1, max_length=32)
    default: WorkflowAction | None = None


class WorkflowMap(Spec):
    """One action for each item of a list; `${item}` and `${index}` are the item and its place, from 0."""

    over: Any = Field(description="A reference to a list, or a list.")
    do: WorkflowAction
    concurrency: int = Field(default=4, ge=1, le=64)
    max_items: int = Field(default=1_000, ge=1, le=10_000)
    on_error: Literal["fail", "continue"] = Field(
        default="fail", description="`continue`: the output of an item that fails is null."
    )


class StepRetry(Spec):
    """How often a failed step is tried again. Waits are in seconds, random up to wait_s times 2 to the power of the try."""

    times: int = Field(default=2, ge=1, le=10)
    wait_s: float = Field(default=0.5, ge=0, le=60)
    on: tuple[str, ...] = Field(default=(), description="Error codes, as tool_timeout; without them every one that may pass.")


class StepBudget(Spec):
    """The most that a step may use."""

    share: float | None = Field(default=None, gt=0, le=1, description="Of the budget that the run was asked with.")
    tokens: int | None = Field(default=None, ge=1)
    cost_usd: float | None = Field(default=None, gt=0, le=1_000_000)


class StepCompensation(Spec):
    """What is done about a step's own failure, after its retries."""

    do: Literal["retry", "replace", "continue", "fail"] = "fail"
    times: int = Field(default=1, ge=1, le=10, description="For retry: how often, after `action` was done.")
    value: Any = Field(default=None, description="For replace: the output in the place of the step's.")
    action: WorkflowAction | None = Field(
        default=None, description="For replace: what makes the output. For retry: what is done before each try."
    )


class WorkflowStep(WorkflowAction):
    """A step. It begins when those are over that it refers to."""

    description: str | None = Field(default=None, max_length=500)
    after: tuple[StepName, ...] = Field(default=(), description="Steps that must be over besides those that it refers to.")
    when: Expression | None = Field(default=None, description="A condition, without which the step is skipped.")
    retry: StepRetry | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=86_400, description="For each try.")
    budget: StepBudget | None = None
    pool: StepName | None = None
    compensate: StepCompensation | None = None
    undo: WorkflowAction | None = Field(
        default=None, description="Done when a later failure ends the run, in reverse order of the steps."
    )


class WorkflowAsTool(Spec):
    """A workflow that models may call: its inputs are the arguments, what it returns is the result."""

    description: str = Field(min_length=1, max_length=2_000)
    side_effect: Literal["read", "write"] = Field(
        default="write", description="`read` where no step changes anything: then it may be called again."
    )
    timeout_s: float = Field(default=120.0, gt=0, le=3_600)
    scopes: tuple[str, ...] = ()
    max_result_bytes: int = Field(default=100_000, ge=1_000, le=1_000_000)


class WorkflowConfig(Spec):
    """A workflow: inputs, steps, and what it returns."""

    description: str | None = Field(default=None, max_length=2_000)
    inputs: dict[StepName, dict[str, Any]] = Field(
        default_factory=dict, description="JSON schemas. One with a `default` may be left out."
    )
    steps: dict[StepName, WorkflowStep] = Field(min_length=1, max_length=MAX_STEPS)
    returns: Any = Field(default=None, description="A value with references; without it the outputs of the last steps.")
    pools: dict[StepName, Annotated[int, Field(ge=1, le=1_000)]] = Field(
        default_factory=dict, description="How many steps of a pool may be under way at once in a run."
    )
    middleware: tuple[Name, ...] = Field(default=(), description="What sees every step: `log`, or one that a package brings.")
    as_tool: WorkflowAsTool | None = None


class WorkflowsConfig(Spec):
    """Bounds of workflows that are stored at run time, and of runs."""

    max_stored: int = Field(default=500, ge=0, le=10_000, description="Workflows that a tenant may store.")
    max_versions: int = Field(default=20, ge=1, le=100, description="Versions that are kept of each.")
    max_bytes: int = Field(default=100_000, ge=1_000, le=1_000_000, description="The size of a definition, as JSON.")
    max_total_bytes: int = Field(
        default=10_000_000,
        ge=1_000,
        le=1_000_000_000,
        description="All versions that a tenant stores, as JSON.",
    )
    max_steps: int = Field(
        default=10_000, ge=1, le=1_000_000, description="Steps of a run, those of maps and workflows inside of it included."
    )
    max_result_bytes: int = Field(default=1_000_000, ge=1_000, le=16_000_000, description="The output of a step, as JSON.")


DEFINING: Final = (
    WorkflowAction,
    WorkflowAsTool,
    WorkflowCall,
    WorkflowCase,
    WorkflowConfig,
    WorkflowMap,
    WorkflowOrchestration,
    WorkflowStep,
    WorkflowSwitch,
    WorkflowTool,
    WorkflowTransform,
    WorkflowWait,
    StepBudget,
    StepCompensation,
    StepGeneration,
    StepRetry,
)
"""All that a definition is made of. No environment variables are filled in there."""

for _model in DEFINING:
    _model.model_rebuild()
