"""For operators: health, readiness, metrics, reload."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.access import Admin
from app.api.acts import act_of
from app.api.describe import described
from app.api.schemas.answers import Health, Readiness, Reloaded
from app.api.services import Services, services_of
from app.config.loading import Loaded
from app.core.audit import recorded
from app.core.errors import ConfigError, InvalidRequest, StateUnavailable
from app.observability.metrics import exposition

router = APIRouter(tags=["Operations"])


@router.get("/healthz", summary="Liveness", openapi_extra=described(Health))
async def healthz() -> Response:
    """The process answers. Depends on nothing else."""
    return _json({"status": "ok"})


@router.get("/readyz", summary="Readiness", openapi_extra=described(Readiness))
async def readyz(request: Request) -> Response:
    """200 `ready` or `degraded` (the state store is away, calls go on), 503 `draining` (send no more)."""
    services = services_of(request)
    if services.draining.begun:
        return _json({"status": "draining"}, 503, {"retry-after": "1"})
    state = await services.state.ping()
    return _json({"status": "ready" if state else "degraded", "state": "ok" if state else "away"})


@router.get("/metrics", summary="Prometheus metrics")
async def metrics() -> Response:
    """All metrics of this machine, over its workers."""
    content, kind = exposition()
    return Response(content, headers={"content-type": kind})


@router.post("/v1/admin/reload", summary="Reload the configuration", openapi_extra=described(Reloaded))
async def reload(request: Request, who: Admin) -> Response:
    """Read the configuration anew, here and then on every other worker and replica, each from its own file.

    A bad one is refused whole, and the old one stays.
    """
    services = services_of(request)
    act = act_of(request, who, "config.reload", "configuration", str(services.settings.config_path() or "none"))
    async with recorded(services.audit, act) as outcome:
        loaded = await _reloaded(services)
        outcome.details["digest"] = services.audit.digest(loaded.spec.model_dump(mode="json"))
    spec = loaded.spec
    return _json(
        {
            "status": "reloaded",
            "path": str(loaded.path) if loaded.path else None,
            "providers": len(spec.providers),
            "models": len(spec.models),
            "recipes": len(spec.recipes),
            "warnings": loaded.warnings,
        }
    )


async def _reloaded(services: Services) -> Loaded:
    try:
        loaded = await services.reload()
    except ConfigError as error:
        faults = "\n".join(error.faults)
        raise InvalidRequest(f"{error.message}; the old configuration stays\n{faults}".strip(), code=error.code) from None
    try:
        await services.announce_reload()
    except StateUnavailable:
        message = "reloaded on this worker, but the state store is away and the others could not be told; send them SIGHUP"
        raise StateUnavailable(message) from None
    return loaded


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, "application/json")
