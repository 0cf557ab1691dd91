"""The audit trail of the caller's tenant: read it, sign its end, export it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response, StreamingResponse

from app.api.access import Admin
from app.api.describe import described
from app.api.listing import Paging
from app.api.schemas.audit import AuditHead, AuditList
from app.api.services import services_of
from app.core.audit import Action, Decision
from app.core.errors import InvalidRequest
from app.core.streams import prime
from app.tools.audit.reading import Filter

router = APIRouter(tags=["Audit"])

_JSON_LINES = "application/jsonl"
_TIMES = ("from", "to")
_FILTERS = (
    "action",
    "decision",
    "actor",
    "subject",
    "run_id",
    "request_id",
    "operation",
    *_TIMES,
    "limit",
    "cursor",
)
_EXPORTED: dict[str, Any] = {
    _JSON_LINES: {"schema": {"type": "string", "description": "A record a line, and an AuditHead as the last one."}}
}

ByAction = Annotated[
    Action | None,
    Query(alias="action", description="Only of this action.", openapi_examples={"any": {"value": "config.reload"}}),
]
ByDecision = Annotated[
    Decision | None, Query(alias="decision", description="Only so decided.", openapi_examples={"done": {"value": "done"}})
]
ByActor = Annotated[
    str | None,
    Query(
        alias="actor",
        min_length=1,
        max_length=200,
        description="Only of this actor: the id or the name of a key.",
        openapi_examples={"local": {"summary": "Everybody, while there are no keys", "value": "local"}},
    ),
]
BySubject = Annotated[
    str | None,
    Query(
        alias="subject",
        min_length=1,
        max_length=300,
        description="Only of this subject: an id, or its kind and its id as `provider:my-mock`.",
        openapi_examples={"provider": {"value": "provider:my-mock"}},
    ),
]
ByRun = Annotated[
    str | None,
    Query(
        alias="run_id",
        max_length=64,
        description="Only of this run.",
        openapi_examples={"some": {"value": "run_000000000000000000000000"}},
    ),
]
ByRequest = Annotated[
    str | None,
    Query(
        alias="request_id", max_length=128, description="Only of this request.", openapi_examples={"some": {"value": "req_1"}}
    ),
]
ByOperation = Annotated[
    str | None,
    Query(
        alias="operation",
        max_length=64,
        description="Only of this operation: what was begun, and its outcome.",
        openapi_examples={"some": {"value": "op_000000000000000000000000"}},
    ),
]
From = Annotated[
    datetime | None,
    Query(
        alias="from",
        description="From this time on; UTC where it says no other.",
        openapi_examples={"some": {"value": "2026-01-01T00:00:00Z"}},
    ),
]
To = Annotated[
    datetime | None,
    Query(alias="to", description="Up to this time, without it.", openapi_examples={"some": {"value": "2100-01-01T00:00:00Z"}}),
]


async def _wanted(
    action: ByAction = None,
    decision: ByDecision = None,
    actor: ByActor = None,
    subject: BySubject = None,
    run_id: ByRun = None,
    request_id: ByRequest = None,
    operation: ByOperation = None,
    since: From = None,
    before: To = None,
) -> Filter:
    return Filter(action, decision, actor, subject, run_id, request_id, operation, _ms(since), _ms(before))


@router.get("/v1/audit", summary="Read the audit trail", openapi_extra=described(AuditList))
async def list_records(request: Request, who: Admin, asked: Paging, wanted: Annotated[Filter, Depends(_wanted)]) -> Response:
    """Who did what: the records of the key's tenant, newest first."""
    _known(request, _FILTERS)
    page = await services_of(request).trail.page(who.tenant, wanted, cursor=asked.cursor, limit=asked.limit)
    data = [orjson.Fragment(record) for record in page.records]
    return _json({"object": "list", "data": data, "next_cursor": page.next_cursor})


@router.get("/v1/audit/head", summary="Sign the end of the audit trail", openapi_extra=described(AuditHead))
async def read_head(request: Request, who: Admin) -> Response:
    """The number and the hash of the newest record, signed. Keep it elsewhere: what is cut off later is found by it."""
    return _json(await services_of(request).trail.head(who.tenant))


@router.get(
    "/v1/audit/export",
    summary="Export the audit trail",
    response_class=Response,
    openapi_extra={
        "responses": {**described()["responses"], "200": {"description": "The records, oldest first.", "content": _EXPORTED}}
    },
)
async def export_records(request: Request, who: Admin, since: From = None, before: To = None) -> Response:
    """Every record of a time as a line of JSON, oldest first, and a signed head as the last line.

    `quorum audit verify --file` checks that without the service. An export without its head broke off.
    """
    _known(request, _TIMES)
    lines = services_of(request).trail.export(who.tenant, since_ms=_ms(since), before_ms=_ms(before))
    primed = await prime(lines, enough=lambda _: True)
    headers = {"content-disposition": f'attachment; filename="audit-{who.tenant}.jsonl"', "cache-control": "no-store"}
    return StreamingResponse(primed, media_type=_JSON_LINES, headers=headers)


def _known(request: Request, names: tuple[str, ...]) -> None:
    """Raises InvalidRequest: a filter that is none would give more than was asked for, and nobody would notice."""
    for name in request.query_params:
        if name not in names:
            raise InvalidRequest(f"{name[:100]!r} is no filter; there are {', '.join(names)}", param=name[:100])


def _ms(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
