"""The review queue: list what a person is to decide, read it, decide it."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from app.api import examples
from app.api.access import ReaderOfReviews, Reviewer
from app.api.acts import act_of
from app.api.body import read_json
from app.api.describe import described
from app.api.listing import Paging, listed
from app.api.schemas.reviews import AuditLine, ReviewBody, ReviewDecision, ReviewEntry, ReviewList, ReviewSummary
from app.api.services import services_of
from app.core.audit import recorded
from app.core.lifecycle import TICKET, Ticket
from app.orchestration.reviewing.entries import Decision, Filter, Review, ReviewStatus

router = APIRouter(tags=["Reviews"])

_SHOWN = 500
"""Characters of the question and of the answer in a list."""

ReviewId = Annotated[
    str,
    Path(
        alias="id",
        description="`latest` is the newest that is pending, else the newest.",
        openapi_examples={"latest": {"summary": "The newest; run something unsure first", "value": "latest"}},
    ),
]
Status = Annotated[
    ReviewStatus | None, Query(description="Only of this status.", openapi_examples={"pending": {"value": "pending"}})
]
Strategy = Annotated[
    str | None,
    Query(max_length=64, description="Only of this strategy.", openapi_examples={"consensus": {"value": "consensus"}}),
]
Recipe = Annotated[
    str | None, Query(max_length=64, description="Only of this recipe.", openapi_examples={"any": {"value": ""}})
]
Category = Annotated[
    str | None, Query(max_length=64, description="Only of this task category.", openapi_examples={"any": {"value": ""}})
]
Least = Annotated[float | None, Query(ge=0, le=1, description="At least so sure.", openapi_examples={"any": {"value": 0}})]
Most = Annotated[float | None, Query(ge=0, le=1, description="At most so sure.", openapi_examples={"any": {"value": 1}})]


async def _wanted(
    status: Status = None,
    strategy: Strategy = None,
    recipe: Recipe = None,
    category: Category = None,
    min_confidence: Least = None,
    max_confidence: Most = None,
) -> Filter:
    return Filter(status, strategy or None, recipe or None, category or None, min_confidence, max_confidence)


@router.get("/v1/reviews", summary="List what is to be reviewed", openapi_extra=described(ReviewList))
async def list_reviews(
    request: Request, who: ReaderOfReviews, asked: Paging, wanted: Annotated[Filter, Depends(_wanted)]
) -> Response:
    """The reviews of the key's tenant, newest first."""
    page = await services_of(request).reviews.page(who.tenant, wanted, cursor=asked.cursor, limit=asked.limit)
    return listed(page, _summary)


@router.get("/v1/reviews/{id}", summary="Read a review", openapi_extra=described(ReviewEntry))
async def read_review(request: Request, review_id: ReviewId, who: ReaderOfReviews) -> Response:
    """What was asked and answered, how sure that is, the decision, and who did what when."""
    review = await services_of(request).reviews.read(who.tenant, review_id)
    return Response(orjson.dumps(_entry(review)), media_type="application/json")


@router.post(
    "/v1/reviews/{id}",
    summary="Decide a review",
    openapi_extra=described(ReviewEntry, body=ReviewBody, examples=examples.REVIEWS),
)
async def decide_review(request: Request, review_id: ReviewId, who: Reviewer) -> Response:
    """Accept the answer, choose a candidate's, write another, or reject it. Once: a second decision is 409."""
    services = services_of(request)
    body = await read_json(request, ReviewBody, services)
    ticket: Ticket | None = request.scope.get(TICKET)
    decided = body.to_core(request.scope["request_id"], ticket.digest if ticket else "")
    entry = (await services.reviews.read(who.tenant, review_id)).entry
    facts = {"decision": body.decision, "candidate_id": body.candidate_id, "reviewer": body.reviewer}
    act = act_of(request, who, "review.decide", "review", entry.id, run_id=entry.run_id)
    async with recorded(services.audit, act, facts | ({"text": services.audit.digest(body.text)} if body.text else {})):
        review = await services.reviews.decide(who, entry.id, decided)
    return Response(orjson.dumps(_entry(review)), media_type="application/json")


def _summary(review: Review) -> ReviewSummary:
    entry = review.entry
    asked = next((turn.text for turn in reversed(entry.conversation) if turn.role == "user" and turn.text), "")
    return {
        "id": entry.id,
        "object": "review",
        "run_id": entry.run_id,
        "status": review.status,
        "strategy": entry.strategy,
        "recipe": entry.recipe,
        "category": entry.category,
        "confidence": entry.confidence,
        "question": asked[:_SHOWN],
        "answer": entry.answer[:_SHOWN],
        "created_at": int(entry.created_at),
        "decision": _decision(review.decision),
    }


def _entry(review: Review) -> ReviewEntry:
    entry = review.entry
    return {
        **_summary(review),
        "answer": entry.answer,
        "conversation": [{"role": turn.role, "text": turn.text} for turn in entry.conversation],
        "candidates": [{"id": one.id, "model": one.model, "text": one.text} for one in entry.candidates],
        "consensus": dict(entry.consensus) if entry.consensus else None,
        "uncertain": [
            {"id": one.id, "tool": one.tool, "version": one.version, "arguments": one.arguments} for one in entry.uncertain
        ],
        "truncated": entry.truncated,
        "metadata": dict(entry.metadata),
        "audit": _audit(review),
    }


def _decision(decision: Decision | None) -> ReviewDecision | None:
    if decision is None:
        return None
    return {
        "decision": decision.decision,
        "candidate_id": decision.candidate_id,
        "text": decision.text,
        "comment": decision.comment,
        "by": decision.by,
        "reviewer": decision.reviewer,
        "decided_at": int(decision.at),
    }


def _audit(review: Review) -> list[AuditLine]:
    entry, decision = review.entry, review.decision
    queued: AuditLine = {
        "at": entry.created_at,
        "action": "queued",
        "by": "service",
        "key_id": "",
        "reviewer": None,
        "request_id": entry.request_id,
        "comment": None,
    }
    if decision is None:
        return [queued]
    return [
        queued,
        {
            "at": decision.at,
            "action": decision.decision,
            "by": decision.by,
            "key_id": decision.key_id,
            "reviewer": decision.reviewer,
            "request_id": decision.request_id,
            "comment": decision.comment,
        },
    ]
