"""Bodies and answers of approvals."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import TypedDict

from app.api.schemas.messages import Body
from app.core.approvals import ApprovalStatus
from app.core.tools import SideEffect
from app.orchestration.approving.approvals import Decided
from app.orchestration.approving.entries import DecisionKind


class ApprovalBody(Body):
    """A decision: the call is made (`approve`), made with other arguments (`edit`), or not made (`deny`)."""

    decision: DecisionKind
    arguments: dict[str, Any] | None = Field(
        default=None, description="For `edit`: those that it is made with; held to the tool's schema. The model is told."
    )
    reason: str | None = Field(
        default=None, max_length=2_000, description="Why; kept, and told to the model where it is denied."
    )
    approver: str | None = Field(
        default=None, min_length=1, max_length=200, description="Who decides, where that is not the key's owner."
    )
    hash: str | None = Field(
        default=None,
        min_length=64,
        max_length=64,
        description="Of the call as who decides has seen it: 409 where it is another.",
    )

    @model_validator(mode="after")
    def _fits(self) -> ApprovalBody:
        given, wanted = self.arguments is not None, self.decision == "edit"
        if given != wanted:
            raise ValueError(f"arguments is for 'edit', which {'wants it' if wanted else 'this is not'}")
        return self

    def to_core(self, request_id: str, operation: str) -> Decided:
        return Decided(self.decision, self.arguments, self.reason, self.approver, self.hash, request_id, operation)


class ApprovalDecision(TypedDict):
    """`by` is the key's name, `approver` who it said it was. Time in seconds since the epoch."""

    decision: str
    arguments: dict[str, Any] | None
    reason: str | None
    by: str
    approver: str | None
    decided_at: int


class ApprovalEntry(TypedDict):
    """A call of a tool that waits, or has waited, for a person. `hash` is over tool, version, arguments and run: the approval
    holds for that call alone, once. Times in seconds since the epoch."""

    id: str
    object: Literal["approval"]
    status: ApprovalStatus
    run_id: str
    call_id: str
    step: int
    tool: str
    version: str
    side_effect: SideEffect
    arguments: dict[str, Any]
    hash: str
    reason: str
    recipe: str | None
    asked_by: str
    request_id: str
    created_at: int
    expires_at: int
    decision: ApprovalDecision | None


class ApprovalList(TypedDict):
    object: Literal["list"]
    data: list[ApprovalEntry]
    next_cursor: str | None
