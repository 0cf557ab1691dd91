"""What of calls of tools is in the audit trail: who was refused, and what was run, by which rule and with what outcome.

A tool that writes is recorded before it runs and after it, so that a process that dies in between leaves a trace; others once,
afterwards, without anybody waiting. Arguments are there as a digest only.
"""

from __future__ import annotations

from typing import Any

from app.core.audit import Act, Action, Actor, Decision, Recorder, recorded
from app.core.clock import Clock
from app.core.tools import PermissionDecision, ToolCaller, ToolResult, ToolSpec
from app.tools.execution import PreparedCall, run


def note_refusal(recorder: Recorder, spec: ToolSpec, caller: ToolCaller, arguments: Any, decision: PermissionDecision) -> None:
    """Record that a call was not permitted, or not without an approval."""
    said: Decision = "denied" if decision.effect == "deny" else "needs_approval"
    recorder.note(_act(spec, caller, "tool.permission"), said, _details(recorder, arguments, decision))


def note_uncertain(recorder: Recorder, prepared: PreparedCall) -> None:
    """Record that nobody knows whether a call that another process had begun took effect."""
    act = _act(prepared.spec, prepared.caller, "tool.execute")
    recorder.note(act, "uncertain", _details(recorder, prepared.arguments, prepared.decision))


async def recorded_run(recorder: Recorder, prepared: PreparedCall, clock: Clock) -> ToolResult:
    """Make a call, and record it.

    Raises:
        StateUnavailable: a tool that writes cannot be recorded, and so was not run.
    """
    act = _act(prepared.spec, prepared.caller, "tool.execute")
    details = _details(recorder, prepared.arguments, prepared.decision)
    if prepared.spec.side_effect != "write":
        result = await run(prepared, clock)
        recorder.note(act, "done" if result.error is None else "failed", {**details, **_ending(result)})
        return result
    async with recorded(recorder, act, details) as outcome:
        result = await run(prepared, clock)
        outcome.details |= _ending(result)
        if result.error is not None:
            outcome.decision = "failed" if result.untried else "uncertain"
    return result


def _act(spec: ToolSpec, caller: ToolCaller, action: Action) -> Act:
    return Act(
        tenant=caller.tenant,
        actor=Actor("key", caller.key_id, caller.key_name, caller.address),
        action=action,
        subject_kind="tool",
        subject=spec.reference,
        run_id=caller.run_id or None,
        request_id=caller.request_id or None,
        trace_id=caller.traceparent.split("-")[1] if caller.traceparent else None,
    )


def _details(recorder: Recorder, arguments: Any, decision: PermissionDecision) -> dict[str, Any]:
    return {"rule": decision.rule, "arguments": recorder.digest(arguments)}


def _ending(result: ToolResult) -> dict[str, Any]:
    error = {} if result.error is None else {"error": result.error.code}
    return {**error, "latency_ms": round(result.latency_ms)}
