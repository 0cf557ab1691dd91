"""Strategies for the vocabulary: values that could have come from a model or a run, as opposed to all that the types allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from app.core.approvals import Approval
from app.core.chat import Attempt, ChatResponse, Choice
from app.core.errors import ErrorReport
from app.core.messages import ReasoningPart, ToolCallPart
from app.core.run_fold import total_cost, total_usage
from app.core.runs import (
    Analysis,
    BundleMetadata,
    Candidate,
    Consensus,
    EvidenceBundle,
    HelperCall,
    OrchestrationOutput,
    Output,
    PlanDecision,
    Timing,
)
from app.core.tool_runs import ToolRun
from app.core.usage import Usage

words = st.text(max_size=12)
some = st.text(min_size=1, max_size=12)
names = st.sampled_from(["fast", "p/m", "claude"])
finish_reasons = st.sampled_from(["stop", "length", "tool_calls", "content_filter"])
usages = st.builds(Usage, *[st.integers(0, 10_000)] * 5)
milliseconds = st.floats(0, 1e6)
json_objects = st.dictionaries(words, st.integers() | words | st.none(), max_size=2)
tokens = st.lists(st.fixed_dictionaries({"token": words, "logprob": st.floats(-9, 0)}), min_size=1, max_size=3)
logprobs = st.none() | st.dictionaries(st.sampled_from(["content", "refusal"]), tokens, min_size=1)
tool_calls = st.lists(st.builds(ToolCallPart, some, some, words, st.none() | some), max_size=3).map(tuple)
errors = st.builds(ErrorReport, type=some, code=some, message=words, causes=st.just(()))
attempts = st.lists(
    st.builds(Attempt, st.floats(0, 2e9), milliseconds, st.sampled_from(["ok", "error", "cancelled"])), max_size=2
).map(tuple)


@st.composite
def reasoning_parts(draw: st.DrawFn) -> tuple[ReasoningPart, ...]:
    """Parts as vendors give them: all sealed, but for the last, which has text where it is not."""
    sealed = st.builds(ReasoningPart, words, some, st.none()) | st.builds(ReasoningPart, words, st.none(), some)
    open_end = st.builds(ReasoningPart, some)
    return (*draw(st.lists(sealed, max_size=2)), *draw(st.lists(open_end, max_size=1)))


@st.composite
def choices(draw: st.DrawFn, index: int, *, sealed: bool = True) -> Choice:
    """A choice whose reasoning is what its parts say. `sealed` false: a run's, which tells reasoning as text alone."""
    parts = draw(reasoning_parts()) if sealed else tuple(ReasoningPart(text) for text in draw(st.lists(some, max_size=1)))
    return Choice(
        index,
        draw(words),
        "".join(part.text for part in parts),
        draw(words),
        draw(tool_calls),
        draw(finish_reasons),
        draw(st.none() | some),
        draw(logprobs),
        parts,
    )


@st.composite
def responses(draw: st.DrawFn) -> ChatResponse:
    """A response whose choices are numbered from 0."""
    made = tuple(draw(choices(index)) for index in range(draw(st.integers(1, 3))))
    return ChatResponse(draw(some), draw(names), made, draw(usages), draw(st.integers(0, 2**31)), draw(st.none() | some))


def _call(draw: st.DrawFn, status: str) -> dict[str, Any]:
    """What candidates and helper calls have in common. Only who answered has used tokens; the price may be unknown."""
    answered = status == "succeeded"
    return {
        "usage": draw(usages) if answered else Usage(),
        "cost_usd": draw(st.none() | st.floats(0, 1)) if answered else None,
        "latency_ms": draw(milliseconds),
        "attempts": draw(attempts),
        "error": draw(errors) if status == "failed" else None,
    }


@st.composite
def candidates(draw: st.DrawFn, number: int) -> Candidate:
    status = draw(st.sampled_from(["succeeded", "failed", "cancelled"]))
    return Candidate(
        f"c{number}",
        draw(names),
        "p",
        draw(st.integers(0, 3)),
        status,
        draw(words),
        draw(words),
        draw(words),
        draw(tool_calls),
        draw(finish_reasons) if status == "succeeded" else None,
        score=draw(st.none() | st.floats(0, 1)),
        ttft_ms=draw(st.none() | milliseconds),
        layer=draw(st.integers(1, 2)),
        **_call(draw, status),
    )


@st.composite
def helpers(draw: st.DrawFn) -> HelperCall:
    status = draw(st.sampled_from(["succeeded", "failed"]))
    role = draw(st.sampled_from(["analysis", "ranking", "synthesis", "judge"]))
    return HelperCall(role, draw(names), "p", status, **_call(draw, status))


@st.composite
def tool_runs(draw: st.DrawFn, number: int) -> ToolRun:
    status = draw(st.sampled_from(["succeeded", "failed", "invalid", "refused", "repeated", "cancelled"]))
    return ToolRun(
        f"t{number}",
        draw(st.integers(1, 3)),
        draw(names),
        draw(words),
        draw(st.none() | st.just("1.0.0")),
        draw(st.sampled_from([None, "pure", "read", "write"])),
        status,
        draw(json_objects) if status == "succeeded" else None,
        draw(errors) if status not in ("succeeded", "cancelled") else None,
        draw(st.booleans()),
        draw(st.floats(0, 2e9)),
        draw(milliseconds),
        draw(st.sampled_from([0.0, 0.25])),
    )


@st.composite
def approvals(draw: st.DrawFn, number: int) -> Approval:
    status = draw(st.sampled_from(["approved", "edited", "denied", "expired", "withdrawn"]))
    return Approval(
        f"apr_{number}",
        "run_1",
        f"t{number}",
        draw(st.integers(1, 3)),
        draw(names),
        "1.0.0",
        "write",
        "00",
        draw(json_objects),
        status=status,
        by=draw(st.none() | some),
        comment=draw(st.none() | words),
        edited=draw(json_objects) if status == "edited" else None,
    )


@st.composite
def outputs(draw: st.DrawFn, *, answered: bool) -> Output:
    """An answer; where there are several choices the first is what stands beside them. Without an end it has no reasons."""
    several = draw(st.integers(2, 3)) if answered and draw(st.booleans()) else 1
    made = [draw(choices(index, sealed=False)) for index in range(several)]
    first = made[0]
    bare = Output(first.text, None, first.tool_calls, first.reasoning, first.refusal, first.logprobs)
    if not answered:
        return bare
    return replace(
        bare,
        json=draw(st.none() | json_objects),
        choices=tuple(made) if several > 1 else (),
        finish_reason=first.finish_reason,
        source_model=draw(st.none() | names),
        is_synthesized=draw(st.booleans()),
    )


@st.composite
def results(draw: st.DrawFn) -> OrchestrationOutput:
    """A result that a run could have had.

    Consistent means: tokens and dollars are the sums over candidates and helper calls; a failed run has an error and no finish
    reason; a consensus comes with its evidence; a run that is not over has neither timing nor error; what is over has no
    candidate at work.
    """
    status = draw(st.sampled_from(["succeeded", "needs_review", "cancelled", "failed", "running", "needs_approval"]))
    failed, paused = status == "failed", status == "needs_approval"
    over = not paused and status != "running"
    made = tuple(draw(candidates(number)) for number in range(draw(st.integers(0, 3))))
    if not over:
        made = (*made, Candidate("c9", draw(names), "p", 1, layer=2))
    calls = tuple(draw(st.lists(helpers(), max_size=2)))
    tools = tuple(draw(tool_runs(number)) for number in range(draw(st.integers(0, 2))))
    asked = tuple(draw(approvals(number)) for number in range(draw(st.integers(0, 2))))
    if paused:
        tools = (*tools, ToolRun("t9", 2, draw(names), draw(words), "1.0.0", "write", "needs_approval"))
        asked = (*asked, replace(draw(approvals(9)), status="pending", by=None, comment=None, edited=None))
    cost = total_cost((*made, *calls))
    meta = BundleMetadata("t", 3, ("fast",))
    evidence = draw(st.none() | st.builds(EvidenceBundle, st.just(meta), st.just(()), json_objects))
    analysis = st.builds(Analysis, some, st.none() | names, words, st.none() | json_objects, st.none() | errors)
    plan = st.builds(PlanDecision, some, st.just(("fast", "p/m")), st.none() | names)
    return OrchestrationOutput(
        id="run_1",
        status=status,
        strategy=draw(some),
        output=draw(outputs(answered=over and not failed)),
        recipe=draw(st.none() | some),
        candidates=made,
        calls=calls,
        analysis=draw(st.none() | analysis),
        consensus=draw(st.none() | st.builds(Consensus, some, words)) if evidence else None,
        evidence=evidence,
        plan=draw(st.none() | plan),
        tool_calls=tools,
        approvals=asked,
        usage=total_usage((*made, *calls)),
        cost_usd=None if cost is None else cost + 0 + sum(tool.cost_usd for tool in tools),
        wasted_cost_usd=total_cost(c for c in (*made, *calls) if c.status == "cancelled"),
        timing=draw(st.builds(Timing, milliseconds, st.none() | milliseconds)) if over or paused else Timing(),
        warnings=tuple(draw(st.lists(words, max_size=2))),
        error=draw(errors) if failed else None,
        metadata=draw(json_objects),
        request_id=draw(words),
        trace_id=draw(st.none() | some),
        created_at=draw(st.integers(0, 2**31)),
    )
