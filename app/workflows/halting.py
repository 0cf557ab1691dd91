"""What a run waits for without a process that has it: a signal, a person's review, a time, the approval of a call."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from app.core.approvals import REVIEW, Approval
from app.core.chat import JsonObject
from app.core.errors import Forbidden, InvalidRequest, OrchestratorError, QuorumError, StateUnavailable
from app.core.run_events import ApprovalDecided, ApprovalRequested, RunEvent, RunPaused
from app.core.tool_runs import ToolRun
from app.core.tools import ToolCaller, ToolSpec
from app.orchestration.approving.entries import refusal_of
from app.orchestration.context import RunContext
from app.orchestration.tools.offering import caller_of
from app.tools.execution import APPROVAL_NEEDED
from app.workflows.action_checks import LONGEST_S
from app.workflows.failing import StepFailed, StepWaits
from app.workflows.journal import Journal
from app.workflows.outcome import Outcome

SIGNAL_S: Final = 604_800.0
"""How long a signal is waited for whose step says nothing: a week."""


FARTHEST_S: Final = 31_622_400.0
"""How far away a time may be that is waited for: a year, for which what is stored of the run is kept."""
_SPEC: Final = ToolSpec(REVIEW, "A person looks at it, and may edit it.", {"type": "object"}, side_effect="pure")


@dataclass(frozen=True, slots=True)
class _Review:
    """What a person looks at."""

    arguments: dict[str, Any]
    caller: ToolCaller
    spec: ToolSpec = _SPEC


class Halting:
    """The waits of one run."""

    def __init__(self, context: RunContext, journal: Journal) -> None:
        self._context, self._journal = context, journal
        self.approvals: list[Approval] = []
        """Those that nobody has decided yet."""
        self._others: list[tuple[str, float]] = []

    async def wait(self, asked: JsonObject, path: str, outcome: Outcome, *, undoing: bool) -> AsyncGenerator[RunEvent]:
        """Go on where what is `asked` for, without references, has come.

        Raises:
            StepWaits: it has not.
            StepFailed: it did not come in time, was refused, or nothing can be waited for here.
        """
        if undoing or self._context.hosting.steps is None:
            what = "what takes a step back" if undoing else "a run that is a part of another, or that is not kept,"
            raise StepFailed(OrchestratorError(f"{what} cannot wait"))
        if "signal" in asked:
            outcome.output = await self._signal(asked["signal"], path, asked.get("within_s") or SIGNAL_S)
        elif "review" in asked:
            async for event in self._review(asked, path, outcome):
                yield event
        else:
            outcome.output = await self._time(asked, path)

    def paused(self) -> RunPaused:
        """What pauses the run: until one of its times has come, or the last of its approvals has expired."""
        tools = ", ".join(dict.fromkeys(f"{one.tool}@{one.version}" for one in self.approvals))
        ids = tuple(one.id for one in self.approvals)
        reasons = [reason for reason, _ in self._others]
        if ids:
            reasons.insert(0, f"a person must agree first: {tools} ({', '.join(ids)})")
        until = [at for _, at in self._others]
        if ids:
            until.append(max(one.expires_at for one in self.approvals))
        return RunPaused("; ".join(reasons), ids, min(until))

    async def _signal(self, name: str, path: str, within_s: float) -> Any:
        until = await self._until(path, within_s)
        held = await self._journal.signal(name)
        if held is not None:
            return held["payload"]
        if self._context.clock.now() >= until:
            message = f"the signal {name!r} did not come within {within_s:g} s"
            raise StepFailed(OrchestratorError(message, code="step_timeout"))
        self._others.append((f"the signal {name!r} must come first", until))
        raise StepWaits

    async def _time(self, asked: JsonObject, path: str) -> JsonObject:
        if "seconds" in asked:
            until = await self._until(path, _seconds(asked["seconds"]))
        else:
            until = _moment(asked["until"])
        now = self._context.clock.now()
        if now >= until:
            return {"until": until}
        if until - now > FARTHEST_S:
            raise StepFailed(InvalidRequest(f"wait.until is {str(asked.get('until'))[:50]!r}, more than a year from now"))
        self._others.append((f"it is to go on at {datetime.fromtimestamp(until, UTC).isoformat(timespec='seconds')}", until))
        raise StepWaits

    async def _until(self, path: str, seconds: float) -> float:
        """The end of a time that began when the run first came here."""
        known = self._journal.until(path)
        if known is None:
            known = self._context.clock.now() + seconds
            await self._journal.note(path, {"until": known})
        return known

    async def _review(self, asked: JsonObject, path: str, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        context = self._context
        approvals = context.approvals
        if approvals is None:
            raise StepFailed(Forbidden("nobody can be asked here", code=APPROVAL_NEEDED))
        shown = {"value": asked.get("value"), **({"schema": asked["schema"]} if "schema" in asked else {})}
        subject = _Review(shown, caller_of(context))
        call = ToolRun(path, 0, REVIEW, orjson.dumps(shown).decode())
        wanted = approvals.wanted(subject, call, asked["review"])
        try:
            told = await approvals.ask(wanted, subject)
        except StateUnavailable:  # it may be asked all the same
            approvals.give_up(wanted, subject)
            raise
        if told.decision is None:
            self.approvals.append(told.approval)
            yield ApprovalRequested(told.approval)
            raise StepWaits
        yield ApprovalDecided(told.approval)
        refusal = refusal_of(told)
        if refusal is not None:
            raise StepFailed(refusal)
        edited = told.approval.edited
        outcome.output = {
            "value": shown["value"] if edited is None else edited["value"],
            "decision": told.approval.status,
            "by": told.approval.by,
            "comment": told.approval.comment,
        }


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_S:
        message = f"wait.seconds is {str(value)[:50]!r}; it wants a number from 0 to {LONGEST_S}"
        raise StepFailed(InvalidRequest(message))
    return float(value)


def _moment(value: Any) -> float:
    """Unix time in seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        fault: QuorumError = InvalidRequest(
            f"wait.until is {str(value)[:50]!r}; it wants Unix time, or as 2026-11-21T18:00:00Z"
        )
        raise StepFailed(fault) from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
