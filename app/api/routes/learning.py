"""What people say of answers, and how models and strategies have been doing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from app.api import examples
from app.api.access import Judge, Reader
from app.api.body import read_json
from app.api.describe import described
from app.api.schemas.learning import FeedbackBody, FeedbackEntry, StatsEntry, StatsList
from app.api.services import services_of
from app.orchestration.learning.feedback import Stored
from app.orchestration.learning.history import CALIBRATION, Sums, calibration_error, joined, names_of, record

router = APIRouter(tags=["Learning"])

Kind = Annotated[
    Literal["model", "provider", "strategy"] | None,
    Query(description="Only of this kind.", openapi_examples={"model": {"value": "model"}}),
]


@router.post(
    "/v1/feedback",
    status_code=201,
    summary="Judge an answer",
    openapi_extra=described(FeedbackEntry, body=FeedbackBody, examples=examples.FEEDBACK, status=201),
)
async def give_feedback(request: Request, who: Judge) -> Response:
    """Say how good a run's answer was, which answer is right, or which candidate was best. Said again it replaces that."""
    services = services_of(request)
    body = await read_json(request, FeedbackBody, services)
    stored = await services.feedback.give(who.tenant, body.to_core(), by=who.name)
    return Response(orjson.dumps(_feedback(stored)), 201, media_type="application/json")


@router.get("/v1/stats", summary="How models and strategies do", openapi_extra=described(StatsList))
async def read_stats(request: Request, who: Reader, kind: Kind = None) -> Response:
    """Calls, success, latencies, tokens, cost and judgements by model (and category), provider and strategy."""
    services = services_of(request)
    records = await services.statistics.read(who.tenant)
    calibration = records.get(CALIBRATION, Sums({}))
    listed: StatsList = {
        "object": "list",
        "data": [entry for entry in _entries(records) if kind in (None, entry["kind"])],
        "next_cursor": None,
        "half_life_s": services.statistics.config.half_life_s,
        "calibration": {"judged": round(calibration.outcomes, 3), "error": calibration_error(calibration.amounts)},
    }
    return Response(orjson.dumps(listed), media_type="application/json")


def _feedback(stored: Stored) -> FeedbackEntry:
    one = stored.judgement
    return {
        "object": "feedback",
        "run_id": stored.run.run_id,
        "candidate_id": one.target or None,
        "score": one.score,
        "label": one.label,
        "preferred": one.preferred,
        "comment": one.comment,
        "by": one.by,
        "created_at": int(one.at),
        "right": stored.right,
        "replaced": stored.replaced,
    }


def _entries(records: dict[str, Sums]) -> list[StatsEntry]:
    nothing = Sums({})
    models: list[StatsEntry] = []
    strategies: list[StatsEntry] = []
    providers: dict[str, list[Sums]] = {}
    for field, sums in sorted(records.items()):
        kind, *names = names_of(field)
        if kind == "model":
            alias, provider, *category = names
            judged = records.get(record("judged", alias, *category), nothing)
            models.append(_entry("model", alias, sums, judged, provider=provider, category=category[0] if category else None))
            if not category:
                providers.setdefault(provider, []).append(sums)
        elif kind == "strategy":
            strategies.append(_entry("strategy", names[0], sums, records.get(record("strategy judged", names[0]), nothing)))
    of_providers = [_entry("provider", name, joined(all_of), nothing) for name, all_of in sorted(providers.items())]
    return [*models, *of_providers, *strategies]


def _entry(
    kind: Any, name: str, sums: Sums, judged: Sums, *, provider: str | None = None, category: str | None = None
) -> StatsEntry:
    def times(read: Any) -> dict[str, float | None]:
        return {f"p{share}": _rounded(read(share / 100)) for share in (50, 95, 99)}

    return {
        "object": "stats",
        "kind": kind,
        "name": name,
        "provider": provider,
        "category": category,
        "calls": round(sums.calls, 3),
        "success": _rounded(sums.answered),
        "latency_ms": times(sums.latency_ms),
        "ttft_ms": times(sums.ttft_ms),
        "input_tokens": round(sums.total("in"), 1),
        "output_tokens": round(sums.total("out"), 1),
        "cost_usd": round(sums.total("cost"), 8) if sums.total("priced") else None,
        "quality": _rounded(judged.quality),
        "judged": round(judged.judged, 3),
        "win_rate": _rounded(judged.win_rate),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
