"""`POST /v1/orchestrations/{id}/signals`: what runs wait for from outside."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.api import examples
from app.api.access import Runner
from app.api.acts import act_of
from app.api.body import read_json
from app.api.describe import described
from app.api.routes.runs import checked_id
from app.api.schemas.workflows import SignalBody, SignalEntry
from app.api.services import Services, services_of
from app.core.audit import recorded
from app.core.errors import NotFound
from app.core.run_json import json_bytes

router = APIRouter(tags=["Workflows"])

RunId = Annotated[
    str,
    Path(
        alias="id",
        description="`latest` is the newest run of a workflow that waits.",
        openapi_examples={"latest": {"summary": "The newest that waits; run the workflow `errand` first", "value": "latest"}},
    ),
]


@router.post(
    "/v1/orchestrations/{id}/signals",
    summary="Send a run a signal",
    openapi_extra=described(SignalEntry, body=SignalBody, examples=examples.SIGNALS),
)
async def send_signal(request: Request, run_id: RunId, who: Runner) -> Response:
    """Tell a run what it waits for, or will wait for, by name, once; the same again is answered as it was.

    The payload must fit what the workflow says of it. A run that waits goes on, on any replica.
    """
    services = services_of(request)
    body = await read_json(request, SignalBody, services)
    run_id = await _waiting(services, who.tenant) if run_id == "latest" else checked_id(run_id)
    act = act_of(request, who, "run.signal", "run", run_id, run_id=run_id)
    details = {"signal": body.name, "payload": services.audit.digest(body.payload)}
    async with recorded(services.audit, act, details):
        signal = await services.signals.send(who.tenant, run_id, body.name, body.payload, who.name)
    entry: SignalEntry = {
        "object": "signal",
        "run_id": run_id,
        "name": signal.name,
        "payload": signal.payload,
        "created_at": signal.at,
        "by": signal.by,
    }
    return Response(json_bytes(entry), media_type="application/json")


async def _waiting(services: Services, tenant: str) -> str:
    page = await services.runs.page(tenant, cursor=None, limit=100, status="needs_approval", strategy="workflow")
    if not page.found:
        raise NotFound("no run of a workflow waits", param="id")
    return page.found[0].run_id
