"""An approval as it is stored: what was asked on whose behalf, and what was decided. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import orjson

from app.core.approvals import Approval, ApprovalStatus, binding
from app.core.chat import JsonObject
from app.core.errors import Forbidden
from app.core.run_json import json_bytes
from app.state.approvals import StoredApproval

DecisionKind = Literal["approve", "edit", "deny"]
Outcome = Literal[DecisionKind, "expire", "withdraw"]
_STATUS: Final[dict[Outcome, ApprovalStatus]] = {
    "approve": "approved",
    "edit": "edited",
    "deny": "denied",
    "expire": "expired",
    "withdraw": "withdrawn",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """What was asked. `key_id` and `key_name` are those of the key whose run it is; `digest` names the run's request."""

    approval: Approval
    key_id: str = ""
    key_name: str = ""
    recipe: str | None = None
    request_id: str = ""
    digest: str = ""

    def as_json(self) -> bytes:
        return json_bytes(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of it: `hash` is what it holds for, `arguments` those of an edit. `by` and `key_id` are the key's, `approver`
    who the caller says it was; `operation` tells a repetition from a second decision."""

    decision: Outcome
    at: float
    by: str
    key_id: str = ""
    hash: str = ""
    arguments: JsonObject | None = None
    reason: str | None = None
    approver: str | None = None
    request_id: str = ""
    operation: str = ""

    def as_json(self) -> bytes:
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Asked:
    """An entry with its decision, None while it is pending; `approval` is how it stands."""

    entry: Entry
    decision: Decision | None = None

    @property
    def approval(self) -> Approval:
        approval, decision = self.entry.approval, self.decision
        if decision is None:
            return approval
        return replace(
            approval,
            status=_STATUS[decision.decision],
            by=decision.approver or decision.by,
            comment=decision.reason,
            edited=decision.arguments,
        )


def bound_to(entry: Entry, edited: Mapping[str, Any] | None) -> str:
    """The hash of the call that a decision holds for: the one that was asked for, or with the arguments that are put in place
    of its own, which may be none."""
    approval = entry.approval
    return binding(approval.tool, approval.version, approval.arguments if edited is None else edited, approval.run_id)


def read_asked(stored: StoredApproval, now: float) -> Asked:
    """What `Entry.as_json` and `Decision.as_json` made; one that nobody has decided in time is expired."""
    value: Any = orjson.loads(stored.entry)
    expires_at = stored.expires_ms / 1000
    entry = Entry(**value | {"approval": Approval(**value["approval"] | {"expires_at": expires_at})})
    if stored.decision:
        return Asked(entry, Decision(**orjson.loads(stored.decision)))
    return Asked(entry, expired(expires_at) if expires_at <= now else None)


def refusal_of(asked: Asked) -> Forbidden | None:
    """What is said of a call that was not approved; None where it was, or nobody has decided yet."""
    approval, tool = asked.approval, f"{asked.approval.tool}@{asked.approval.version}"
    match approval.status:
        case "denied" | "withdrawn":
            said = f": {approval.comment}" if approval.comment else ""
            return Forbidden(f"a person has denied this call of {tool!r}{said}; it was not run", code="approval_denied")
        case "expired":
            message = f"nobody has approved this call of {tool!r} in time; it was not run"
            return Forbidden(message, code="approval_expired")
        case "pending" | "approved" | "edited":
            return None


def expired(at: float) -> Decision:
    """What stands where nobody has decided in time."""
    return Decision("expire", at, "service")


def withdrawn(at: float) -> Decision:
    """What stands where the run has ended before anybody had decided."""
    return Decision("withdraw", at, "service")
