"""One call of a tool of the service inside a run: checked, permitted, run in time, and told to the model as data.

What a tool gave stands in a JSON object, `{"result": ...}` or `{"error": {...}}`, in a message of role `tool`: it cannot end
its own quotation, and nothing in it is ever read as a call.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from app.core.approvals import Approval as CallApproval
from app.core.budgets import NOTHING, Amount, nano_usd
from app.core.errors import (
    BudgetExceeded,
    ConflictError,
    Forbidden,
    InvalidRequest,
    NotFound,
    QuorumError,
    StateUnavailable,
    ToolExecutionError,
    report,
)
from app.core.messages import TextPart, ToolCallPart, ToolResultPart
from app.core.run_events import ApprovalDecided, ApprovalRequested, EvidenceUpdated, RunEvent, ToolCalled, ToolReturned, Warning
from app.core.streams import telling
from app.core.tool_runs import ToolRun, ToolRunStatus
from app.core.tools import EnclosingRun, ToolCaller
from app.orchestration.approving.entries import Asked, refusal_of
from app.orchestration.context import RunContext
from app.orchestration.tools.offering import enclosing
from app.orchestration.tools.options import Approval
from app.orchestration.tools.pausing import UNSETTLED
from app.orchestration.tools.turns import name_to_tell
from app.tools.execution import APPROVAL_NEEDED, PreparedCall, arguments_of
from app.tools.registry import Registered
from app.tools.toolbox import Toolbox

STEP_RESULT_BYTES: Final = 100_000
"""What the results of one step may take in the prompt, all together: some 25,000 tokens."""
LEAST_RESULT_BYTES: Final = 1_000
_MAX_ERROR: Final = 2_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What calls of a loop have in common. `names` are the tools that it offers."""

    context: RunContext
    caller: ToolCaller
    approval: Approval
    names: tuple[str, ...]


class ServedCall:
    """A call of a tool of the service. `run` is what is known of it; over when `events` is.

    `registered` is None where no such tool is offered, or, of a call that a person was asked about, not any more.
    A call that is `repeated` is not made, nor is one that is `too_many` of its tool. One that writes and is
    `unwanted`, for the reason that this says, needs a person; with `asks` false nobody is asked, and what needs one is refused.
    """

    def __init__(
        self,
        terms: Terms,
        part: ToolCallPart,
        step: int,
        registered: Registered | None,
        *,
        repeated: bool,
        too_many: bool = False,
        candidate_id: str | None = None,
        unwanted: str | None = None,
        asks: bool = True,
    ) -> None:
        spec = registered.spec if registered else None
        self._terms, self._registered, self._repeated = terms, registered, repeated
        self._unwanted, self._too_many = unwanted, too_many
        self._approvals = terms.context.approvals if asks else None
        self._before = self._approvals.asked_before(part.id, part.name) if self._approvals is not None else None
        before = self._before
        self.part = part
        self.run = ToolRun(
            part.id,
            step,
            part.name,
            part.arguments,
            str(spec.version) if spec else before.version if before else None,
            spec.side_effect if spec else before.side_effect if before else None,
            candidate_id=candidate_id,
        )
        self._warnings: tuple[str, ...] = ()
        self._asked: Asked | None = None

    @property
    def waits_for(self) -> CallApproval | None:
        """What it waits for, if it does: then it was not made, and the run is to be paused."""
        asked = self._asked
        return asked.approval if asked is not None and asked.decision is None else None

    def called(self) -> ToolCalled:
        run = self.run
        return ToolCalled(run.id, run.step, run.name, run.arguments, run.version, run.side_effect, run.candidate_id)

    async def events(self) -> AsyncIterator[RunEvent]:
        """Make the call, and tell of its end. What fails is in `run.error`."""
        context = self._terms.context
        known = context.past.returned.get(self.run.id)
        if known is not None and (known.name, known.arguments) == (self.run.name, self.run.arguments):
            self.run = replace(known, candidate_id=self.run.candidate_id)
            self._tell_of_writing()
        elif self._asks_models:
            async with aclosing(telling(self._make)) as events:
                async for event in events:
                    yield event
        else:
            await self._make()
        if self._asked is not None:
            approval = self._asked.approval
            if self._asked.decision is None:
                yield ApprovalRequested(approval)
                return
            yield ApprovalDecided(approval)
        elif context.approvals is not None:
            for approval in await context.approvals.became(context.request.tenant, self.run.id):
                yield ApprovalDecided(approval)
        for warning in self._warnings:
            yield Warning(warning)
        yield ToolReturned(self.run)

    def _tell_of_writing(self) -> None:
        context = self._terms.context
        if self.run.side_effect == "write" and context.hosting.writing is not None:
            context.hosting.writing()

    @property
    def done(self) -> bool:
        """Whether there is no sense in making it again: it has succeeded, or it writes and may have taken effect."""
        run = self.run
        return run.status in ("succeeded", "repeated") or (run.status == "failed" and run.side_effect == "write")

    @property
    def failure(self) -> ToolExecutionError | None:
        """What a run fails with that is to fail where a tool does."""
        error = self.run.error
        if error is None or self.run.status == "repeated":
            return None
        failure = ToolExecutionError(error.message, tool=self.run.name, retry_after=error.retry_after)
        if self.run.status != "invalid":  # which is the model's fault, not that of who asked it
            failure.code = error.code
        return failure

    @property
    def _asks_models(self) -> bool:
        """Whether it is a run of its own, whose events are this one's too."""
        return self._registered is not None and self._registered.spec.source == "orchestration"

    async def _make(self, tell: Callable[[RunEvent], None] | None = None) -> None:
        """Make the call, and `tell` what happens in it, where it asks models."""
        try:
            prepared = await self._agreed(await self._prepared())
            if prepared is not None and tell is not None:
                prepared = replace(prepared, caller=replace(prepared.caller, inside=self._inside(tell)))
        except (Forbidden, BudgetExceeded) as error:
            self._end("refused", error)
        except InvalidRequest as error:
            self._end("invalid", error)
        except QuorumError as error:
            self._end("failed", error)
        else:
            if prepared is not None:
                await self._run(prepared)

    def _inside(self, tell: Callable[[RunEvent], None]) -> EnclosingRun:
        def named(event: RunEvent) -> None:
            tell(replace(event, call_id=self.run.id) if isinstance(event, EvidenceUpdated) else event)

        return enclosing(self._terms.context, named)

    async def _prepared(self) -> PreparedCall:
        """The call, checked and permitted.

        Raises:
            InvalidRequest: there is no such tool, or its arguments do not fit.
            Forbidden: it is not permitted, or was taken away after a person was asked.
            BudgetExceeded: it was called as often as it may be.
            ToolExecutionError: it is not there now.
        """
        terms, registered = self._terms, self._registered
        toolbox = terms.context.toolbox
        if registered is None and toolbox is not None and self._before is not None:
            await self._look_for(self._before, toolbox)
            message = f"the tool {self.run.name!r} was taken away after a person was asked about this call; it was not run"
            raise Forbidden(message, param="name", code="tool_forbidden")
        if registered is None or toolbox is None:
            offered = ", ".join(terms.names) or "none"
            raise InvalidRequest(f"there is no tool {self.run.name[:100]!r}; the tools are {offered}", param="name")
        if self._too_many:
            most = f"{registered.spec.max_calls} times" if registered.spec.max_calls != 1 else "once"
            raise BudgetExceeded(f"the tool {self.run.name!r} may be called {most} in a run; answer with what it has said")
        return await toolbox.prepare(registered.spec.reference, arguments_of(self.run.arguments), terms.caller)

    async def _look_for(self, before: CallApproval, toolbox: Toolbox) -> None:
        """Have it said, and recorded, why a call that a person was asked about is not permitted any more, where that is why.

        Raises:
            Forbidden: it is not permitted.
            ToolExecutionError: its tool is not there now.
        """
        with suppress(NotFound, InvalidRequest):
            await toolbox.prepare(before.tool, arguments_of(self.run.arguments), self._terms.caller)

    async def _agreed(self, prepared: PreparedCall) -> PreparedCall | None:
        """The call as it may be made, with the arguments that a person may have put in place of its own; None while it waits
        for one.

        Raises:
            Forbidden: nobody can be asked, or the answer was no.
            StateUnavailable: it cannot be asked.
        """
        terms, context = self._terms, self._terms.context
        approvals, toolbox, reason = self._approvals, context.toolbox, self._needs_approval(prepared)
        if self._repeated or (reason is None and self._before is None):
            return prepared
        if approvals is None or toolbox is None:
            raise Forbidden(f"{reason}; nobody can be asked here, so it was not run", param="name", code=APPROVAL_NEEDED)
        wanted = approvals.wanted(prepared, self.run, reason or prepared.decision.reason)
        try:
            asked = self._asked = await approvals.ask(wanted, prepared)
        except StateUnavailable:
            given_up = approvals.give_up(wanted, prepared)
            self._asked = given_up if self._before is None else None
            raise
        if asked.decision is None:
            return None
        refusal = refusal_of(asked)
        if refusal is not None:
            raise refusal
        if asked.approval.edited is None:
            return prepared
        self.run = replace(self.run, edited=asked.approval.edited)
        return await toolbox.prepare(prepared.spec.reference, asked.approval.edited, terms.caller)

    async def _run(self, prepared: PreparedCall) -> None:
        context, spec = self._terms.context, prepared.spec
        toolbox = context.toolbox
        assert toolbox is not None  # noqa: S101 - what was prepared was prepared by it
        if self._repeated:
            message = (
                "this very call was made in the step before, and its result stands above; answer with it, or call otherwise"
            )
            self._end("repeated", ConflictError(message, code="repeated_call"))
            return
        self._tell_of_writing()
        try:
            first = await self._first(prepared)
        except QuorumError as error:
            self._end("failed", error)
            return
        if not first:
            toolbox.uncertain(prepared)
            message = f"the process that ran {spec.reference!r} has died: its effect is not known, and it is not run again"
            self._end("failed", ConflictError(message, code="effect_uncertain"))
            return
        price, reservation = Amount(0, nano_usd(spec.cost_usd)), None
        if spec.cost_usd and context.spending.purse is not None:
            reservation = await context.spending.purse.reserve(price)
            if reservation is None:
                self._end("refused", BudgetExceeded(f"the tool {spec.name!r} costs ${spec.cost_usd:g}, more than is left"))
                return
        used = price
        try:
            result = await toolbox.run(prepared)
            used = NOTHING if result.untried else price
        except QuorumError as error:  # it could not be recorded, and so was not run
            used = NOTHING
            self._end("failed", error)
            return
        finally:
            if reservation is not None:
                reservation.settle_later(used)
        self._warnings = result.warnings
        self.run = replace(
            self.run,
            status="succeeded" if result.error is None else "failed",
            result=result.value,
            error=result.error,
            truncated=result.truncated,
            started_at=result.started_at,
            latency_ms=result.latency_ms,
            cost_usd=result.cost_usd,
        )

    async def _first(self, prepared: PreparedCall) -> bool:
        """Whether nobody can have made the call before. An approval, which is used once, says so for certain.

        Raises:
            Forbidden: the approval is for another call.
            StateUnavailable: nobody knows.
        """
        context, asked = self._terms.context, self._asked
        if asked is None or self._approvals is None:
            return not (context.past.taken and prepared.spec.side_effect == "write")
        used = await self._approvals.use(asked, prepared)
        if used == "unbound":
            message = f"the approval {asked.approval.id} is not for this call of {prepared.spec.reference!r}"
            raise Forbidden(message, code="approval_denied")
        return used == "ok"

    def _needs_approval(self, prepared: PreparedCall) -> str | None:
        """Why a person must agree to the call first; None where nobody must."""
        spec, approval = prepared.spec, self._terms.approval
        if self._unwanted is not None and spec.side_effect == "write":
            return f"{UNSETTLED}{self._unwanted}"
        if prepared.decision.effect == "approve":
            return prepared.decision.reason
        if approval == "all" or (approval == "writes" and spec.side_effect == "write"):
            return f"a call of {spec.reference!r} needs an approval, as the option `approval` says"
        return None

    def _end(self, status: ToolRunStatus, error: QuorumError) -> None:
        self.run = replace(self.run, status=status, error=report(error))


def result_part(run: ToolRun, room: int) -> ToolResultPart:
    """What the model is told of a call, in `room` bytes at most."""
    told = (TextPart(_told(run, room)),)
    return ToolResultPart(run.id, told, name_to_tell(run.name), is_error=run.error is not None)


def _told(run: ToolRun, room: int) -> str:
    if run.error is not None:
        return _json({"error": {"code": run.error.code, "message": run.error.message[:_MAX_ERROR]}})
    beside: dict[str, Any] = {"truncated": True} if run.truncated else {}
    if run.edited is not None:
        beside["approved_with_arguments"] = run.edited
    told = _json({"result": run.result, **beside})
    if len(told.encode()) <= room:
        return told
    text = run.result if isinstance(run.result, str) else _json(run.result)
    most = room
    while True:  # what has to be escaped is longer than it was
        told = _json({"result": text.encode()[:most].decode("utf-8", "ignore"), **beside, "truncated": True})
        if len(told.encode()) <= room or most < LEAST_RESULT_BYTES:
            return told
        most = most * 3 // 4


def _json(value: Mapping[str, Any] | Any) -> str:
    return orjson.dumps(value).decode()


def key_of(call: ToolCallPart) -> tuple[str, str]:
    """The same for calls that mean the same: of one tool, with the same arguments in whatever order."""
    try:
        return call.name, orjson.dumps(orjson.loads(call.arguments or "{}"), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        return call.name, call.arguments
