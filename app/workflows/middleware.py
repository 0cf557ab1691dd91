"""What sees every step: hooks for its start, what happens in it, its failures and its end.

A hook must not wait. One that raises is logged, and disturbs nothing. Packages bring others by the entry-point group
`quorum.step_middleware`: a class without arguments whose instances have the four hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

import structlog

from app.core.chat import JsonObject
from app.core.errors import ConfigError, ErrorReport
from app.core.run_events import RunEvent

ENTRY_POINT_GROUP: Final = "quorum.step_middleware"


@dataclass(frozen=True, slots=True)
class StepInfo:
    """Which step: of which workflow, at which path in which run."""

    run_id: str
    workflow: str
    step: str


class StepMiddleware(Protocol):
    """The hooks. `error` is called for each try that fails; `finish` once, also where the step has failed for good."""

    def start(self, step: StepInfo) -> None: ...

    def event(self, step: StepInfo, event: RunEvent) -> None: ...

    def error(self, step: StepInfo, error: ErrorReport) -> None: ...

    def finish(self, step: StepInfo, result: JsonObject) -> None: ...


class LogSteps:
    """Writes a line for each step that begins, fails or ends, without what it was given or gave."""

    def __init__(self) -> None:
        self._log = structlog.get_logger("quorum.workflow")

    def start(self, step: StepInfo) -> None:
        self._log.info("step begun", run_id=step.run_id, workflow=step.workflow, step=step.step)

    def event(self, step: StepInfo, event: RunEvent) -> None:
        """Events are not logged one by one."""

    def error(self, step: StepInfo, error: ErrorReport) -> None:
        self._log.warning("step failed", run_id=step.run_id, workflow=step.workflow, step=step.step, error=error.code)

    def finish(self, step: StepInfo, result: JsonObject) -> None:
        self._log.info(
            "step ended",
            run_id=step.run_id,
            workflow=step.workflow,
            step=step.step,
            status=result.get("status"),
            ms=result.get("latency_ms"),
            tries=result.get("tries"),
        )


@lru_cache(maxsize=1)
def known_middleware() -> dict[str, Callable[[], StepMiddleware]]:
    """What definitions may name.

    Raises:
        ConfigError: two packages bring one name.
    """
    found: dict[str, Callable[[], StepMiddleware]] = {"log": LogSteps}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in found:
            raise ConfigError(f"two entry points of {ENTRY_POINT_GROUP} are named {entry.name!r}")
        found[entry.name] = entry.load()
    return found


class Hooks:
    """The middleware of one workflow, as one."""

    def __init__(self, names: Sequence[str]) -> None:
        self._all = [known_middleware()[name]() for name in names]
        self._log = structlog.get_logger("quorum.workflow")

    def start(self, step: StepInfo) -> None:
        self._call("start", step)

    def event(self, step: StepInfo, event: RunEvent) -> None:
        if self._all:
            self._call("event", step, event)

    def error(self, step: StepInfo, error: ErrorReport) -> None:
        self._call("error", step, error)

    def finish(self, step: StepInfo, result: JsonObject) -> None:
        self._call("finish", step, result)

    def _call(self, hook: str, *about: Any) -> None:
        for one in self._all:
            try:
                getattr(one, hook)(*about)
            except Exception:  # the boundary: others' code
                self._log.exception("a step's middleware failed", middleware=type(one).__name__, hook=hook)
