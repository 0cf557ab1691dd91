"""`POST /v1/orchestrations`: our own dialect."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.access import authorize
from app.api.asking import asked, begin, hosted, location_of, result_of, run_headers
from app.api.body import read_json
from app.api.describe import described
from app.api.errors import problem
from app.api.examples import ESTIMATES, ORCHESTRATIONS
from app.api.plain import PlainRoute
from app.api.queued import config_of
from app.api.schemas.orchestrations import OrchestrationBody
from app.api.schemas.workflows import WorkflowRunBody
from app.api.services import Services, services_of
from app.core.errors import InvalidRequest
from app.core.jobs import QueuedRequest
from app.core.lifecycle import TICKET, Ticket
from app.core.principal import Principal
from app.core.run_json import json_bytes
from app.core.runs import OrchestrationConfig, OrchestrationOutput, RunRequest
from app.orchestration.estimating import Estimate
from app.orchestration.runs.run_log import OnDisconnect

router = APIRouter(route_class=PlainRoute, tags=["Orchestrations"])


@router.post(
    "/v1/orchestrations",
    summary="Run a strategy or a recipe",
    response_class=Response,
    openapi_extra=described(
        OrchestrationOutput,
        body=OrchestrationBody,
        examples=ORCHESTRATIONS,
        stream="Run events: every candidate's deltas, then the output's; `run.finished` or `run.failed` last.",
    ),
)
async def orchestrate(request: Request) -> Response:
    """Put a prompt to several models and get one answer, with every candidate. JSON, or events as they happen; with
    `background` 202 with the queued run, which is read, followed and cancelled at its `Location`."""
    services = services_of(request)
    principal = authorize(request, services, "run")
    who = asked(request, principal)  # before the body is read: its deadline counts from here
    body = await read_json(request, OrchestrationBody, services)
    watched = body.stream or "text/event-stream" in request.headers.get("accept", "")
    check_together(body, watched=watched)
    if body.background:
        return await queued(request, services, principal, body)
    asking = body.to_core(_config(body, services), deltas="all" if watched else "none", **who)
    return await answered(request, services, asking, watched=watched, on_disconnect=body.on_disconnect)


async def answered(
    request: Request, services: Services, asking: RunRequest, *, watched: bool, on_disconnect: OnDisconnect | None
) -> Response:
    """The answer of a run, or its events where it is `watched`.

    Raises:
        QuorumError: it is refused.
    """
    ticket: Ticket | None = request.scope.get(TICKET)
    keyed = ticket is not None
    if ticket is not None and not ticket.own and on_disconnect == "cancel":
        message = "on_disconnect is 'cancel', but a run with an Idempotency-Key goes on without its reader; leave one out"
        raise InvalidRequest(message, param="on_disconnect")
    if on_disconnect == "continue" and not (watched or keyed):
        message = "on_disconnect is 'continue', which needs `stream: true`: a run that answers with JSON ends with its request"
        raise InvalidRequest(message, param="on_disconnect")
    begun = await begin(request, services, asking)
    if watched:
        return await hosted(request, services, begun, on_disconnect or "cancel")
    run, result = begun.run, await result_of(request, services, begun)
    if result.error:
        return problem(result.error, request.scope["request_id"], run_id=run.id, result=result, headers=run_headers(run))
    if result.status in ("needs_approval", "running"):
        headers = {**run_headers(run, result), **location_of(run.id)}
        return Response(json_bytes(result), 202, media_type="application/json", headers=headers)
    return Response(json_bytes(result), media_type="application/json", headers=run_headers(run, result))


@router.post(
    "/v1/orchestrations/estimate",
    summary="What a run would cost and take",
    response_class=Response,
    openapi_extra=described(Estimate, body=OrchestrationBody, examples=ESTIMATES),
)
async def estimate(request: Request) -> Response:
    """The plan of a body of `POST /v1/orchestrations`, at its worst and as expected, and whether it would be admitted now.

    Nothing is called, and nothing is reserved.
    """
    services = services_of(request)
    principal = authorize(request, services, "run")
    body = await read_json(request, OrchestrationBody, services)
    asking = body.to_core(_config(body, services), deltas="none", **asked(request, principal))
    if asking.conversation_id is not None:
        asking = await services.conversations.seen_by(asking)
    found = await services.engine.estimate(asking)
    return Response(json_bytes(found), media_type="application/json")


def check_together(body: OrchestrationBody | WorkflowRunBody, *, watched: bool) -> None:
    """Raises InvalidRequest: members that mean nothing without a background run, or nothing with one."""
    if body.background:
        if watched:
            message = "background and stream are two ways to answer: leave one out, and follow the run's events at its Location"
            raise InvalidRequest(message, param="stream")
        if body.on_disconnect == "cancel":
            raise InvalidRequest("on_disconnect is 'cancel', but a background run has no reader to lose", param="on_disconnect")
        return
    for name, given in (("webhook", body.webhook is not None), ("priority", body.priority != "normal")):
        if given:
            raise InvalidRequest(f"{name} is for background runs: set background to true, or leave it out", param=name)


async def queued(request: Request, services: Services, principal: Principal, body: OrchestrationBody) -> Response:
    """Accept a run, which some worker runs when it is its turn. What can be refused is refused now."""
    ticket: Ticket | None = request.scope.get(TICKET)
    who = asked(request, principal)
    asking = body.to_core(_config(body, services), deltas="all", **who)
    if asking.conversation_id is not None:
        asking = await services.conversations.seen_by(asking)  # when it is its turn, it joins it
    run = services.engine.begin(asking, ticket.run_id if ticket else None)
    held = QueuedRequest(
        "/v1/orchestrations",
        orjson.dumps(body.model_dump(mode="json", exclude_unset=True)),
        principal,
        asking.request_id,
        asking.traceparent,
        None if who["deadline"] is None else services.clock.now() + who["deadline"] - services.clock.monotonic(),
        asking.address,
        body.webhook,
        ticket.digest if ticket else "",
    )
    known = await services.jobs.background.put(run, held, body.priority)
    return Response(json_bytes(known), 202, {**run_headers(run), **location_of(run.id)}, "application/json")


def _config(body: OrchestrationBody, services: Services) -> OrchestrationConfig:
    return config_of(body, services.engine.targets)
