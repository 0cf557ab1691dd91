"""A run as it happens: its events, each with the `type` it has on the wire. `run_fold` makes the result of them.

A strategy yields these; the engine adds `RunStarted`, completes the last one and numbers them. Exactly one `RunFinished` or
`RunFailed` ends a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal

from app.core.approvals import Approval
from app.core.chat import FinishReason, JsonObject
from app.core.errors import ErrorReport
from app.core.runs import (
    Analysis,
    Candidate,
    Consensus,
    EvidenceBundle,
    HelperCall,
    OrchestrationOutput,
    PathLink,
    PlanDecision,
    RunStatus,
    Timing,
)
from app.core.tool_runs import ToolRun
from app.core.tools import SideEffect
from app.core.values import value

DeltaKind = Literal["text", "reasoning", "refusal", "tool_call"]
EvidencePhase = Literal["bundle_started", "replicate_done", "partial_summary", "bundle_ready"]


@value
class RunStarted:
    type: ClassVar[str] = "run.started"
    strategy: str
    recipe: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    request_id: str = ""
    trace_id: str | None = None
    created_at: int = 0
    conversation_id: str | None = None


@value
class PlanMade:
    type: ClassVar[str] = "plan.made"
    plan: PlanDecision


@value
class CandidateStarted:
    type: ClassVar[str] = "candidate.started"
    candidate_id: str
    model: str
    provider: str
    replicate: int = 0
    layer: int = 1


@value
class CandidateDelta:
    type: ClassVar[str] = "candidate.delta"
    candidate_id: str
    model: str
    choice: int
    kind: DeltaKind
    text: str


@value
class CandidateFinished:
    type: ClassVar[str] = "candidate.finished"
    candidate: Candidate


@value
class CandidateFailed:
    """Failed or cancelled, as `candidate.status` says."""

    type: ClassVar[str] = "candidate.failed"
    candidate: Candidate


@value
class CandidateScored:
    """A score given after the candidate had finished."""

    type: ClassVar[str] = "candidate.scored"
    candidate_id: str
    score: float


@value
class HelperFinished:
    """A helper call is over, well or not."""

    type: ClassVar[str] = "call.finished"
    call: HelperCall


@value
class LinkPassed:
    """A chain is through with one of its links: it answered, handed over, failed the run, or was skipped."""

    type: ClassVar[str] = "link.passed"
    link: PathLink


@value
class AnalysisFinished:
    type: ClassVar[str] = "analysis.finished"
    analysis: Analysis


@value
class EvidenceUpdated:
    """Evidence as it grows. That of a bundle tool names its `call_id`: it is not the run's own, and the call returns the last
    of it."""

    type: ClassVar[str] = "evidence.updated"
    phase: EvidencePhase
    evidence: EvidenceBundle
    consensus: Consensus | None = None
    call_id: str | None = None


@value
class ToolCalled:
    """A model has asked for a tool of the service; `arguments` is JSON text as it wrote it."""

    type: ClassVar[str] = "tool.called"
    call_id: str
    step: int
    name: str
    arguments: str
    version: str | None = None
    side_effect: SideEffect | None = None
    candidate_id: str | None = None


@value
class ToolReturned:
    """A call of a tool is over, well or not, or was not made, as `call.status` says."""

    type: ClassVar[str] = "tool.returned"
    call: ToolRun


@value
class ApprovalRequested:
    """A call of a tool waits for a person."""

    type: ClassVar[str] = "approval.requested"
    approval: Approval


@value
class ApprovalDecided:
    """What became of it, as the run has found it."""

    type: ClassVar[str] = "approval.decided"
    approval: Approval


@value
class StepStarted:
    type: ClassVar[str] = "step.started"
    step: str


@value
class StepFinished:
    type: ClassVar[str] = "step.finished"
    step: str
    result: JsonObject


@value
class StepSkipped:
    type: ClassVar[str] = "step.skipped"
    step: str
    reason: str


@value
class StepCompensated:
    type: ClassVar[str] = "step.compensated"
    step: str
    action: str


@value
class OutputDelta:
    """A piece of the answer. For `tool_call`, `text` is a piece of the arguments and `tool_call` says whose."""

    type: ClassVar[str] = "output.delta"
    choice: int
    kind: DeltaKind
    text: str
    tool_call: ToolCallHead | None = None
    logprobs: JsonObject | None = None


@value
class ToolCallHead:
    """Which tool call a piece belongs to; `id` and `name` come with its first piece."""

    index: int
    id: str | None = None
    name: str | None = None
    signature: str | None = None


@value
class OutputReset:
    """Forget the answer so far: it starts over.

    `aside` says that what was said may stand where it cannot be taken back: it was said before a tool was called.
    """

    type: ClassVar[str] = "output.reset"
    reason: str
    aside: bool = False


@value
class Warning:  # noqa: A001 - the contract's name for this event
    type: ClassVar[str] = "warning"
    message: str


@value
class RunPaused:
    """The run waits, and no process has it. It is not over: what follows comes into the same log.

    `approvals` are the ids of those that it waits for, until `expires_at` (Unix time in seconds).
    """

    type: ClassVar[str] = "run.paused"
    reason: str
    approvals: tuple[str, ...] = ()
    expires_at: float = 0.0
    status: RunStatus = "needs_approval"
    timing: Timing = Timing()


@value
class RunResumed:
    type: ClassVar[str] = "run.resumed"
    reason: str


@value
class RunRestarted:
    """Folds start over; finished candidates are kept."""

    type: ClassVar[str] = "run.restarted"
    epoch: int


@value
class Ending:
    """How one choice of the answer ended."""

    choice: int = 0
    finish_reason: FinishReason = "stop"
    native_finish_reason: str | None = None


@value
class RunFinished:
    """The run is over and has an answer. A strategy says where it came from; the engine adds `timing` and `result`."""

    type: ClassVar[str] = "run.finished"
    status: RunStatus = "succeeded"
    source_model: str | None = None
    is_synthesized: bool = False
    endings: tuple[Ending, ...] = (Ending(),)
    json: Any = None
    timing: Timing = Timing()
    result: OrchestrationOutput | None = None


@value
class RunFailed:
    type: ClassVar[str] = "run.failed"
    error: ErrorReport
    status: RunStatus = "failed"
    timing: Timing = Timing()
    result: OrchestrationOutput | None = None


RunEvent = (
    RunStarted
    | PlanMade
    | CandidateStarted
    | CandidateDelta
    | CandidateFinished
    | CandidateFailed
    | CandidateScored
    | HelperFinished
    | LinkPassed
    | AnalysisFinished
    | EvidenceUpdated
    | ToolCalled
    | ToolReturned
    | ApprovalRequested
    | ApprovalDecided
    | StepStarted
    | StepFinished
    | StepSkipped
    | StepCompensated
    | OutputDelta
    | OutputReset
    | Warning
    | RunPaused
    | RunResumed
    | RunRestarted
    | RunFinished
    | RunFailed
)
