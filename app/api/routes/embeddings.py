"""`POST /v1/embeddings`: OpenAI's dialect, passed through to providers that have them."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.access import authorize
from app.api.asking import asked, begin, result_of, run_headers
from app.api.body import read_json
from app.api.describe import described
from app.api.errors import problem
from app.api.examples import EMBEDDINGS
from app.api.plain import PlainRoute
from app.api.schemas.embeddings import EmbeddingsAnswer, EmbeddingsBody, embeddings_answer
from app.api.services import services_of
from app.orchestration.embeddings import EmbeddingsOrchestrator

router = APIRouter(route_class=PlainRoute, tags=["OpenAI dialect"])
STRATEGY: Final = EmbeddingsOrchestrator()


@router.post(
    "/v1/embeddings",
    summary="Embeddings",
    response_class=Response,
    openapi_extra=described(EmbeddingsAnswer, body=EmbeddingsBody, examples=EMBEDDINGS),
)
async def embeddings(request: Request) -> Response:
    """Make vectors of texts, with the limits, retries and breakers of any other call."""
    services = services_of(request)
    principal = authorize(request, services, "run")
    who = asked(request, principal)
    body = await read_json(request, EmbeddingsBody, services)
    begun = await begin(request, services, body.to_core(**who), STRATEGY)
    result = await result_of(request, services, begun)
    if result.error:
        return problem(result.error, request.scope["request_id"], run_id=begun.run.id, headers=run_headers(begun.run))
    answer = embeddings_answer(result, body.model, body.encoding_format)
    return Response(answer, media_type="application/json", headers=run_headers(begun.run, result))
