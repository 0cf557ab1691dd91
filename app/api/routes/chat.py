"""`POST /v1/chat/completions`: OpenAI's dialect."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.access import authorize
from app.api.asking import asked, begin, location_of, result_of, run_headers, streamed
from app.api.body import read_json
from app.api.describe import described
from app.api.errors import problem
from app.api.examples import CHAT
from app.api.openai_chat import ChunkEncoder, approval_needed, completion, goes_on
from app.api.plain import PlainRoute
from app.api.schemas.answers import ChatCompletion
from app.api.schemas.chat import ChatBody
from app.api.services import services_of

router = APIRouter(route_class=PlainRoute, tags=["OpenAI dialect"])


@router.post(
    "/v1/chat/completions",
    summary="Chat completion",
    response_class=Response,
    openapi_extra=described(
        ChatCompletion,
        body=ChatBody,
        examples=CHAT,
        stream="OpenAI's chunks, `[DONE]` last; on failure an `error` and no `[DONE]`.",
    ),
)
async def chat_completions(request: Request) -> Response:
    """Answer a chat in OpenAI's dialect. `model` names a model, a recipe, or a strategy as `quorum/<strategy>`."""
    services = services_of(request)
    principal = authorize(request, services, "run")
    who = asked(request, principal)  # before the body is read: its deadline counts from here
    body = await read_json(request, ChatBody, services)
    begun = await begin(request, services, body.to_core(services.engine.targets.named(body.model), **who))
    run = begun.run
    if body.stream:
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        encoder = ChunkEncoder(run.id, body.model, int(time.time()), include_usage=include_usage)
        return await streamed(request, services, begun, encoder)
    result = await result_of(request, services, begun)
    if result.error:
        return problem(result.error, request.scope["request_id"], run_id=run.id, headers=run_headers(run))
    if result.status == "running":
        report, headers = goes_on(run.id), {**run_headers(run), **location_of(run.id)}
        return problem(report, request.scope["request_id"], run_id=run.id, headers=headers)
    if result.status == "needs_approval":
        ids = [approval.id for approval in result.approvals if approval.status == "pending"]
        headers = {**run_headers(run), **location_of(run.id)}
        return problem(
            approval_needed(run.id, ids, result.waiting or ""), request.scope["request_id"], run_id=run.id, headers=headers
        )
    return Response(completion(result, body.model), media_type="application/json", headers=run_headers(run, result))
