"""Circuit breakers: what state they are in, and closing one by hand."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.api.access import Admin, Reader
from app.api.acts import act_of
from app.api.describe import described
from app.api.schemas.answers import BreakerEntry, BreakerList
from app.api.services import services_of
from app.core.audit import recorded
from app.reliability.breakers import Breaker

router = APIRouter(tags=["Operations"])

BreakerId = Annotated[str, Path(openapi_examples={"mock": {"value": "mock:mock-swift"}})]


@router.get("/v1/breakers", summary="Circuit breakers", openapi_extra=described(BreakerList))
async def list_breakers(request: Request, _who: Reader) -> Response:
    """The breakers of the models that this replica has, in the state that all replicas share.

    Of models that only requests name, those that were used in the last ten minutes or are not closed, 100 at most.
    """
    breakers = services_of(request).breakers
    data = [_shown(breaker, shared=not breakers.local) for breaker in breakers.listed()]
    return _json({"object": "list", "data": data, "next_cursor": None})


@router.post("/v1/breakers/{breaker_id:path}/reset", summary="Close a breaker", openapi_extra=described(BreakerEntry))
async def reset_breaker(request: Request, breaker_id: BreakerId, who: Admin) -> Response:
    """Close a breaker by hand, on every replica, and end a pause that the provider asked for."""
    services = services_of(request)
    async with recorded(services.audit, act_of(request, who, "breaker.reset", "breaker", breaker_id)) as outcome:
        breaker = await services.breakers.reset(breaker_id)
        outcome.details["shared"] = not services.breakers.local
    return _json(_shown(breaker, shared=not services.breakers.local))


def _shown(breaker: Breaker, *, shared: bool) -> BreakerEntry:
    circuit = breaker.circuit
    return {
        "id": breaker.id,
        "object": "breaker",
        "provider": breaker.provider,
        "model": breaker.model,
        "state": circuit.state,
        "generation": circuit.generation,
        "trips": circuit.trips,
        "retry_after_s": breaker.open_s() if circuit.state == "open" else None,
        "pause_s": breaker.cooling_s() or None,
        "shared": shared,
    }


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
