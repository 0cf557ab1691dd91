"""How a run asks people: it asks for the approval of a call, and uses it, once, right before the call is made."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from app.config.tools import ApprovalsConfig
from app.core.approvals import Approval, approval_id, binding
from app.core.audit import SERVICE, Act, Actor, Recorder
from app.core.clock import Clock
from app.core.errors import StateUnavailable
from app.core.tool_runs import ToolRun
from app.core.tools import ToolCaller, ToolSpec
from app.observability import metrics
from app.orchestration.approving.entries import Asked, Entry, Outcome, expired, read_asked, withdrawn
from app.state.approvals import ApprovalStore, Used
from app.tools.execution import PreparedCall


class Subject(Protocol):
    """What a person is asked about: a call of a tool, or what is told as one."""

    @property
    def spec(self) -> ToolSpec: ...

    @property
    def arguments(self) -> dict[str, Any]: ...

    @property
    def caller(self) -> ToolCaller: ...


ApprovalAction = Literal["approval.request", "approval.decide"]
USED_KEEP_S: Final = 30 * 86_400
"""How long it is known that an approval was used: longer than any run that could use it is kept for."""


@dataclass(frozen=True, slots=True)
class RunApprovals:
    """The approvals of one run. `digest` names its request; `known` is what was asked for before, as it stood when the run was
    last paused. `withdraw` is told the tenant, and what nobody is to decide any more."""

    store: ApprovalStore
    clock: Clock
    config: ApprovalsConfig
    recorder: Recorder
    digest: str
    withdraw: Callable[[str, Approval, str], None]
    known: tuple[Approval, ...] = ()

    def asked_before(self, call_id: str, tool: str) -> Approval | None:
        """What a call was last asked for with, if it was before."""
        return next((one for one in reversed(self.known) if (one.call_id, one.tool) == (call_id, tool)), None)

    async def became(self, tenant: str, call_id: str) -> list[Approval]:
        """What became of the approvals of a call that is over; while the store is away, as far as that was known before."""
        known = [one for one in self.known if one.call_id == call_id]
        return [await self._stored(tenant, one) if one.status == "pending" else one for one in known]

    async def _stored(self, tenant: str, approval: Approval) -> Approval:
        try:
            stored = await self.store.get(tenant, approval.id)
        except StateUnavailable:
            return approval
        return approval if stored is None else read_asked(stored, self.clock.now()).approval

    def wanted(self, prepared: Subject, call: ToolRun, reason: str) -> Approval:
        """What is to be asked for so that a call may be made."""
        caller, spec = prepared.caller, prepared.spec
        bound = binding(spec.name, str(spec.version), prepared.arguments, caller.run_id)
        return Approval(
            approval_id(call.id, bound),
            caller.run_id,
            call.id,
            call.step,
            spec.name,
            str(spec.version),
            spec.side_effect,
            bound,
            prepared.arguments,
            reason,
            self.clock.now(),
        )

    async def ask(self, approval: Approval, prepared: Subject) -> Asked:
        """Ask for the approval of a call, or learn what became of it.

        Raises:
            StateUnavailable: it cannot be asked for, or nobody knows whether it was: it is to be given up.
        """
        caller, spec, now = prepared.caller, prepared.spec, approval.created_at
        entry = Entry(approval, caller.key_id, caller.key_name, caller.recipe, caller.request_id, self.digest)
        told = await self.store.ask(
            caller.tenant,
            caller.run_id,
            (approval.id, entry.as_json()),
            expired(now).as_json(),
            expire_s=self.config.expire_s,
            keep_s=self.config.keep_s,
        )
        if told.new:
            metrics.APPROVALS_REQUESTED.inc()
            by = Actor("key", caller.key_id, caller.key_name, caller.address)
            act = act_on(approval, caller, by, "approval.request")
            details = {"tool": spec.reference, "hash": approval.hash, "arguments": self.recorder.digest(prepared.arguments)}
            await self.recorder.record(act, "requested", details, operation=approval.id)
        if told.expired:
            note_decided("expire", self.config.expire_s)
            self.recorder.note(act_on(approval, caller, SERVICE, "approval.decide"), "expired", {"tool": spec.reference})
        return read_asked(told.stored, now=0.0)  # whether it has expired is for the store to say, and that has

    def give_up(self, approval: Approval, prepared: Subject) -> Asked:
        """Have withdrawn what could not be asked for, as far as can be told: it may be in the store all the same."""
        self.withdraw(prepared.caller.tenant, approval, self.digest)
        return Asked(Entry(approval), withdrawn(approval.created_at))

    async def use(self, asked: Asked, prepared: PreparedCall) -> Used:
        """Use an approval for the very call that it was given for.

        Raises:
            StateUnavailable: nobody knows whether it was used before, so the call must not be made.
        """
        caller, spec = prepared.caller, prepared.spec
        bound = binding(spec.name, str(spec.version), prepared.arguments, caller.run_id)
        operation = secrets.token_hex(8)
        return await self.store.use(caller.tenant, asked.approval.id, bound, operation, keep_s=USED_KEEP_S)


def note_decided(decision: Outcome, seconds: float) -> None:
    """Count that an approval was decided, or has expired, so long after it was asked for."""
    metrics.APPROVALS_DECIDED.labels(decision).inc()
    metrics.APPROVAL_SECONDS.observe(seconds)


def act_on(approval: Approval, caller: ToolCaller, actor: Actor, action: ApprovalAction) -> Act:
    """What `actor` does to an approval, as the audit trail has it."""
    return Act(
        tenant=caller.tenant,
        actor=actor,
        action=action,
        subject_kind="approval",
        subject=approval.id,
        run_id=approval.run_id,
        request_id=caller.request_id or None,
        trace_id=caller.traceparent.split("-")[1] if caller.traceparent else None,
    )
