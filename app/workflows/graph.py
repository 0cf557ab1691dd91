"""What depends on what: of steps in a workflow, and of workflows on one another. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from app.config.workflows import WorkflowAction, WorkflowCall, WorkflowConfig, WorkflowStep
from app.workflows.binding import bound_condition, bound_expression
from app.workflows.references import Path, Reference, in_value

Place = tuple[str | int, ...]
KINDS: Final = ("orchestration", "tool", "transform", "workflow", "switch", "map", "wait")


def kind_of(action: WorkflowAction) -> str | None:
    """What an action is; None where it is nothing, or several things."""
    kinds = [kind for kind in KINDS if getattr(action, kind) is not None]
    return kinds[0] if len(kinds) == 1 else None


def parts(action: WorkflowAction, place: Place = ()) -> Iterator[tuple[Place, WorkflowAction]]:
    """`action` and those inside of it, each with its place."""
    yield place, action
    if action.switch is not None:
        for number, case in enumerate(action.switch.cases):
            yield from parts(case, (*place, "switch", "cases", number))
        if action.switch.default is not None:
            yield from parts(action.switch.default, (*place, "switch", "default"))
    if action.map is not None:
        yield from parts(action.map.do, (*place, "map", "do"))


def values_of(action: WorkflowAction) -> Iterator[tuple[Place, Any]]:
    """What of `action` itself may hold references in its texts, with its place; expressions are none of it."""
    if action.orchestration is not None:
        for member in ("input", "strategy", "recipe", "models", "lead_model", "options"):
            yield ("orchestration", member), getattr(action.orchestration, member)
    if action.tool is not None:
        yield ("tool", "arguments"), action.tool.arguments
    if action.transform is not None:
        yield ("transform", "value"), action.transform.value
    if action.workflow is not None:
        yield ("workflow", "inputs"), action.workflow.inputs
    if action.map is not None:
        yield ("map", "over"), action.map.over
    if action.wait is not None:
        for member in ("review", "value", "seconds", "until"):
            yield ("wait", member), getattr(action.wait, member)


def read_by(action: WorkflowAction) -> Iterator[tuple[Place, Reference]]:
    """Every reference of `action` itself, without the actions inside of it, with its place.

    Raises:
        InvalidRequest: one is none, or an expression cannot be compiled.
    """
    for place, value in values_of(action):
        yield from in_value(value, place)
    if action.transform is not None and action.transform.expression is not None:
        yield from in_expression(action.transform.expression, ("transform", "expression"))
    if action.switch is not None:
        for number, case in enumerate(action.switch.cases):
            yield from in_condition(case.when, ("switch", "cases", number, "when"))


def in_expression(source: str, place: Place) -> Iterator[tuple[Place, Reference]]:
    for reference in bound_expression(source).references.values():
        yield place, reference


def in_condition(source: str, place: Place) -> Iterator[tuple[Place, Reference]]:
    for reference in bound_condition(source).references.values():
        yield place, reference


def all_read_by(action: WorkflowAction, place: Place = ()) -> Iterator[tuple[Place, Reference]]:
    """As `read_by`, with the actions inside of it."""
    for inner, part in parts(action, place):
        for where, reference in read_by(part):
            yield (*inner, *where), reference


def _steps_in(references: Iterator[tuple[Place, Reference]]) -> dict[str, None]:
    found: dict[str, None] = {}
    for _, reference in references:
        for path in reference.paths:
            if path[0] == "steps" and len(path) > 1:
                found[str(path[1])] = None
    return found


def needs(step: WorkflowStep) -> tuple[str, ...]:
    """The steps that must be over before `step` begins: those that it reads, and those that it names."""
    found = _steps_in(all_read_by(step))
    if step.when is not None:
        found |= _steps_in(in_condition(step.when, ("when",)))
    if step.compensate is not None and step.compensate.action is not None:
        found |= _steps_in(all_read_by(step.compensate.action))
    if step.compensate is not None:
        found |= _steps_in(in_value(step.compensate.value))
    return tuple(found | dict.fromkeys(step.after))


def wanted(action: WorkflowAction) -> tuple[Reference, ...]:
    """What `action` cannot do without: its references that nothing else stands in for, without those of a switch's cases, of
    which one is done at most."""
    inner = iter(()) if action.map is None else all_read_by(action.map.do)
    return tuple(reference for _, reference in (*read_by(action), *inner) if reference.plain is not None)


def undo_needs(step: WorkflowStep) -> tuple[str, ...]:
    """The steps that its `undo` reads."""
    return () if step.undo is None else tuple(_steps_in(all_read_by(step.undo)))


def order(needed: Mapping[str, Sequence[str]]) -> list[str] | None:
    """The names so that each stands after those that it needs; None where there is a cycle. Unknown ones are left out."""
    waiting = {name: {one for one in of if one in needed} for name, of in needed.items()}
    found: list[str] = []
    while waiting:
        ready = [name for name, of in waiting.items() if not of]
        if not ready:
            return None
        found += ready
        for name in ready:
            del waiting[name]
        for of in waiting.values():
            of.difference_update(ready)
    return found


def cycle(needed: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The steps of one of the shortest cycles, ending as it begins; empty where there is none."""
    shortest: tuple[str, ...] = ()
    for start in needed:
        found = back_to(start, lambda name: needed.get(name, ()))
        if found and (not shortest or len(found) < len(shortest)):
            shortest = found
    return shortest


def back_to(start: str, leads: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """The shortest way from `start` back to it, by where each name leads; empty where there is none."""
    before: dict[str, str] = {}
    waiting = [start]
    for name in waiting:
        for following in leads(name):
            if following == start:
                way = [start, name]
                while way[-1] != start:
                    way.append(before[way[-1]])
                return tuple(reversed(way)) if name != start else (start, start)
            if following not in before:
                before[following] = name
                waiting.append(following)
    return ()


def calls(config: WorkflowConfig) -> Iterator[tuple[Place, WorkflowCall]]:
    """Every call of a workflow in `config`, with its place."""
    for name, step in config.steps.items():
        for place, action in actions_of(step, ("steps", name)):
            if action.workflow is not None:
                yield place, action.workflow


def actions_of(step: WorkflowStep, place: Place) -> Iterator[tuple[Place, WorkflowAction]]:
    """Every action of a step: its own, what compensates it and what undoes it, with those inside of them."""
    yield from parts(step, place)
    if step.compensate is not None and step.compensate.action is not None:
        yield from parts(step.compensate.action, (*place, "compensate", "action"))
    if step.undo is not None:
        yield from parts(step.undo, (*place, "undo"))


def leaves(config: WorkflowConfig) -> tuple[str, ...]:
    """The steps that no other step needs."""
    needed = {one for step in config.steps.values() for one in needs(step)}
    return tuple(name for name in config.steps if name not in needed)


def path_text(path: Path) -> str:
    """A path as it is written."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def default_returns(config: WorkflowConfig) -> dict[str, Any]:
    """What a workflow returns that does not say: the outputs of its last steps."""
    return {name: f"${{steps.{name}.output ?? null}}" for name in leaves(config)}
