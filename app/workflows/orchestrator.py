"""The strategy `workflow`: the steps of a declared workflow, and what it returns as the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final

import orjson
from pydantic import Field

from app.config.workflows import WorkflowAction, WorkflowConfig
from app.core.budgets import NOTHING
from app.core.chat import JsonObject
from app.core.errors import InvalidRequest, QuorumError
from app.core.run_events import OutputDelta, PlanMade, RunEvent, RunFailed, RunFinished, Warning
from app.core.run_fold import total_usage
from app.core.runs import PlanDecision, RunRequest
from app.core.tools import ToolSpec
from app.orchestration.base import BaseOrchestrator, Foreseen, StrategyOptions
from app.orchestration.charging import foreseen
from app.orchestration.context import RunContext
from app.orchestration.engine import Engine
from app.orchestration.tools.offering import enclosing
from app.reliability.forecast import PlannedCall
from app.reliability.purse import booked
from app.workflows.acting import Acting, request_of
from app.workflows.action_checks import AS_ORCHESTRATION
from app.workflows.checking import inputs_fault, with_defaults
from app.workflows.execution import Execution
from app.workflows.failing import CANCELLED, UNCERTAIN, StepFailed, StepWaits
from app.workflows.forecasting import Forecasting
from app.workflows.graph import actions_of
from app.workflows.halting import Halting
from app.workflows.journal import Journal, lines_of
from app.workflows.levels import Level
from app.workflows.library import Found, Library
from app.workflows.pinning import Pins, taken_from
from app.workflows.running import Running

TEXT_INPUT: Final = "input"
"""An input of this name is the text of the request, where nothing else is given for it."""


class WorkflowOptions(StrategyOptions):
    """Which workflow, and what it is given."""

    workflow: str = Field(min_length=1, max_length=80, description="`article`, or `article@2`.")
    inputs: dict[str, Any] = Field(
        default_factory=dict, description="By name. One that is called `input` is the request's text where it is left out."
    )


@dataclass(frozen=True, slots=True)
class _Settled:
    """What a run does: the workflow, with its inputs."""

    found: Found
    inputs: dict[str, Any]

    def now(self) -> Found:
        return self.found


@dataclass(frozen=True, slots=True)
class _Unsettled:
    """A run that could not begin now. One that was begun before goes on with the definition of then."""

    fault: InvalidRequest

    def now(self) -> Found:
        raise self.fault


class WorkflowOrchestrator(BaseOrchestrator):
    """Runs a declared workflow.

    Nobody knows before which steps it will take, so each call is reserved when it is made. `engine` and `library` are there
    once the service is put together; a workflow cannot be run before.
    """

    name: ClassVar[str] = "workflow"
    summary: ClassVar[str] = "Runs the steps of a declared workflow: orchestrations, tools, transforms, other workflows."
    Options: ClassVar[type[StrategyOptions]] = WorkflowOptions
    models_needed: ClassVar[int | None] = 0
    loops: ClassVar[bool] = True
    ends_itself: ClassVar[bool] = True
    keeps_steps: ClassVar[bool] = True

    engine: Engine | None = None
    library: Library | None = None

    def check(self, request: RunRequest, context: RunContext) -> None:
        if self.engine is None or self.library is None:
            raise InvalidRequest("workflows are not run here", param="strategy")
        options: WorkflowOptions = context.options
        if context.inside is not None and context.inside.is_step:
            raise InvalidRequest(AS_ORCHESTRATION, param="strategy")
        generation = request.generation
        if request.tools:
            raise InvalidRequest("a workflow takes no tools of the request; its steps name theirs", param="tools")
        if generation.n > 1 or generation.logprobs or generation.response_format is not None:
            raise InvalidRequest("a workflow gives one answer, of the shape that it returns", param="generation")
        try:
            context.settled = self._settled(self.library, request, options)
        except InvalidRequest as error:
            if not _goes_on(context):
                raise
            context.settled = _Unsettled(error)

    def _settled(self, library: Library, request: RunRequest, options: WorkflowOptions) -> _Settled:
        try:
            found = library.runnable(request.tenant, options.workflow)
        except InvalidRequest as error:
            error.param = "options.workflow"
            raise
        return _Settled(found, _inputs(found, options, request))

    def may_pause(self, context: RunContext) -> bool:
        """Where it has something reviewed, or a rule may ask for an approval and it calls a tool; or another workflow that
        may. So may one that goes on, whose definition may have been another."""
        if _goes_on(context):
            return True
        box, settled = context.toolbox, context.settled
        rules = box is not None and any(rule.effect == "approve" for rule in box.config.permissions)
        return any(
            (action.tool is not None and rules) or action.workflow is not None or _reviews(action)
            for name, step in settled.found.config.steps.items()
            for _, action in actions_of(step, ("steps", name))
        )

    def signals(self, context: RunContext) -> Mapping[str, Sequence[JsonObject]]:
        assert self.library is not None  # noqa: S101 - `check` has seen to it
        settled: _Settled | _Unsettled = context.settled
        if _goes_on(context) or isinstance(settled, _Unsettled):  # they were told when it was accepted
            return {}
        found: dict[str, list[JsonObject]] = {}
        waiting, seen = [settled.found.config], set[str]()
        while waiting:
            for name, step in waiting.pop().steps.items():
                for _, action in actions_of(step, ("steps", name)):
                    if action.wait is not None and action.wait.signal is not None:
                        found.setdefault(action.wait.signal, []).append(action.wait.json_schema or {})
                    if action.workflow is not None and action.workflow.name not in seen:
                        seen.add(action.workflow.name)
                        waiting.append(self.library.find(context.request.tenant, action.workflow.name).config)
        return found

    def began_with(self, context: RunContext) -> JsonObject:
        settled, options = context.settled, context.options
        return {"workflow": options.workflow, "inputs": settled.inputs if isinstance(settled, _Settled) else options.inputs}

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        settled: _Settled = context.settled
        found = settled.found
        return PlanDecision(
            self.name,
            _models(found.config),
            reason=f"the workflow {found.name!r}, version {found.version}",
            options={"workflow": found.name, "version": found.version, "inputs": settled.inputs},
        )

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        return ()

    def at_most(self, request: RunRequest, context: RunContext) -> Foreseen:
        engine, library = self.engine, self.library
        assert engine is not None and library is not None  # noqa: PT018, S101 - `check` has seen to it
        settled: _Settled = context.settled

        def ask(asked: JsonObject) -> tuple[tuple[PlannedCall, ...], bool]:
            wanted = request_of(engine, request, {**asked, "input": ""}, None)
            run = engine.begin_inside(wanted, replace(enclosing(context, lambda _: None), is_step=True))
            run.context.spending.default_max_tokens = context.spending.default_max_tokens
            found, _ = foreseen(run.strategy, run.request, run.context)
            form = run.request.generation.response_format
            return found.calls, form is not None and form.type != "text"

        def tool(name: str) -> ToolSpec | None:
            try:
                return context.toolbox.find(name).spec if context.toolbox is not None else None
            except QuorumError:
                return None

        found = settled.found
        forecasting = Forecasting(ask, lambda name: library.find(request.tenant, name).config, tool, library.limits)
        return forecasting.of(found.name, found.config, with_defaults(found.config, settled.inputs))

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        engine, library = self.engine, self.library
        assert engine is not None and library is not None  # noqa: PT018, S101 - `check` has seen to it
        settled: _Settled | _Unsettled = context.settled
        steps = context.hosting.steps
        lines = dict(await lines_of(steps)) if steps is not None and _goes_on(context) else {}
        pinned = taken_from(lines)
        journal = Journal(steps, lines)
        pins = Pins(journal, pinned, partial(library.find, request.tenant))
        found = await pins.first(settled.now)
        inputs = _inputs(found, context.options, request)
        context.settled = _Settled(found, inputs)
        yield PlanMade(self.plan(request, context))
        within = () if context.inside is None else context.inside.within
        halting = Halting(context, journal)
        acting = Acting(context, engine, journal, halting, within)

        running = Running(context, acting, halting, journal, pins.called, library.limits)
        execution = Execution(running)
        async for event in execution.told_again():
            yield event
        unsettled = execution.unsettled
        if context.spending.purse is not None and (unsettled.calls or unsettled.tools):
            context.spending.purse.book_apart(NOTHING, booked(total_usage(unsettled.calls), unsettled.cost_usd))
        level = Level(found.name, found.version, found.config, with_defaults(found.config, inputs))
        try:
            async with aclosing(execution.level(level)) as events:
                async for event in events:
                    yield event
        except StepFailed as failed:
            if failed.error.code == CANCELLED:
                yield RunFinished("cancelled", endings=())
                return
            if failed.error.code != UNCERTAIN:
                yield RunFailed(failed.error)
                return
            yield Warning(f"{failed.error.message}; nothing was undone, and a person must look at it")
            yield OutputDelta(0, "text", failed.error.message)
            yield RunFinished("needs_review", json={"step": level.failed_step, "error": failed.error.code})
            return
        except StepWaits:
            yield halting.paused()
            return
        output = level.output
        yield OutputDelta(0, "text", output if isinstance(output, str) else orjson.dumps(output).decode())
        yield RunFinished(json=None if isinstance(output, str) else output)


def _goes_on(context: RunContext) -> bool:
    """Whether the run may have begun before: in another process, or here before it paused."""
    return context.past.taken or context.past.before is not None


def _reviews(action: WorkflowAction) -> bool:
    return action.wait is not None and action.wait.review is not None


def _inputs(found: Found, options: WorkflowOptions, request: RunRequest) -> dict[str, Any]:
    inputs = dict(options.inputs)
    if TEXT_INPUT in found.config.inputs and TEXT_INPUT not in inputs:
        inputs[TEXT_INPUT] = _text(request)
    fault = inputs_fault(found.config, inputs)
    if fault is not None:
        where = ".".join(("options", "inputs", *map(str, fault[0])))
        raise InvalidRequest(f"{where}: {fault[1]} (workflow {found.name!r})", param=where)
    return inputs


def _text(request: RunRequest) -> str:
    """The user's last words."""
    return next((message.text for message in reversed(request.messages) if message.role == "user" and message.text), "")


def _models(config: WorkflowConfig) -> tuple[str, ...]:
    """The models that its steps name."""
    found: dict[str, None] = {}
    for name, step in config.steps.items():
        for _, action in actions_of(step, ("steps", name)):
            if action.orchestration is not None:
                found.update(dict.fromkeys(model for model in action.orchestration.models if "${" not in model))
    return tuple(found)
