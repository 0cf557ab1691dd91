"""How often a step is tried."""

from __future__ import annotations

import random
from typing import Final

from app.config.workflows import StepRetry, WorkflowStep
from app.core.errors import ErrorReport
from app.workflows.failing import UNANSWERABLE, may_pass

LONGEST_HINT_S: Final = 3_600.0
"""The longest wait that a failure may ask for (`retry_after`): a step that would have to wait longer has failed."""


class Tries:
    """Which try of a step it is, from 1, and whether there is another one."""

    def __init__(self, step: WorkflowStep, number: int) -> None:
        self.number = number
        self.compensating = False
        self._retry = step.retry
        compensation = step.compensate
        self._again = compensation.times if compensation is not None and compensation.do == "retry" else 0

    def wait_s(self, error: ErrorReport, left_s: float) -> float | None:
        """How long to wait before the next one; None where there is none, or not in the `left_s` seconds that the run has."""
        retry: StepRetry | None = self._retry
        least_s = error.retry_after or 0.0
        if least_s > LONGEST_HINT_S or least_s >= left_s:
            return None
        if retry is not None and self.number <= retry.times and may_pass(error, retry.on):
            wait_s = max(least_s, random.uniform(0, retry.wait_s * 2 ** (self.number - 1)))  # noqa: S311 (waits, not secrets)
            if wait_s < left_s:
                self.number += 1
                return wait_s
        if left_s > 0 and self._again and error.code not in UNANSWERABLE:
            self._again -= 1
            self.compensating = True
            self.number += 1
            return least_s
        return None
