"""adaptive: looks at the task and the models, and chooses who is asked, and how.

    look       `tasks`: what the request asks for; `prospects`: what each model promises for it, and who is set aside
    weigh      `ways`: each strategy over the models where it pays, by chance of a good answer, cost and time
    choose     `choice`: the best under the policy that the budget holds; now and then what is little known
    delegate   here: the chosen strategy runs as if it had been asked for
    go on      here: where all of its models fail, the others are asked one after the other

After Chen et al., "FrugalGPT" (2023), and Ong et al., "RouteLLM" (2024).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import ClassVar

from app.core.errors import AllCandidatesFailed, BudgetExceeded, InvalidRequest, ProviderError, QuorumError
from app.core.run_events import OutputReset, PlanMade, RunEvent, Warning
from app.core.runs import PlanDecision, RunRequest
from app.orchestration.adaptive.choice import STRATEGIES, chosen, rank
from app.orchestration.adaptive.options import AdaptiveOptions
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.legs import Leg, others_may, reports
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
        choice.inner.follow(context)
        first = Leg(choice.strategy, request, choice.inner)
        async with aclosing(first.events()) as events:
            async for event in events:
                yield event
        context.taught = first.context.taught
        if first.failure is None:
            return
        if choice.behind is None or not others_may(first.failure):
            raise first.failure
        names = ", ".join(repr(model.profile.name) for model in choice.behind.models)
        yield Warning(f"{choice.way.strategy} gave no answer; asked next is {names}, one after the other")
        if first.said:
            yield OutputReset(f"{choice.way.strategy} failed after it had begun to answer")
        if context.spending.purse is not None:
            context.spending.purse.tighten()
        choice.behind.follow(context)
        second = Leg(STRATEGIES["fallback"], request, choice.behind, after_links=first.links)
        async with aclosing(second.events()) as events:
            async for event in events:
                yield event
        context.taught = second.context.taught
        if second.failure is not None:
            raise _both(first.failure, second.failure)


def _both(first: QuorumError, second: QuorumError) -> QuorumError:
    """What the run fails with; the first failure where the budget held nobody else."""
    if isinstance(second, (BudgetExceeded, InvalidRequest)):
        return first
    if not isinstance(second, (ProviderError, AllCandidatesFailed)):
        return second
    of_both = (*reports(first), *reports(second))
    message = f"none of the {len(of_both)} models asked gave an answer. {first.message}; then {second.message}"
    return AllCandidatesFailed(message, reports=of_both)
