"""Conversations that are kept: read, delete."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from app.api.access import Reader, Runner
from app.api.acts import act_of
from app.api.describe import described
from app.api.listing import Limit
from app.api.openai_messages import openai_messages
from app.api.schemas.conversations import Conversation, ConversationTurn
from app.api.schemas.orchestrations import CONVERSATION_ID
from app.api.services import services_of
from app.core.audit import recorded
from app.core.errors import InvalidRequest
from app.core.run_json import json_bytes
from app.orchestration.conversations.conversations import unknown
from app.orchestration.conversations.history import KeptTurn

router = APIRouter(tags=["Conversations"])

_ID = re.compile(CONVERSATION_ID)
_NUMBER = re.compile(r"[0-9]{1,9}")

ConversationPath = Annotated[
    str,
    Path(
        alias="id",
        description="As runs name it in `conversation_id`.",
        openapi_examples={"demo": {"summary": "As an example of POST /v1/orchestrations begins it", "value": "demo"}},
    ),
]
Cursor = Annotated[
    str,
    Query(
        max_length=9,
        description="`next_cursor` of the page before.",
        openapi_examples={"first": {"summary": "The first page", "value": ""}},
    ),
]


@router.get("/v1/conversations/{id}", summary="Read a conversation", openapi_extra=described(Conversation))
async def read_conversation(
    request: Request, conversation_id: ConversationPath, who: Reader, cursor: Cursor = "", limit: Limit = 20
) -> Response:
    """What was said in it, the oldest turn first, with the runs, their models, and the calls of tools and their results."""
    if cursor and not _NUMBER.fullmatch(cursor):
        raise InvalidRequest(f"the cursor {cursor!r} is none of ours; take `next_cursor` of a page", param="cursor")
    services = services_of(request)
    page = await services.conversations.read(who.tenant, _checked(conversation_id), after=int(cursor or 0), limit=limit)
    last = page.first + len(page.found) - 1
    shown: Conversation = {
        "id": conversation_id,
        "object": "conversation",
        "created_at": page.created_at,
        "used_at": page.used_at,
        "expires_at": int(services.clock.now() + page.expires_in_s),
        "turns": page.turns,
        "dropped": page.dropped,
        "bytes": page.size_bytes,
        "system": openai_messages(page.system),
        "data": [_turn(number, turn) for number, turn in enumerate(page.found, page.first)],
        "next_cursor": str(last) if page.found and last < page.turns else None,
    }
    return Response(json_bytes(shown), media_type="application/json")


@router.delete("/v1/conversations/{id}", status_code=204, summary="Delete a conversation", openapi_extra=described(status=204))
async def delete_conversation(request: Request, conversation_id: ConversationPath, who: Runner) -> Response:
    """Remove all that was said in it. Its runs stay as they are; one that is taking its turn in it fails."""
    services = services_of(request)
    conversation_id = _checked(conversation_id)
    async with recorded(services.audit, act_of(request, who, "conversation.delete", "conversation", conversation_id)):
        await services.conversations.delete(who.tenant, conversation_id)
    return Response(status_code=204)


def _checked(conversation_id: str) -> str:
    if not _ID.fullmatch(conversation_id):
        raise unknown(conversation_id[:128])
    return conversation_id


def _turn(number: int, turn: KeptTurn) -> ConversationTurn:
    return {
        "number": number,
        "run_id": turn.run_id,
        "strategy": turn.strategy,
        "recipe": turn.recipe,
        "status": turn.status,
        "model": turn.model,
        "created_at": turn.created_at,
        "messages": openai_messages(turn.messages),
    }
