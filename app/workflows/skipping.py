"""Whether a step is skipped: its condition does not hold, or what it needs has no result."""

from __future__ import annotations

from typing import Final

from app.config.workflows import WorkflowStep
from app.core.conditions import Condition, Unanswerable
from app.workflows.binding import bound_condition
from app.workflows.doing import chosen
from app.workflows.graph import wanted
from app.workflows.levels import Values
from app.workflows.outcome import Outcome
from app.workflows.references import NOTHING, Reference, at

LEFT: Final = ("skipped", "failed")
"""How a step ends that leaves no result."""


async def why_not(step: WorkflowStep, values: Values) -> str | None:
    """Why `step` is skipped; None where it is done.

    Raises:
        Unanswerable: its condition cannot be decided.
    """
    if step.when is not None:
        bound = bound_condition(step.when)
        assert isinstance(bound.compiled, Condition)  # noqa: S101 - which conditions are
        if not await bound.compiled.holds(bound.values(values.find)):
            return "its condition does not hold"
    for reference in (*wanted(step), *await _wanted_by_case(step, values)):
        for path in reference.paths:
            if path[0] != "steps" or len(path) < 2:
                continue
            result = values.level.results.get(str(path[1]), {})
            if result.get("status") in LEFT and at(result, path[2:]) in (None, NOTHING):
                return f"{path[1]!r}, which it needs, has no result ({result['status']})"
    return None


async def _wanted_by_case(step: WorkflowStep, values: Values) -> tuple[Reference, ...]:
    """What the case of a switch wants that will be done."""
    if step.switch is None:
        return ()
    try:
        case = await chosen(step, values, Outcome())
    except Unanswerable:  # which is a failure of the step, and may be answered for
        return ()
    return () if case is None else wanted(case)
