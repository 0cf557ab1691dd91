"""`/v1/batches`: many requests at once, in and out as lines of JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import ValidationError
from starlette.responses import Response, StreamingResponse

from app.api.access import Reader, Runner, authorize
from app.api.body import read_json
from app.api.describe import described
from app.api.errors import validation_fault
from app.api.examples import BATCHES
from app.api.listing import Paging, listed
from app.api.plain import PlainRoute
from app.api.schemas.batches import BatchAnswer, BatchBody, BatchDefaults, BatchList
from app.api.schemas.jobs import DeliveryList
from app.api.services import Services, services_of
from app.api.uploading import LineReader, body_lines, parsed
from app.core.errors import InvalidRequest, NotFound
from app.core.principal import Principal
from app.jobs.batch_upload import BatchOrder
from app.jobs.batches import shown
from app.state.batches import BatchRecord

router = APIRouter(tags=["Batches"])
uploads = APIRouter(route_class=PlainRoute, tags=["Batches"])

_LATEST = "latest"
_ID = re.compile(r"batch_[0-9a-f]{24}")
_JSONL = ("application/x-ndjson", "application/jsonl", "application/jsonlines")
_OF_LINES = ("strategy", "recipe", "models", "options", "generation")

BatchId = Annotated[
    str,
    Path(
        alias="id",
        description="`latest` is the newest.",
        openapi_examples={"latest": {"summary": "The newest; upload one first", "value": _LATEST}},
    ),
]
Only = Annotated[
    Literal["succeeded", "failed"] | None,
    Query(description="Only these.", openapi_examples={"good": {"value": "succeeded"}}),
]


@uploads.post(
    "/v1/batches",
    summary="Upload a batch",
    response_class=Response,
    openapi_extra=described(BatchAnswer, body=BatchBody, examples=BATCHES, status=202),
)
async def upload_batch(request: Request) -> Response:
    """Take many requests, to be run in the background. As JSON with `items`, or, for many, as lines of JSON
    (`Content-Type: application/x-ndjson`) with `strategy`, `recipe`, `priority` and `webhook` in the query."""
    services = services_of(request)
    principal = authorize(request, services, "run")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    limits = services.engine.spec.limits
    if kind in _JSONL:
        given = _query(request)
        batches = services.engine.spec.batches
        lines = body_lines(
            request, most_bytes=batches.max_bytes, most_line=limits.max_body_bytes, idle_s=services.settings.body_s
        )
        items: AsyncIterator[Any] = parsed(lines, limits.max_json_depth)
        metadata: Mapping[str, Any] = {}
        defaults = {name: value for name in ("strategy", "recipe") if (value := getattr(given, name)) is not None}
    elif "json" not in kind:
        said = f"send lines of JSON with Content-Type: {_JSONL[0]}, or `items` as application/json"
        message = f"the body is {kind[:100]!r}; {said}"
        raise InvalidRequest(message, code="unsupported_media_type")
    else:
        body = await read_json(request, BatchBody, services)
        given, items, metadata = body, _each(body.items), body.metadata
        defaults = {name: value for name in _OF_LINES if (value := getattr(body, name))}
    about = {"strategy": given.strategy, "recipe": given.recipe, "priority": given.priority, "metadata": metadata}
    address = request.client.host if request.client else None
    order = BatchOrder(principal, about, given.priority, given.webhook, address)
    batch = await _uploaded(services, order, items, LineReader(services.jobs.dialects, principal, defaults))
    return _json(shown(batch), 202, {"location": f"/v1/batches/{batch.id}"})


async def _uploaded(services: Services, order: BatchOrder, items: AsyncIterator[Any], reader: LineReader) -> BatchRecord:
    upload = await services.jobs.batches.upload(order)
    try:
        async for item in items:
            line, providers = reader.read(item)
            await upload.add(line, providers)
        return await upload.finish()
    except BaseException:
        await upload.drop()
        raise


async def _each(items: list[dict[str, Any]]) -> AsyncGenerator[dict[str, Any]]:
    for item in items:
        yield item


def _query(request: Request) -> BatchDefaults:
    given = dict(request.query_params)
    try:
        return BatchDefaults.model_validate(given)
    except ValidationError as error:
        raise validation_fault(error, given) from None


@router.get("/v1/batches", summary="List batches", openapi_extra=described(BatchList))
async def list_batches(request: Request, who: Reader, asked: Paging) -> Response:
    """The batches of the key's tenant that are kept, newest first."""
    page = await services_of(request).jobs.batches.page(who.tenant, cursor=asked.cursor, limit=asked.limit)
    return listed(page, shown)


@router.get("/v1/batches/{id}", summary="Read a batch", openapi_extra=described(BatchAnswer))
async def read_batch(request: Request, batch_id: BatchId, who: Reader) -> Response:
    """How far it is, and what it has used."""
    services = services_of(request)
    return _json(shown(await _found(services, who, batch_id)))


@router.get(
    "/v1/batches/{id}/results",
    summary="Results of a batch",
    response_class=Response,
    openapi_extra=described(lines="What came of each line so far."),
)
async def batch_results(request: Request, batch_id: BatchId, who: Reader, only: Only = None) -> Response:
    """What has come of its lines so far, in their order, a line of JSON each: `id`, `custom_id`, `response`
    {`status_code`, `request_id`, `body`}, `error`."""
    services = services_of(request)
    batch = await _found(services, who, batch_id)
    found = services.jobs.batches.results(who.tenant, batch, only)
    return StreamingResponse(found, media_type="application/x-ndjson", headers={"cache-control": "no-store"})


@router.post("/v1/batches/{id}/cancel", summary="Cancel a batch", openapi_extra=described(BatchAnswer))
async def cancel_batch(request: Request, batch_id: BatchId, who: Runner) -> Response:
    """Have no further line begun, and close the calls of those under way. What has come stays. May be repeated."""
    services = services_of(request)
    batch = await _found(services, who, batch_id)
    return _json(shown(await services.jobs.batches.cancel(who.tenant, batch.id)))


@router.post("/v1/batches/{id}/retry", summary="Retry what failed", openapi_extra=described(BatchAnswer, status=202))
async def retry_batch(request: Request, batch_id: BatchId, who: Runner) -> Response:
    """Run the lines of a batch again that failed, and those that never ran, for the key that asks for it. 409 while it is not
    over."""
    services = services_of(request)
    batch = await _found(services, who, batch_id)
    address = request.client.host if request.client else None
    return _json(shown(await services.jobs.batches.retry(who, batch.id, address)), 202)


@router.get(
    "/v1/batches/{id}/deliveries",
    summary="How the end of a batch was told",
    openapi_extra=described(DeliveryList),
)
async def batch_deliveries(request: Request, batch_id: BatchId, who: Reader) -> Response:
    """What became of each delivery of its webhook, the oldest first; kept for a week."""
    services = services_of(request)
    batch = await _found(services, who, batch_id)
    lines = await services.jobs.webhooks.deliveries(who.tenant, batch.id)
    return _json({"object": "list", "data": [orjson.Fragment(line) for line in lines], "next_cursor": None})


async def _found(services: Services, who: Principal, batch_id: str) -> BatchRecord:
    if batch_id == _LATEST:
        page = await services.jobs.batches.page(who.tenant, cursor=None, limit=1)
        if not page.found:
            raise NotFound("no batch is kept yet; upload one", param="id")
        return page.found[0]
    if not _ID.fullmatch(batch_id):
        raise NotFound(f"{batch_id[:50]!r} is no batch's id: those are `batch_` and 24 characters", param="id")
    return await services.jobs.batches.get(who.tenant, batch_id)


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, dict(headers or {}), "application/json")
