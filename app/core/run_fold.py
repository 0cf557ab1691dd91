"""From a run's events to its result and back: `RunFold` and `unfold`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from app.core.approvals import Approval
from app.core.chat import Choice
from app.core.model_events import (
    ReasoningDelta,
    RefusalDelta,
    ResponseBuilder,
    TextDelta,
    ToolCallDelta,
    deltas,
)
from app.core.run_events import (
    AnalysisFinished,
    ApprovalDecided,
    ApprovalRequested,
    CandidateDelta,
    CandidateFailed,
    CandidateFinished,
    CandidateScored,
    CandidateStarted,
    Ending,
    EvidenceUpdated,
    HelperFinished,
    LinkPassed,
    OutputDelta,
    OutputReset,
    PlanMade,
    RunEvent,
    RunFailed,
    RunFinished,
    RunPaused,
    RunRestarted,
    RunResumed,
    RunStarted,
    StepCompensated,
    StepFinished,
    StepSkipped,
    StepStarted,
    ToolCalled,
    ToolCallHead,
    ToolReturned,
    Warning,
)
from app.core.runs import (
    Analysis,
    Candidate,
    Consensus,
    EvidenceBundle,
    HelperCall,
    OrchestrationOutput,
    Output,
    PathLink,
    PlanDecision,
    RunStatus,
    Timing,
)
from app.core.tool_runs import ToolRun
from app.core.usage import NO_USAGE, Usage


def output_deltas(choice: Choice) -> Iterator[OutputDelta]:
    """A whole choice as the pieces of an answer."""
    for delta in deltas(choice):
        yield output_delta(delta)


def output_delta(delta: TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta) -> OutputDelta:
    """A model's delta as a piece of the answer."""
    if type(delta) is TextDelta:
        return OutputDelta(delta.choice, "text", delta.text, None, delta.logprobs)
    match delta:
        case ToolCallDelta():
            head = ToolCallHead(delta.index, delta.id, delta.name, delta.signature)
            return OutputDelta(delta.choice, "tool_call", delta.arguments, head)
        case ReasoningDelta():
            return OutputDelta(delta.choice, "reasoning", delta.text)
        case RefusalDelta():
            return OutputDelta(delta.choice, "refusal", delta.text)
        case TextDelta():
            return OutputDelta(delta.choice, "text", delta.text, None, delta.logprobs)


class RunFold:
    """Makes the result of a run's events, one `add` an event. `result()` may be asked at any time.

    The engine uses it to complete `RunFinished`; a reader of the event stream may use it to have the same result without
    reading `run.finished.result`.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._started = RunStarted("")
        self._plan: PlanDecision | None = None
        self._candidates: dict[str, Candidate] = {}
        self._calls: list[HelperCall] = []
        self._analysis: Analysis | None = None
        self._consensus: Consensus | None = None
        self._evidence: EvidenceBundle | None = None
        self._path: list[PathLink] = []
        self._tool_calls: dict[str, ToolRun] = {}
        self._approvals: dict[str, Approval] = {}
        self._warnings: list[str] = []
        self._output = ResponseBuilder()
        self._end: RunFinished | RunFailed | None = None
        self._paused: RunPaused | None = None

    def add(self, event: RunEvent) -> None:
        match event:
            case OutputDelta():
                self._output.add(_model_delta(event))
            case CandidateDelta():
                pass
            case RunStarted():
                self._started = event
            case PlanMade():
                self._plan = event.plan
            case CandidateStarted():
                self._candidates[event.candidate_id] = Candidate(
                    event.candidate_id, event.model, event.provider, event.replicate, layer=event.layer
                )
            case CandidateFinished() | CandidateFailed():
                self._candidates[event.candidate.id] = event.candidate
            case CandidateScored():
                self._candidates[event.candidate_id] = replace(self._candidates[event.candidate_id], score=event.score)
            case HelperFinished():
                self._calls.append(event.call)
            case LinkPassed():
                self._path.append(event.link)
            case AnalysisFinished():
                self._analysis = event.analysis
            case EvidenceUpdated():
                if event.call_id is None:
                    self._evidence = event.evidence
                    self._consensus = event.consensus or self._consensus
            case ToolCalled():
                self._tool_calls[event.call_id] = ToolRun(
                    event.call_id,
                    event.step,
                    event.name,
                    event.arguments,
                    event.version,
                    event.side_effect,
                    candidate_id=event.candidate_id,
                )
            case ToolReturned():
                self._tool_calls[event.call.id] = event.call
            case Warning():
                self._warnings.append(event.message)
            case OutputReset():
                self._output = ResponseBuilder()
            case RunRestarted():
                self._restart()
            case RunFinished() | RunFailed():
                self._end = event
            case ApprovalRequested():
                self._approvals[event.approval.id] = event.approval
                call = self._tool_calls.get(event.approval.call_id)
                if call is not None and call.status == "running":
                    self._tool_calls[call.id] = replace(call, status="needs_approval")
            case ApprovalDecided():
                self._approvals[event.approval.id] = event.approval
            case RunPaused():
                self._paused = event
            case RunResumed():
                self._paused = None
            case StepStarted() | StepFinished() | StepSkipped() | StepCompensated():
                pass

    @property
    def uncertain(self) -> bool:
        """Whether nobody knows the effect of one of its calls of tools."""
        return any(call.uncertain for call in self._tool_calls.values())

    def _restart(self) -> None:
        self._candidates = {key: c for key, c in self._candidates.items() if c.status == "succeeded"}
        self._output = ResponseBuilder()
        self._analysis = None
        self._calls, self._path, self._tool_calls, self._warnings = [], [], {}, []
        self._approvals, self._paused = {}, None

    def candidate(self, candidate_id: str) -> Candidate | None:
        """What is known of a candidate; None where it has not begun."""
        return self._candidates.get(candidate_id)

    def has(self, call: HelperCall) -> bool:
        """Whether the end of this very call was told."""
        return any(known is call for known in self._calls)

    def result(self) -> OrchestrationOutput:
        candidates, tool_calls = tuple(self._candidates.values()), tuple(self._tool_calls.values())
        approvals = tuple(self._approvals.values())
        if self._end:  # who was still at work was stopped with the run, and could not say so
            candidates = tuple([replace(c, status="cancelled") if c.status == "running" else c for c in candidates])
            if tool_calls:
                open_ = ("running", "needs_approval")
                tool_calls = tuple(replace(t, status="cancelled") if t.status in open_ else t for t in tool_calls)
            if approvals:
                approvals = tuple(replace(a, status="withdrawn") if a.status == "pending" else a for a in approvals)
        paid = (*candidates, *self._calls)
        answered = {link.candidate_id for link in self._path if link.outcome == "answered"}
        given_up = {link.candidate_id for link in self._path} - answered
        wasted = [c for c in candidates if c.status == "cancelled" or c.id in given_up]
        end = self._end or self._paused
        status: RunStatus = end.status if end else "running"
        return OrchestrationOutput(
            id=self._run_id,
            status=status,
            strategy=self._started.strategy,
            recipe=self._started.recipe,
            output=self._answer(),
            candidates=candidates,
            calls=tuple(self._calls),
            analysis=self._analysis,
            consensus=self._consensus,
            evidence=self._evidence,
            plan=self._plan,
            path=tuple(self._path),
            tool_calls=tool_calls,
            approvals=approvals,
            waiting=(self._paused.reason or None) if self._paused and not self._end else None,
            usage=total_usage(paid),
            cost_usd=_spent(paid, tool_calls),
            wasted_cost_usd=_wasted(paid, (*wasted, *(call for call in self._calls if call.status == "cancelled"))),
            timing=end.timing if end else Timing(),
            warnings=tuple(self._warnings),
            error=self._end.error if isinstance(self._end, RunFailed) else None,
            metadata=self._started.metadata,
            request_id=self._started.request_id,
            trace_id=self._started.trace_id,
            created_at=self._started.created_at,
            conversation_id=self._started.conversation_id,
        )

    def _answer(self) -> Output:
        end = self._end
        if not isinstance(end, RunFinished) or not end.endings:  # the second: cancelled in the middle
            choice = self._output.choice(0)
            output = Output(choice.text, None, choice.tool_calls, choice.reasoning, choice.refusal, choice.logprobs)
            if not isinstance(end, RunFinished):
                return output
            return replace(output, json=end.json, source_model=end.source_model, is_synthesized=end.is_synthesized)
        built = self._output.choice
        choices = tuple([built(e.choice, e.finish_reason, e.native_finish_reason) for e in end.endings])
        first = choices[0]
        return Output(
            text=first.text,
            json=end.json,
            tool_calls=first.tool_calls,
            reasoning=first.reasoning,
            refusal=first.refusal,
            logprobs=first.logprobs,
            choices=choices if len(choices) > 1 else (),
            finish_reason=first.finish_reason,
            source_model=end.source_model,
            is_synthesized=end.is_synthesized,
        )


def total_usage(calls: Iterable[Candidate | HelperCall]) -> Usage:
    """Tokens of all kinds over `calls`."""
    total = NO_USAGE
    for call in calls:
        total = call.usage if total is NO_USAGE else total + call.usage
    return total


def _spent(calls: tuple[Candidate | HelperCall, ...], tools: tuple[ToolRun, ...]) -> float | None:
    """Dollars for all that was called."""
    cost = total_cost(calls)
    if cost is None:
        return None
    return cost + sum(call.wasted_cost_usd or 0.0 for call in calls) + sum(tool.cost_usd for tool in tools)


def _wasted(calls: tuple[Candidate | HelperCall, ...], thrown_away: tuple[Candidate | HelperCall, ...]) -> float | None:
    """Dollars for answers that were `thrown_away`, and for hedges of all `calls`."""
    cost = total_cost(thrown_away)
    return None if cost is None else cost + sum(call.wasted_cost_usd or 0.0 for call in calls)


def total_cost(calls: Iterable[Candidate | HelperCall]) -> float | None:
    """Dollars over `calls`, None when a call that used tokens has no known price."""
    total = 0.0
    for call in calls:
        if call.cost_usd is not None:
            total += call.cost_usd
        elif call.usage is not NO_USAGE and call.usage.total_tokens:
            return None
    return total


def parse_json(text: str) -> Any:
    """`text` as JSON, or None where it is not: the model's text stands beside it in the output."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the second: nested deeper than Python reads
        return None


def _model_delta(event: OutputDelta) -> TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta:
    match event.kind:
        case "text":
            return TextDelta(event.text, event.choice, event.logprobs)
        case "reasoning":
            return ReasoningDelta(event.text, event.choice)
        case "refusal":
            return RefusalDelta(event.text, event.choice)
        case "tool_call":
            head = event.tool_call or ToolCallHead(0)
            return ToolCallDelta(head.index, event.text, head.id, head.name, event.choice, head.signature)


def unfold(result: OrchestrationOutput) -> Iterator[RunEvent]:
    """The events of a stored result: what a reader who comes late is told."""
    yield RunStarted(
        result.strategy,
        result.recipe,
        result.metadata,
        result.request_id,
        result.trace_id,
        result.created_at,
        result.conversation_id,
    )
    if result.plan:
        yield PlanMade(result.plan)
    for candidate in result.candidates:
        yield CandidateStarted(candidate.id, candidate.model, candidate.provider, candidate.replicate, candidate.layer)
        if candidate.status == "succeeded":
            yield CandidateFinished(candidate)
        elif candidate.status != "running":
            yield CandidateFailed(candidate)
    for call in result.calls:
        yield HelperFinished(call)
    for link in result.path:
        yield LinkPassed(link)
    if result.analysis:
        yield AnalysisFinished(result.analysis)
    if result.evidence:
        yield EvidenceUpdated("bundle_ready", result.evidence, result.consensus)
    for tool in result.tool_calls:
        yield ToolCalled(tool.id, tool.step, tool.name, tool.arguments, tool.version, tool.side_effect, tool.candidate_id)
        if tool.status not in ("running", "needs_approval"):
            yield ToolReturned(tool)
    for approval in result.approvals:
        yield ApprovalRequested(approval)
        if approval.status != "pending":
            yield ApprovalDecided(approval)
    for message in result.warnings:
        yield Warning(message)
    yield from _unfold_output(result)


def _unfold_output(result: OrchestrationOutput) -> Iterator[RunEvent]:
    output = result.output
    choices = output.choices or (
        Choice(0, output.text, output.reasoning, output.refusal, output.tool_calls, logprobs=output.logprobs),
    )
    for choice in choices:
        yield from output_deltas(choice)
    if result.error:
        yield RunFailed(result.error, result.status, result.timing, result)
    elif result.status == "needs_approval":
        waiting = tuple(approval.id for approval in result.approvals if approval.status == "pending")
        yield RunPaused(result.waiting or "", waiting, timing=result.timing)
    elif result.status not in ("queued", "running"):
        endings = tuple(Ending(choice.index, choice.finish_reason, choice.native_finish_reason) for choice in output.choices)
        if not endings and (output.finish_reason or result.status != "cancelled"):
            endings = (Ending(0, output.finish_reason or "stop"),)
        yield RunFinished(
            result.status, output.source_model, output.is_synthesized, endings, output.json, result.timing, result
        )
