"""In which order models are asked, and who judges."""

from __future__ import annotations

from typing import Final

from app.core.models import Model
from app.orchestration.context import RunContext
from app.orchestration.learning.history import ENOUGH_CALLS
from app.orchestration.outlook import POLICIES, Outlook, doublings, merit, outlook

STEPS: Final = 20
"""Models are compared in steps of 5 points: the order of the request is a preference, and less may be chance."""


def ranked(context: RunContext) -> tuple[Model, ...]:
    """The models by how they have done on such tasks: those of which nothing was measured as their quality is stated, and
    where there is no difference in the order of the request. Who is refused by its breaker comes last."""
    found = [(model, outlook(context, model.profile)) for model in context.models]
    known = [one for _, one in found if one.measured >= ENOUGH_CALLS]
    least_usd = min((one.measured_cost_usd for one in known if one.measured_cost_usd), default=None)
    least_s = min((one.latency_s for one in known if one.latency_s), default=None)

    def worth(one: Outlook) -> float:
        if one.measured < ENOUGH_CALLS:
            return one.quality * one.success
        cost, time = doublings(one.measured_cost_usd, least_usd), doublings(one.latency_s, least_s)
        return merit(one.quality * one.success, cost, time, POLICIES["balanced"])

    def place(row: tuple[Model, Outlook]) -> tuple[float, float]:
        open_s = context.standings.of(row[0].profile).open_s if context.standings else 0.0
        return open_s, -round(worth(row[1]) * STEPS)

    return tuple(model for model, _ in sorted(found, key=place))
