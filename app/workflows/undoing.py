"""What takes steps back that were done, or whose items were, as it is written down when they are over."""

from __future__ import annotations

from dataclasses import replace

from app.config.workflows import WorkflowStep
from app.core.chat import JsonObject
from app.core.errors import OrchestratorError, report
from app.workflows.doing import ready_of
from app.workflows.failing import StepFailed
from app.workflows.journal import Journal
from app.workflows.levels import Values


def undo_of(step: WorkflowStep, name: str, values: Values, result: JsonObject) -> JsonObject | None:
    """What takes back `step`, called `name`, which is over with `result`; None where nothing does.

    Raises:
        StepFailed: it is too large.
    """
    if step.undo is None:
        return None
    try:
        ready = ready_of(step.undo, values.with_result(name, result), missing=None)
    except OrchestratorError as error:
        raise StepFailed(replace(report(error), message=f"undo: {error.message}")) from None
    return {**ready, "timeout_s": step.timeout_s}


def undo_of_items(step: WorkflowStep, name: str, values: Values, journal: Journal) -> JsonObject | None:
    """What takes back the items of the map `step` that were done, where it came to no end itself; None where none was.

    To it the output is theirs, with null for the others.

    Raises:
        StepFailed: it is too large.
    """
    done = {} if step.undo is None else journal.items(values.level.path + name)
    if not done:
        return None
    outputs = [done.get(place) for place in range(max(done) + 1)]
    return undo_of(step, name, values, {"status": "failed", "output": outputs})
