"""How a run with tools waits for a person, and how it finds its place again when it goes on."""

from __future__ import annotations

from collections.abc import Sequence

from app.core.approvals import Approval
from app.core.models import Model
from app.core.run_events import RunPaused
from app.core.runs import Candidate


def paused_by(waits: Sequence[Approval]) -> RunPaused:
    """What pauses a run that waits for `waits`: until the last of them has expired."""
    tools = ", ".join(dict.fromkeys(f"{one.tool}@{one.version}" for one in waits))
    ids = tuple(one.id for one in waits)
    reason = f"a person must agree first: {tools} ({', '.join(ids)})"
    return RunPaused(reason, ids, max(one.expires_at for one in waits))


def going_on(models: Sequence[Model], finished: Sequence[Candidate], step: int) -> list[Model]:
    """Who is asked in a step, the first first. Of a run that goes on it is who had answered: those before it had failed."""
    answered = {one.model for one in finished if one.layer == step}
    place = next((number for number, model in enumerate(models) if model.profile.name in answered), 0)
    return list(models[place:])
