"""`GET /v1/dead-letters`: what the queue has given up."""

from __future__ import annotations

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.access import Reader
from app.api.describe import described
from app.api.listing import Limit
from app.api.schemas.jobs import DeadLetterList
from app.api.services import services_of

router = APIRouter(tags=["Orchestrations"])


@router.get("/v1/dead-letters", summary="List what was given up", openapi_extra=described(DeadLetterList))
async def list_dead_letters(request: Request, who: Reader, limit: Limit = 20) -> Response:
    """Jobs of the key's tenant that nobody does any more, with the reason, newest first; the last 1,000 are kept."""
    letters = await services_of(request).jobs.dead.newest(who.tenant, limit)
    listed = {"object": "list", "data": [orjson.Fragment(letter) for letter in letters], "next_cursor": None}
    return Response(orjson.dumps(listed), media_type="application/json")
