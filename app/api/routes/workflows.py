"""Workflows: what there is, storing and removing them, drawing them, and their runs."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import ValidationError
from starlette.responses import Response

from app.api import examples
from app.api.access import Admin, Reader, authorize
from app.api.acts import act_of
from app.api.asking import asked
from app.api.body import read_body, read_json
from app.api.describe import described
from app.api.errors import validation_fault
from app.api.listing import Limit, listed
from app.api.routes.orchestrations import answered, check_together, queued
from app.api.schemas.workflows import (
    WorkflowBody,
    WorkflowDiagram,
    WorkflowEntry,
    WorkflowList,
    WorkflowRunBody,
    WorkflowSummary,
)
from app.api.services import Services, services_of
from app.config.document import Fault, parse
from app.config.workflows import WorkflowConfig
from app.core.audit import recorded
from app.core.errors import InvalidRequest, NotFound
from app.core.lifecycle import TICKET, Ticket
from app.core.messages import user
from app.core.runs import OrchestrationConfig, OrchestrationOutput, RunRequest
from app.workflows.action_checks import schema_of_inputs
from app.workflows.drawing import drawn
from app.workflows.keeping import checked
from app.workflows.library import Found, Listed, said_of

router = APIRouter(tags=["Workflows"])

_STATES = {"step.started": "running", "step.skipped": "skipped"}

WorkflowName = Annotated[
    str,
    Path(
        max_length=80,
        description="`name`, the newest version; or `name@2`.",
        openapi_examples={"stored": {"summary": "Store it first", "value": "greeting"}},
    ),
]

Cursor = Annotated[
    str,
    Query(
        max_length=80,
        description="`next_cursor` of the page before.",
        openapi_examples={"first": {"summary": "The first page", "value": ""}},
    ),
]


@router.get("/v1/workflows", summary="Workflows", openapi_extra=described(WorkflowList))
async def list_workflows(request: Request, who: Reader, cursor: Cursor = "", limit: Limit = 20) -> Response:
    """The workflows of the configuration, and those that the tenant has stored, by name."""
    page = await services_of(request).keeping.page(who.tenant, cursor=cursor or None, limit=limit)
    return listed(page, _summary)


@router.post(
    "/v1/workflows",
    status_code=201,
    summary="Store a workflow",
    openapi_extra=described(WorkflowEntry, body=WorkflowBody, examples=examples.WORKFLOWS, status=201),
)
async def store_workflow(request: Request, who: Admin) -> Response:
    """Check a definition, JSON or YAML by its content type, and store it for the tenant, as another version where there is one.

    Every fault is told with its place. With `validate_only` nothing is stored, and the answer is a 200.
    """
    services = services_of(request)
    body = await _definition(request, services)
    config = WorkflowConfig.model_validate(
        body.model_dump(exclude={"name", "validate_only"}, exclude_unset=True, by_alias=True)
    )
    checked(services.library, who.tenant, body.name, config)
    if body.validate_only:
        return _json(_entry(services, who.tenant, Found(body.name, 0, config, "stored"), ()))
    facts = {"digest": services.audit.digest(config.model_dump(mode="json"))}
    async with recorded(services.audit, act_of(request, who, "workflow.store", "workflow", body.name), facts):
        found = await services.keeping.put(who.tenant, body.name, config)
    return _json(_entry(services, who.tenant, found, ()), 201)


@router.get("/v1/workflows/{name}", summary="A workflow", openapi_extra=described(WorkflowEntry))
async def read_workflow(request: Request, name: WorkflowName, who: Reader) -> Response:
    """One workflow with its definition and its diagram."""
    services = services_of(request)
    found = services.library.find(who.tenant, name)
    return _json(_entry(services, who.tenant, found, services.library.faults(who.tenant, found)))


@router.delete("/v1/workflows/{name}", status_code=204, summary="Remove a workflow", openapi_extra=described(status=204))
async def remove_workflow(request: Request, name: WorkflowName, who: Admin) -> Response:
    """Remove every version of a workflow that the tenant has stored."""
    services = services_of(request)
    async with recorded(services.audit, act_of(request, who, "workflow.remove", "workflow", name)):
        await services.keeping.remove(who.tenant, name)
    return Response(status_code=204)


@router.get("/v1/workflows/{name}/diagram", summary="Draw a workflow", openapi_extra=described(WorkflowDiagram))
async def draw_workflow(
    request: Request,
    name: WorkflowName,
    who: Reader,
    run_id: Annotated[
        str,
        Query(
            max_length=80,
            description="How the steps of this run stand; without it none is shown.",
            openapi_examples={"none": {"summary": "The workflow itself", "value": ""}},
        ),
    ] = "",
) -> Response:
    """The workflow as a Mermaid flowchart; with a `run_id`, in the version of that run, which must be kept, and its state."""
    services = services_of(request)
    found, states = services.library.find(who.tenant, name), dict[str, str]()
    if run_id:
        ran, states = await _states(services, who.tenant, run_id)
        if ran["workflow"] != found.name:
            raise NotFound(f"{run_id} is a run of the workflow {ran['workflow']!r}", param="run_id")
        if ran["version"] != found.version:
            found = services.library.find(who.tenant, f"{found.name}@{ran['version']}")
    diagram: WorkflowDiagram = {
        "object": "workflow.diagram",
        "name": found.name,
        "version": found.version,
        "run_id": run_id or None,
        "mermaid": drawn(found.config, states),
        "steps": {step: states.get(step, "waiting") for step in found.config.steps},
    }
    return _json(diagram)


@router.post(
    "/v1/workflows/{name}/runs",
    summary="Run a workflow",
    openapi_extra=described(
        OrchestrationOutput,
        body=WorkflowRunBody,
        examples=examples.WORKFLOW_RUNS,
        stream="Run events: `step.*` as steps begin and end; `run.finished` or `run.failed` last.",
    ),
)
async def run_workflow(request: Request, name: WorkflowName) -> Response:
    """Run a workflow: as `POST /v1/orchestrations` with the strategy `workflow`.

    With an `Idempotency-Key`, or with `background`, it survives its process: another one goes on after the last step that is
    over.
    """
    services = services_of(request)
    who = authorize(request, services, "run")
    told = asked(request, who)
    body = await read_json(request, WorkflowRunBody, services)
    watched = body.stream or "text/event-stream" in request.headers.get("accept", "")
    ticket: Ticket | None = request.scope.get(TICKET)
    if ticket is None or ticket.epoch == 1:  # one that goes on has the definition that it began with
        services.library.find(who.tenant, name)
    check_together(body, watched=watched)
    if body.background:
        return await queued(request, services, who, body.as_orchestration(name))
    asking = RunRequest(
        OrchestrationConfig("workflow", options={"workflow": name, "inputs": body.inputs}),
        (user(orjson.dumps(body.inputs).decode()),),
        budget=body.budget.to_core(body.on_budget),
        cache=body.cache,
        deltas="all" if watched else "none",
        metadata=body.metadata,
        **told,
    )
    return await answered(request, services, asking, watched=watched, on_disconnect=body.on_disconnect)


def _summary(one: Listed) -> WorkflowSummary:
    return {
        "name": one.name,
        "object": "workflow",
        "version": one.versions[-1],
        "versions": list(one.versions),
        "source": one.source,
        "stored": one.source == "stored",
        "created_at": one.created_at,
        "description": one.description,
    }


def _entry(services: Services, tenant: str, found: Found, faults: tuple[Fault, ...]) -> WorkflowEntry:
    config = found.config
    return {
        "name": found.name,
        "object": "workflow",
        "version": found.version,
        "versions": list(services.library.versions(tenant, found.name)),
        "source": found.source,
        "stored": found.source == "stored" and found.version > 0,
        "created_at": found.created_at,
        "description": config.description,
        "input_schema": dict(schema_of_inputs(config)),
        "definition": config.model_dump(mode="json", by_alias=True, exclude_unset=True),
        "diagram": drawn(config),
        "faults": [said_of(fault) for fault in faults],
    }


async def _definition(request: Request, services: Services) -> WorkflowBody:
    """The body, which may be YAML.

    Raises:
        InvalidRequest: it is neither, or has another shape.
    """
    if "yaml" not in request.headers.get("content-type", ""):
        return await read_json(request, WorkflowBody, services)
    content = await read_body(request, services.library.limits.max_bytes, services.settings.body_s)
    document = parse(content.decode("utf-8", "replace"), {}, literal=())
    if document.faults:
        place = document.faults[0].place or document.place(document.faults[0].path)
        raise InvalidRequest(f"line {place.line}, column {place.column}: {document.faults[0].message}")
    try:
        return WorkflowBody.model_validate(document.value)
    except ValidationError as error:
        raise validation_fault(error, document.value) from None


async def _states(services: Services, tenant: str, run_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What a run does (`workflow`, `version`), and how its steps stand, by its log.

    Raises:
        NotFound: no such run is kept, or it is no workflow's.
    """
    found: dict[str, str] = {}
    ran: dict[str, Any] = {"workflow": None, "version": 0}
    if orjson.loads(await services.runs.read(tenant, run_id))["strategy"] != "workflow":
        raise NotFound(f"{run_id} is no run of a workflow", param="run_id")
    for event in await services.runs.logged(tenant, run_id):
        said = orjson.loads(event.data)
        match event.type:
            case "plan.made":
                ran = said["plan"]["options"]
            case "step.finished":
                found[said["step"]] = said["result"]["status"]
            case "step.compensated" if said["action"] == "undo":
                found[said["step"]] = "undone"
            case "run.failed":
                found = {step: "failed" if state == "running" else state for step, state in found.items()}
            case "run.paused":
                found = {step: "halted" if state == "running" else state for step, state in found.items()}
            case "run.restarted":
                found = {step: state for step, state in found.items() if state not in ("running", "halted")}
            case _ if event.type in _STATES:
                found[said["step"]] = _STATES[event.type]
            case _:
                pass
    return ran, found


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
