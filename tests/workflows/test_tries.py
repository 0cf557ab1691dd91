"""What a step's failure comes to, try by try."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest

from app.config.workflows import WorkflowStep
from app.core.errors import ErrorReport
from app.workflows.tries import Tries

STEP = WorkflowStep.model_validate(
    {"transform": {"value": 1}, "retry": {"times": 1, "wait_s": 0}, "compensate": {"do": "retry", "times": 1}}
)


def failure(code: str) -> ErrorReport:
    return ErrorReport("X", code, "m")


def test_retries_come_before_those_of_the_compensation():
    tries = Tries(STEP, 1)
    assert [(tries.wait_s(failure("tool_failed"), 9), tries.number, tries.compensating) for _ in range(3)] == [
        (0, 2, False),
        (0, 3, True),
        (None, 3, True),
    ]


@pytest.mark.parametrize("code", ["effect_uncertain", "owner_lost", "draining"])
def test_what_is_not_the_steps_own_failure_is_not_tried_again(code: str):
    assert Tries(STEP, 1).wait_s(failure(code), 9) is None


def test_a_failure_that_says_how_long_to_wait_is_heeded():
    tries = Tries(STEP, 1)
    later = replace(failure("tool_unavailable"), retry_after=7.0)
    assert [tries.wait_s(later, 9), tries.wait_s(later, 9)] == [7.0, 7.0]
    assert Tries(STEP, 1).wait_s(later, 6) is None
    assert Tries(STEP, 1).wait_s(replace(later, retry_after=4_000.0), inf) is None


def test_nothing_is_tried_again_when_the_time_is_over():
    assert Tries(STEP, 1).wait_s(failure("tool_failed"), -1) is None
