"""Approvals: list the calls of tools that wait for a person, read one, decide it."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from app.api import examples
from app.api.access import ReaderOfReviews, Reviewer
from app.api.acts import act_of
from app.api.body import read_json
from app.api.describe import described
from app.api.listing import Paging, listed
from app.api.schemas.approvals import ApprovalBody, ApprovalDecision, ApprovalEntry, ApprovalList
from app.api.services import services_of
from app.core.approvals import ApprovalStatus
from app.core.audit import Decision as Recorded
from app.core.audit import recorded
from app.core.lifecycle import TICKET, Ticket
from app.orchestration.approving.approvals import Filter
from app.orchestration.approving.entries import Asked, DecisionKind, bound_to

router = APIRouter(tags=["Approvals"])

_RECORDED: dict[DecisionKind, Recorded] = {"approve": "approved", "edit": "edited", "deny": "denied"}

ApprovalId = Annotated[
    str,
    Path(
        alias="id",
        description="`latest` is the newest that is pending, else the newest.",
        openapi_examples={"latest": {"summary": "The newest; run the example 'approval' first", "value": "latest"}},
    ),
]
Status = Annotated[
    ApprovalStatus | None, Query(description="Only of this status.", openapi_examples={"pending": {"value": "pending"}})
]
RunId = Annotated[str | None, Query(max_length=64, description="Only of this run.", openapi_examples={"any": {"value": ""}})]
Tool = Annotated[
    str | None,
    Query(max_length=64, description="Only of the tool of this name.", openapi_examples={"any": {"value": ""}}),
]


async def _wanted(status: Status = None, run_id: RunId = None, tool: Tool = None) -> Filter:
    return Filter(status, run_id or None, tool or None)


@router.get("/v1/approvals", summary="List what needs an approval", openapi_extra=described(ApprovalList))
async def list_approvals(
    request: Request, who: ReaderOfReviews, asked: Paging, wanted: Annotated[Filter, Depends(_wanted)]
) -> Response:
    """The calls of tools, of the key's tenant, that wait or have waited for a person; newest first."""
    page = await services_of(request).approvals.page(who.tenant, wanted, cursor=asked.cursor, limit=asked.limit)
    return listed(page, _entry)


@router.get("/v1/approvals/{id}", summary="Read an approval", openapi_extra=described(ApprovalEntry))
async def read_approval(request: Request, approval_id: ApprovalId, who: ReaderOfReviews) -> Response:
    """Which tool is to be called with what, why that needs a person, and what was decided."""
    asked = await services_of(request).approvals.read(who.tenant, approval_id)
    return Response(orjson.dumps(_entry(asked)), media_type="application/json")


@router.post(
    "/v1/approvals/{id}",
    summary="Decide an approval",
    openapi_extra=described(ApprovalEntry, body=ApprovalBody, examples=examples.APPROVALS),
)
async def decide_approval(request: Request, approval_id: ApprovalId, who: Reviewer) -> Response:
    """Approve the call, approve it with other arguments, or deny it. Once: a second decision is 409. Where the run waits for no
    other, it goes on at once."""
    services = services_of(request)
    body = await read_json(request, ApprovalBody, services)
    ticket: Ticket | None = request.scope.get(TICKET)
    decided = body.to_core(request.scope["request_id"], ticket.digest if ticket else "")
    entry = (await services.approvals.read(who.tenant, approval_id)).entry
    approval = entry.approval
    facts = {
        "decision": body.decision,
        "tool": f"{approval.tool}@{approval.version}",
        "hash": bound_to(entry, body.arguments),
        "approver": body.approver,
    }
    edit = {"arguments": services.audit.digest(body.arguments)} if body.arguments is not None else {}
    act = act_of(request, who, "approval.decide", "approval", approval.id, run_id=approval.run_id)
    async with recorded(services.audit, act, facts | edit) as outcome:
        asked = await services.approvals.decide(who, entry, decided)
        outcome.decision = _RECORDED[body.decision]
    return Response(orjson.dumps(_entry(asked)), media_type="application/json")


def _entry(asked: Asked) -> ApprovalEntry:
    entry, approval = asked.entry, asked.approval
    return {
        "id": approval.id,
        "object": "approval",
        "status": approval.status,
        "run_id": approval.run_id,
        "call_id": approval.call_id,
        "step": approval.step,
        "tool": approval.tool,
        "version": approval.version,
        "side_effect": approval.side_effect,
        "arguments": dict(approval.arguments),
        "hash": approval.hash,
        "reason": approval.reason,
        "recipe": entry.recipe,
        "asked_by": entry.key_name,
        "request_id": entry.request_id,
        "created_at": int(approval.created_at),
        "expires_at": int(approval.expires_at),
        "decision": _decision(asked),
    }


def _decision(asked: Asked) -> ApprovalDecision | None:
    decision = asked.decision
    if decision is None:
        return None
    return {
        "decision": decision.decision,
        "arguments": dict(decision.arguments) if decision.arguments is not None else None,
        "reason": decision.reason,
        "by": decision.by,
        "approver": decision.approver,
        "decided_at": int(decision.at),
    }
