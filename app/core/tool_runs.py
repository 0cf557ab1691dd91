"""What became of a call of a tool of the service in a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from app.core.chat import JsonObject
from app.core.errors import ErrorReport
from app.core.tools import SideEffect

ToolRunStatus = Literal["running", "succeeded", "failed", "invalid", "refused", "repeated", "cancelled", "needs_approval"]
"""`invalid`: the arguments do not fit, or there is no such tool. `refused`: no permission. `repeated`: asked for twice in a
row. Those three were not run, nor was what still waits for a person (`needs_approval`)."""


@dataclass(frozen=True, slots=True)
class ToolRun:
    """One call of a tool of the service, as a model asked for it in its `step`, and what came of it.

    `candidate_id` is the candidate that asked for it; of several that asked for the same, the one for which it was made.
    `arguments` is the JSON text as the model wrote it. `version` and `side_effect` are None where there is no such tool.
    `started_at` is Unix time in seconds, 0 where it was not run. `edited` are arguments that a person put in place of these.
    """

    id: str
    step: int
    name: str
    arguments: str
    version: str | None = None
    side_effect: SideEffect | None = None
    status: ToolRunStatus = "running"
    result: Any = None
    error: ErrorReport | None = None
    truncated: bool = False
    started_at: float = 0.0
    latency_ms: float = 0.0
    cost_usd: float = 0.0
    candidate_id: str | None = None
    edited: JsonObject | None = None

    @property
    def uncertain(self) -> bool:
        """Whether a process that died had begun it, so that nobody knows its effect."""
        return self.error is not None and self.error.code == "effect_uncertain"

    @property
    def may_have_written(self) -> bool:
        """Whether it may have changed the world: it writes, and was run, here or by a process that died."""
        return self.side_effect == "write" and (self.started_at > 0 or self.uncertain)
