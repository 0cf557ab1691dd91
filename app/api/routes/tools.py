"""Tools: what there is, who may use it, and running one directly."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.api import examples
from app.api.access import ToolUser
from app.api.asking import asked
from app.api.body import read_json, wanted
from app.api.describe import described
from app.api.ratelimit import ratelimit_headers
from app.api.schemas.tools import ToolAnswer, ToolCallRequestBody, ToolEntry, ToolList, ToolPermission
from app.api.services import Services, services_of
from app.core.budgets import NOTHING
from app.core.errors import ConflictError
from app.core.lifecycle import TICKET, UNREPEATABLE, Ticket
from app.core.principal import Principal
from app.core.tools import PermissionDecision, ToolCaller, ToolResult
from app.tools.describing import describe
from app.tools.execution import PreparedCall, approved, raised
from app.tools.registry import Registered

router = APIRouter(tags=["Tools"])

ToolName = Annotated[
    str,
    Path(
        max_length=128,
        description="`name`, the newest version; or `name@1`, `name@1.2`, `name@1.2.0`.",
        openapi_examples={"calculator": {"value": "calculator"}, "version": {"value": "calculator@1"}},
    ),
]


@router.get("/v1/tools", summary="Tools", openapi_extra=described(ToolList))
async def list_tools(request: Request, who: ToolUser) -> Response:
    """Every version of every tool of the service, with its schemas, and whether this key may have it run."""
    services = services_of(request)
    caller = _caller(request, who)
    data = [await _entry(services, registered, caller) for registered in services.tools.all()]
    return _json({"object": "list", "data": data, "next_cursor": None})


@router.get("/v1/tools/{name}", summary="A tool", openapi_extra=described(ToolEntry))
async def read_tool(request: Request, name: ToolName, who: ToolUser) -> Response:
    """One tool: the newest version, or that which `name@version` names."""
    services = services_of(request)
    return _json(await _entry(services, services.tools.find(name), _caller(request, who)))


@router.post(
    "/v1/tools/{name}/execute",
    summary="Run a tool",
    openapi_extra=described(ToolAnswer, body=ToolCallRequestBody, examples=examples.TOOLS),
)
async def execute_tool(request: Request, name: ToolName, who: ToolUser) -> Response:
    """Run a tool with these arguments, where a permission allows it.

    With an idempotency key a tool that writes runs at most once: its answer is kept whatever it is, and where its process died,
    the request is answered with 409 `effect_uncertain` instead of being run again.
    """
    services = services_of(request)
    body = await read_json(request, ToolCallRequestBody, services)
    prepared = await services.tools.prepare(name, body.arguments, _caller(request, who))
    approved(prepared.decision)
    permit, used = await services.engine.admit_call(prepared.spec, prepared.caller), NOTHING
    try:
        _at_most_once(request, prepared, services)
        used = NOTHING if permit is None else permit.claim.ask
        result = await wanted(request, services.tools.run(prepared))
        used = NOTHING if result.untried else used
        if permit is not None:  # before the caller hears of the end, and may ask again
            await permit.settle(used)
    finally:
        if permit is not None:
            permit.settle_later(used)
    headers = {} if permit is None else ratelimit_headers(permit.quotas)
    return _json(_answer(raised(result), request.scope["request_id"]), headers)


def _at_most_once(request: Request, prepared: PreparedCall, services: Services) -> None:
    """Sees to it that a keyed request runs a tool that writes in its first process only.

    Raises:
        ConflictError: another process has begun it, and nobody knows how far it came.
    """
    if prepared.spec.side_effect != "write":
        return
    request.scope[UNREPEATABLE] = True
    ticket: Ticket | None = request.scope.get(TICKET)
    if ticket is not None and ticket.epoch > 1:
        services.tools.uncertain(prepared)
        message = (
            f"the process that ran {prepared.spec.reference!r} for this key has died: whether it took effect is not known. "
            "Look whether it did, and ask again with a new key if not"
        )
        raise ConflictError(message, code="effect_uncertain", param="Idempotency-Key")


def _caller(request: Request, who: Principal) -> ToolCaller:
    told = asked(request, who)
    return ToolCaller(
        tenant=who.tenant,
        scopes=who.scopes,
        key_id=who.key_id,
        key_name=who.name,
        address=told["address"],
        request_id=told["request_id"],
        traceparent=told["traceparent"],
        deadline=told["deadline"],
    )


async def _entry(services: Services, registered: Registered, caller: ToolCaller) -> ToolEntry:
    spec = registered.spec
    decision = await services.tools.decide(registered, caller)
    return {
        "name": spec.name,
        "object": "tool",
        "version": str(spec.version),
        "versions": [str(one.spec.version) for one in services.tools.versions(spec.name)],
        "description": spec.description,
        "documentation": describe(spec),
        "source": spec.source,
        "side_effect": spec.side_effect,
        "input_schema": dict(spec.input_schema),
        "output_schema": None if spec.output_schema is None else dict(spec.output_schema),
        "timeout_s": spec.timeout_s,
        "cost_usd": spec.cost_usd,
        "max_calls": spec.max_calls,
        "scopes": sorted(spec.scopes),
        "deprecated": spec.deprecated,
        "unavailable": registered.tool.unavailable,
        "permission": _permission(decision),
    }


def _permission(decision: PermissionDecision) -> ToolPermission:
    effect = "depends" if decision.depends else decision.effect
    return {"effect": effect, "rule": decision.rule, "reason": decision.reason}


def _answer(result: ToolResult, request_id: str) -> ToolAnswer:
    return {
        "object": "tool.result",
        "tool": result.tool,
        "version": result.version,
        "result": result.value,
        "truncated": result.truncated,
        "latency_ms": round(result.latency_ms, 3),
        "cost_usd": result.cost_usd,
        "warnings": list(result.warnings),
        "request_id": request_id,
        "created_at": int(result.started_at),
    }


def _json(value: Any, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers=headers)
