"""Middleware sees every step, and disturbs none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import structlog
from structlog.testing import capture_logs

from app.core.errors import ErrorReport
from app.core.run_events import RunEvent, Warning
from app.workflows.middleware import Hooks, StepInfo, known_middleware

STEP = StepInfo("run_1", "article", "draft")


class Seen:
    """Keeps what it was told, and fails at every event."""

    told: ClassVar[list[Any]] = []

    def start(self, step: StepInfo) -> None:
        self.told.append(("start", step.step))

    def event(self, step: StepInfo, event: RunEvent) -> None:
        raise ValueError("no good")

    def error(self, step: StepInfo, error: ErrorReport) -> None:
        self.told.append(("error", error.code))

    def finish(self, step: StepInfo, result: Any) -> None:
        self.told.append(("finish", result["status"]))


@pytest.fixture(autouse=True)
def everything_is_logged() -> Iterator[None]:
    """Whatever a service in this process has configured before."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@pytest.fixture
def seen() -> Iterator[list[Any]]:
    known_middleware()["seen"] = Seen
    Seen.told.clear()
    yield Seen.told
    del known_middleware()["seen"]


def all_hooks(hooks: Hooks) -> None:
    hooks.start(STEP)
    hooks.event(STEP, Warning("w"))
    hooks.error(STEP, ErrorReport("X", "tool_failed", "m"))
    hooks.finish(STEP, {"status": "succeeded", "latency_ms": 1.5, "tries": 2})


def test_hooks_are_called_in_order_and_one_that_fails_is_only_logged(seen: list[Any]):
    with capture_logs() as lines:
        all_hooks(Hooks(["seen"]))
    assert seen == [("start", "draft"), ("error", "tool_failed"), ("finish", "succeeded")]
    assert [line["hook"] for line in lines] == ["event"]


def test_log_writes_a_line_for_each_step_without_what_it_gave():
    with capture_logs() as lines:
        all_hooks(Hooks(["log"]))
    assert [line["event"] for line in lines] == ["step begun", "step failed", "step ended"]
    assert lines[2]["ms"] == 1.5
    assert all("output" not in line for line in lines)
