"""How a step fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from app.core.errors import ErrorReport, QuorumError, report

UNCERTAIN: Final = "effect_uncertain"
UNANSWERABLE: Final = frozenset({UNCERTAIN, "owner_lost", "draining"})
"""Failures that are none of the step's, or that nobody knows enough of: no try and no compensation answers for them."""
CANCELLED: Final = "cancelled"
"""What a run is taken back with that was asked to end."""
_FINAL: Final = frozenset(
    {
        UNCERTAIN,
        CANCELLED,
        "invalid_request",
        "not_found",
        "forbidden",
        "tool_forbidden",
        "approval_needed",
        "budget_exceeded",
        "limit_exceeded",
        "capability_missing",
        "deadline_exceeded",
        "owner_lost",
        "draining",
    }
)
"""Failures that come again however often one tries."""


class StepFailed(Exception):
    """A step could not be done, for a reason that is told."""

    def __init__(self, error: ErrorReport | QuorumError) -> None:
        self.error = report(error) if isinstance(error, QuorumError) else error
        super().__init__(self.error.message)


class StepWaits(Exception):
    """A step waits for a person, and the run is to be paused; for what, stands in `Running.waits`."""


class LevelFailed(Exception):
    """A workflow has failed; which one and why stands in its `Level`."""


def may_pass(error: ErrorReport, wanted: tuple[str, ...]) -> bool:
    """Whether it makes sense to try again."""
    if error.code in UNANSWERABLE:
        return False
    return error.code in wanted if wanted else error.code not in _FINAL


def named(error: ErrorReport, step: str) -> ErrorReport:
    """`error` as the failure of a run whose step it was."""
    said = f"the step {step!r} failed: "
    return error if error.message.startswith("the step ") else replace(error, message=said + error.message, param=None)
