"""Runs that are kept: list, read, follow, cancel, delete."""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response

from app.api.access import Reader, Runner
from app.api.acts import act_of
from app.api.describe import described
from app.api.listing import Paging, listed
from app.api.native_events import NativeFrames
from app.api.schemas.answers import RunList
from app.api.schemas.jobs import DeliveryList
from app.api.services import Services, services_of
from app.api.sse import EventStream, StreamTimes
from app.core.audit import recorded
from app.core.errors import InvalidRequest, NotFound
from app.core.runs import OrchestrationOutput, RunStatus
from app.observability.metrics import RESUMES
from app.orchestration.runs.endings import unknown
from app.orchestration.runs.stored import StoredRuns
from app.state.run_records import Record

router = APIRouter(tags=["Orchestrations"])

_LATEST = "latest"
_RUN_ID = re.compile(r"run_[0-9a-z]{24}")
_LAST_EVENT = re.compile(r"[0-9]{1,15}")

RunId = Annotated[
    str,
    Path(
        alias="id",
        description="As the header X-Quorum-Run-Id and every event say it; `latest` is the newest.",
        openapi_examples={"latest": {"summary": "The newest; stream a run first", "value": _LATEST}},
    ),
]
Status = Annotated[
    RunStatus | None, Query(description="Only runs of this status.", openapi_examples={"good": {"value": "succeeded"}})
]
Strategy = Annotated[
    str | None,
    Query(max_length=64, description="Only runs of this strategy.", openapi_examples={"simple": {"value": "simple"}}),
]
After = Annotated[
    int,
    Query(
        ge=0,
        lt=10**15,
        description="For clients that cannot send Last-Event-ID, which goes before it.",
        openapi_examples={"start": {"summary": "From the first event", "value": 0}},
    ),
]
LastEvent = Annotated[
    str,
    Header(
        alias="Last-Event-ID",
        description="The `id` of the last event that came.",
        openapi_examples={"start": {"summary": "From the first event", "value": "0"}},
    ),
]


class _Filter(NamedTuple):
    status: RunStatus | None
    strategy: str | None


async def _wanted(status: Status = None, strategy: Strategy = None) -> _Filter:
    return _Filter(status, strategy)


@router.get("/v1/orchestrations", summary="List kept runs", openapi_extra=described(RunList))
async def list_runs(request: Request, who: Reader, asked: Paging, wanted: Annotated[_Filter, Depends(_wanted)]) -> Response:
    """The runs of the key's tenant that are kept, newest first."""
    runs = services_of(request).runs
    page = await runs.page(who.tenant, cursor=asked.cursor, limit=asked.limit, status=wanted.status, strategy=wanted.strategy)
    return listed(page, _shown)


@router.get("/v1/orchestrations/{id}", summary="Read a run", openapi_extra=described(OrchestrationOutput))
async def read_run(request: Request, run_id: RunId, who: Reader) -> Response:
    """The result; while the run goes on, what is known of it."""
    runs = services_of(request).runs
    return _json(await runs.read(who.tenant, await _checked(runs, who.tenant, run_id)))


@router.get(
    "/v1/orchestrations/{id}/events",
    summary="Follow or resume a run",
    response_class=Response,
    openapi_extra=described(stream="The events that follow `Last-Event-ID`, to the last one; 204 when there are none to come."),
)
async def follow_run(
    request: Request,
    run_id: RunId,
    who: Reader,
    after: After = 0,
    last_event_id: LastEvent = "",
) -> Response:
    """Replay the events that the reader lacks, then go on live, whichever replica runs it."""
    services = services_of(request)
    after = _last_event(last_event_id, after)
    run_id = await _checked(services.runs, who.tenant, run_id)
    events = await services.runs.follow(who.tenant, run_id, after)
    headers = {"x-quorum-run-id": run_id}
    if events is None:
        return Response(status_code=204, headers=headers)
    if after:
        RESUMES.inc()
    settings = services.settings
    return EventStream(
        events,
        NativeFrames(at_once=True),
        request_id=request.scope["request_id"],
        times=StreamTimes(settings.keep_alive_s, settings.stalled_s, hold_headers_s=0),
        headers=headers,
        draining=services.draining,
    )


@router.post("/v1/orchestrations/{id}/cancel", summary="Cancel a run", openapi_extra=described(OrchestrationOutput))
async def cancel_run(request: Request, run_id: RunId, who: Runner) -> Response:
    """End a run, whichever replica runs it. 200 with the result when it has ended, 202 when it is about to; may be repeated."""
    runs = services_of(request).runs
    run_id = await _checked(runs, who.tenant, run_id)
    ended = await runs.cancel(who.tenant, run_id)
    return _json(await runs.read(who.tenant, run_id), 200 if ended else 202)


@router.get(
    "/v1/orchestrations/{id}/deliveries",
    summary="How the end of a run was told",
    openapi_extra=described(DeliveryList),
)
async def list_deliveries(request: Request, run_id: RunId, who: Reader) -> Response:
    """What became of each delivery of a background run's webhook, the oldest first; kept for a week."""
    services = services_of(request)
    run_id = await _checked(services.runs, who.tenant, run_id)
    await services.runs.read(who.tenant, run_id)  # which raises where it is nobody's, or another's
    lines = await services.jobs.webhooks.deliveries(who.tenant, run_id)
    return _json(orjson.dumps({"object": "list", "data": [orjson.Fragment(line) for line in lines], "next_cursor": None}))


@router.delete("/v1/orchestrations/{id}", status_code=204, summary="Delete a run", openapi_extra=described(status=204))
async def delete_run(request: Request, run_id: RunId, who: Runner) -> Response:
    """Cancel a run if it goes on, and remove all that is stored of it: its review, what is learned from, and what its
    idempotency key would be answered."""
    services = services_of(request)
    run_id = await _checked(services.runs, who.tenant, run_id)
    async with recorded(services.audit, act_of(request, who, "run.delete", "run", run_id, run_id=run_id)):
        await _delete(services, who.tenant, run_id)
    return Response(status_code=204)


async def _delete(services: Services, tenant: str, run_id: str) -> None:
    kept = False
    try:
        await services.runs.delete(tenant, run_id)
        kept = True
    except NotFound:  # it was not streamed; something else may be kept of it
        pass
    await services.approvals.forget(tenant, run_id)
    reviewed = await services.reviews.forget(tenant, run_id)
    observed = await services.feedback.forget(tenant, run_id)
    said = await services.turns.delete(tenant, run_id)
    if not (kept or reviewed or observed or said):
        raise unknown(run_id)


async def _checked(runs: StoredRuns, tenant: str, run_id: str) -> str:
    if run_id == _LATEST:
        return await runs.latest(tenant)
    return checked_id(run_id)


def checked_id(run_id: str) -> str:
    """`run_id`.

    Raises:
        NotFound: it is none.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise NotFound(f"{run_id[:50]!r} is no run's id: those are `run_` and 24 characters", param="id")
    return run_id


def _last_event(header: str, after: int) -> int:
    if not header:
        return after
    if not _LAST_EVENT.fullmatch(header):
        message = f"Last-Event-ID is {header[:50]!r}; it wants the `id` of the last event that came, a whole number"
        raise InvalidRequest(message, param="Last-Event-ID")
    return int(header)


def _shown(run: Record) -> dict[str, object]:
    return {
        "id": run.run_id,
        "object": "orchestration",
        "status": run.status,
        "strategy": run.strategy,
        "recipe": run.recipe,
        "created_at": run.created_at,
        "finished_at": run.finished_at,
        "request": orjson.Fragment(run.request),
    }


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")
