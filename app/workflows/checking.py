"""Whether a definition can run: every fault with its place, before anything runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from app.config.document import Fault
from app.config.explaining import close_to, listed
from app.config.workflows import WorkflowAction, WorkflowConfig, WorkflowStep, WorkflowTool
from app.core.chat import JsonObject
from app.core.errors import InvalidRequest
from app.core.json_schemas import compiled as compiled_schema
from app.workflows import graph
from app.workflows.action_checks import ActionCheck, schema_of_inputs, without_default
from app.workflows.binding import bound_condition
from app.workflows.graph import KINDS, Place, kind_of
from app.workflows.known import Known
from app.workflows.references import in_value
from app.workflows.scope import Scope, reference_fault
from app.workflows.types import misfit


def faults_of_all(workflows: Mapping[str, WorkflowConfig], known: Known) -> list[Fault]:
    """All faults of `workflows`, which are among those that `known` knows; places begin with the workflow's name."""
    found = [
        Fault((name, *fault.path), fault.message) for name, config in workflows.items() for fault in faults_of(config, known)
    ]
    return found + list(_circles(workflows, known))


def faults_of(config: WorkflowConfig, known: Known) -> list[Fault]:
    """All faults of one workflow but for circles of workflows."""
    found = [*_inputs(config)]
    shapes = [*_shapes(config)]
    found += shapes
    if shapes:  # what follows reads the actions as what they are
        return found
    needed: dict[str, tuple[str, ...]] = {}
    scope = Scope(config, known)
    for name, step in config.steps.items():
        try:
            needed[name] = graph.needs(step)
        except InvalidRequest:
            needed[name] = ()
        found += _step(name, step, config, scope)
    around = graph.cycle({name: tuple(one for one in of if one in config.steps) for name, of in needed.items()})
    if around:
        said = " -> ".join(around)
        found.append(Fault(("steps", around[0]), f"waits for itself: {said}; each refers to the next"))
    else:
        found += _undoing(config, needed)
    found += _value(config.returns, ("returns",), scope)
    found += _as_tool(config, known)
    for place, name in ((("middleware", number), name) for number, name in enumerate(config.middleware)):
        if name not in known.middleware:
            found.append(Fault(place, f"{name!r} is no middleware; there are {listed(known.middleware) or 'none'}"))
    return found


def _inputs(config: WorkflowConfig) -> Iterator[Fault]:
    for name, schema in config.inputs.items():
        try:
            checked = compiled_schema(without_default(schema))
        except InvalidRequest as error:
            yield Fault(("inputs", name), error.message)
            continue
        if "default" in schema and (wrong := checked.fault(schema["default"])) is not None:
            yield Fault(("inputs", name, "default"), f"does not fit the schema: {wrong}")


def _shapes(config: WorkflowConfig) -> Iterator[Fault]:
    for name, step in config.steps.items():
        for place, action in graph.actions_of(step, ("steps", name)):
            if kind_of(action) is None:
                given = [kind for kind in KINDS if getattr(action, kind) is not None]
                what = f"has {listed(given)}; one of them" if given else f"does nothing; one of {listed(KINDS)}"
                yield Fault(place, f"{what} is what a step does")
            yield from _nesting(place, action)
            if action.wait is not None and place[2:3] in (("undo",), ("compensate",)):
                yield Fault((*place, "wait"), "is not there to wait: what puts a failure right is done at once")
        if step.undo is not None and kind_of(step.undo) in ("transform", "switch", "map", "wait"):
            yield Fault(("steps", name, "undo"), "is to change something: a tool, an orchestration or a workflow does")


def _nesting(place: Place, action: WorkflowAction) -> Iterator[Fault]:
    inner = place[2:]  # "undo" and the like are names of steps too, but not there
    if action.map is not None and "map" in inner:
        yield Fault((*place, "map"), "is inside of another map; make the inner one a workflow of its own")
    if action.switch is not None and "switch" in inner:
        yield Fault((*place, "switch"), "is inside of another switch; give that one more cases, or make this one a workflow")


def _step(name: str, step: WorkflowStep, config: WorkflowConfig, scope: Scope) -> Iterator[Fault]:
    place: Place = ("steps", name)
    for number, one in enumerate(step.after):
        if one not in config.steps:
            yield Fault((*place, "after", number), f"{one!r} is no step{_hint(one, config.steps)}")
    if step.when is not None:
        yield from condition_faults(step.when, (*place, "when"), scope)
    if step.pool is not None and step.pool not in config.pools:
        yield Fault((*place, "pool"), f"{step.pool!r} is no pool{_hint(step.pool, config.pools)}")
    if step.wait is not None:
        for member in ("retry", "timeout_s", "budget", "undo"):
            if member in step.model_fields_set:
                yield Fault((*place, member), "is not used where a step waits; leave it out")
    yield from _repeating(place, step, scope)
    yield from _compensation(place, step, scope)
    for inner, action in graph.actions_of(step, place):
        own = inner[2:]
        inside = scope.within_map(step, own) if "map" in own else scope
        yield from ActionCheck(inside).faults(action, inner)
        if action.switch is not None:
            for number, case in enumerate(action.switch.cases):
                yield from condition_faults(case.when, (*inner, "switch", "cases", number, "when"), inside)


def condition_faults(source: str, place: Place, scope: Scope) -> Iterator[Fault]:
    """The faults of a condition."""
    try:
        bound = bound_condition(source)
    except InvalidRequest as error:
        yield Fault(place, error.message)
        return
    for reference in bound.references.values():
        wrong = reference_fault(reference, scope)
        if wrong is not None:
            yield Fault(place, wrong)
            return
    only = next(iter(bound.references.values()), None)
    if only is not None and only.plain is not None and source.strip() == f"${{{only.text}}}":
        wrong = misfit(scope.schema(only.plain), {"type": "boolean"})
        if wrong is not None:
            yield Fault(place, f"${{{only.text}}} {wrong}")


def _value(value: Any, place: Place, scope: Scope) -> Iterator[Fault]:
    try:
        for inner, reference in in_value(value):
            wrong = reference_fault(reference, scope)
            if wrong is not None:
                yield Fault((*place, *inner), wrong)
    except InvalidRequest as error:
        yield Fault(place, error.message)


def _repeating(place: Place, step: WorkflowStep, scope: Scope) -> Iterator[Fault]:
    repeats = "retry" if step.retry is not None else None
    if step.compensate is not None and step.compensate.do == "retry":
        repeats = repeats or "compensate"
    if repeats is None:
        return
    for _, action in graph.parts(step):
        spec = scope.tool(action.tool.name) if action.tool is not None else None
        if spec is not None and action.tool is not None and spec.side_effect == "write" and not action.tool.idempotent:
            message = f"would call {spec.name!r} again, which writes; say `idempotent: true` there if that is harmless"
            yield Fault((*place, repeats), message)
        called = None if action.workflow is None else scope.known.workflow(action.workflow.name)
        if action.workflow is None or called is None:
            continue
        for inner, where, call in _writes(called, scope.known, {action.workflow.name}):
            if inner.undo is None and not call.idempotent:
                path = ".".join(map(str, (action.workflow.name, *where)))
                message = (
                    f"would call {call.name!r} again at {path}, which writes; give that an `undo`, or say `idempotent: true`"
                )
                yield Fault((*place, repeats), message)
                break


def _compensation(place: Place, step: WorkflowStep, scope: Scope) -> Iterator[Fault]:
    compensation = step.compensate
    if compensation is None:
        return
    where = (*place, "compensate")
    given = {member for member in ("value", "action", "times") if member in compensation.model_fields_set}
    uses = {"retry": {"times", "action"}, "replace": {"value", "action"}, "continue": set[str](), "fail": set[str]()}
    for member in sorted(given - uses[compensation.do]):
        yield Fault((*where, member), f"is not used where a failure is answered with {compensation.do!r}; leave it out")
    if compensation.do == "replace" and len(given & {"value", "action"}) != 1:
        yield Fault(where, "needs either 'value' or 'action', which makes the output in the place of the step's")
    yield from _value(compensation.value, (*where, "value"), scope)


def _as_tool(config: WorkflowConfig, known: Known) -> Iterator[Fault]:
    """A tool that says that it reads is called again, and offered where none may be that writes."""
    if config.as_tool is not None and config.as_tool.side_effect == "read":
        for _, place, call in _writes(config, known, set()):
            message = f"is `read`, and {'.'.join(map(str, place))} calls {call.name!r}, which writes; say `write`"
            yield Fault(("as_tool", "side_effect"), message)
            return


def _writes(config: WorkflowConfig, known: Known, seen: set[str]) -> Iterator[tuple[WorkflowStep, Place, WorkflowTool]]:
    """Every call of a tool that writes in a workflow and those inside of it, with its step."""
    for name, step in config.steps.items():
        for place, action in graph.actions_of(step, ("steps", name)):
            spec = known.tool(action.tool.name) if action.tool is not None and known.tool is not None else None
            if action.tool is not None and spec is not None and spec.side_effect == "write":
                yield step, place, action.tool
            called = None if action.workflow is None else known.workflow(action.workflow.name)
            if action.workflow is not None and called is not None and action.workflow.name not in seen:
                seen.add(action.workflow.name)
                for inner, where, call in _writes(called, known, seen):
                    yield inner, (*place, action.workflow.name, *where), call


def _undoing(config: WorkflowConfig, needed: Mapping[str, tuple[str, ...]]) -> Iterator[Fault]:
    """What an undo reads must be over whenever its step is."""
    for name, step in config.steps.items():
        if step.undo is None:
            continue
        before, waiting = {name}, [name]
        while waiting:
            new = [one for one in needed.get(waiting.pop(), ()) if one not in before]
            before.update(new)
            waiting += new
        for one in graph.undo_needs(step):
            if one in config.steps and one not in before:
                message = f"reads the step {one!r}, which may not be over when this one is undone; name it in `after`"
                yield Fault(("steps", name, "undo"), message)


def _hint(word: str, known: Mapping[str, Any]) -> str:
    return close_to(word, known) or (f"; there are {listed(known)}" if known else "; there are none")


def _circles(workflows: Mapping[str, WorkflowConfig], known: Known) -> Iterator[Fault]:
    """Workflows that would run inside of themselves without a bound."""
    leads = _Leads(workflows, known)
    told: set[frozenset[str]] = set()
    for name in workflows:
        around = graph.back_to(name, leads.of)
        if not around or frozenset(around) in told:
            continue
        told.add(frozenset(around))
        way = [(one, leads.places[one, to]) for one, to in pairwise(around)]
        said = " -> ".join(f"{one}.{'.'.join(map(str, place[:2]))}" for one, place in way)
        message = f"runs inside of itself: {said} -> {around[0]}; a recursion that is meant has a max_depth at one of them"
        yield Fault((way[0][0], *way[0][1]), message)


class _Leads:
    """Which workflows each one calls, found where that is asked: a tenant may have many."""

    def __init__(self, workflows: Mapping[str, WorkflowConfig], known: Known) -> None:
        self.places: dict[tuple[str, str], Place] = {}
        self._workflows, self._known = workflows, known
        self._found: dict[str, list[str]] = {}

    def of(self, name: str) -> list[str]:
        if name not in self._found:
            config = self._workflows.get(name) or self._known.workflow(name)
            called = [] if config is None else list(_called(config, self._known))
            self._found[name] = [to for _, to in called]
            for place, to in called:
                self.places.setdefault((name, to), place)
        return self._found[name]


def _called(config: WorkflowConfig, known: Known) -> Iterator[tuple[Place, str]]:
    """The workflows that `config` calls without a bound, as workflows or as tools."""
    for name, step in config.steps.items():
        for place, action in graph.actions_of(step, ("steps", name)):
            if action.workflow is not None and action.workflow.max_depth is None:
                yield (*place, "workflow"), known.called(action.workflow.name)
            if action.tool is not None:
                called = known.called_by_tool(action.tool.name)
                if called is not None:
                    yield (*place, "tool"), called


def inputs_fault(config: WorkflowConfig, inputs: JsonObject) -> tuple[Place, str] | None:
    """What is wrong with the inputs of a run, and where; None where they fit."""
    schema = compiled_schema(schema_of_inputs(config))
    found = schema.first_fault(inputs)
    return None if found is None else (found.path, found.message)


def with_defaults(config: WorkflowConfig, inputs: JsonObject) -> dict[str, Any]:
    """The inputs of a run with those that were left out."""
    defaults = {name: schema["default"] for name, schema in config.inputs.items() if "default" in schema}
    return {**defaults, **inputs}
