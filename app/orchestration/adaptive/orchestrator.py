"""adaptive: looks at the task and the models, and chooses who is asked, and how.

    look       `tasks`: what the request asks for; `prospects`: what each model promises for it, and who is set aside
    weigh      `ways`: each strategy over the models where it pays, by chance of a good answer, cost and time
    choose     `choice`: the best under the policy that the budget holds; now and then what is little known
    delegate   here: the chosen strategy runs as if it had been asked for

After Chen et al., "FrugalGPT" (2023), and Ong et al., "RouteLLM" (2024).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import ClassVar

from app.core.run_events import PlanMade, RunEvent
from app.core.runs import PlanDecision, RunRequest
from app.core.streams import close
from app.orchestration.adaptive.choice import chosen, rank
from app.orchestration.adaptive.options import AdaptiveOptions
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.reliability.forecast import PlannedCall


class AdaptiveOrchestrator(BaseOrchestrator):
    """Chooses strategy and models by the task, and runs what it has chosen."""

    name: ClassVar[str] = "adaptive"
    summary: ClassVar[str] = "Chooses models and strategy by the task, what is known of the models, cost, time and load."
    Options: ClassVar[type[StrategyOptions]] = AdaptiveOptions
    chooses: ClassVar[bool] = True

    def check(self, request: RunRequest, context: RunContext) -> None:
        context.settled = rank(context)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        return chosen(context).plan

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall] | None:
        choice = chosen(context)
        return choice.strategy.worst_case(request, choice.inner)

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        choice = chosen(context)
        yield PlanMade(choice.plan)
        inner = _current(choice.inner, context)
        events = choice.strategy.run(request, inner)
        try:
            async for event in events:
                if not isinstance(event, PlanMade):  # the plan of this run is ours
                    yield event
        finally:
            await close(events)
            context.taught = inner.taught


def _current(inner: RunContext, context: RunContext) -> RunContext:
    """`inner` with what the engine has given the run since the choice was made."""
    inner.purse, inner.default_max_tokens, inner.finished = context.purse, context.default_max_tokens, context.finished
    return inner
