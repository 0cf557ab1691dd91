"""adaptive: looks at the task and the models, and chooses who is asked, and how.

    look       `tasks`: what the request asks for; `prospects`: what each model promises for it, and who is set aside
    weigh      `ways`: each strategy over the models where it pays, by chance of a good answer, cost and time
    choose     `choice`: the best under the policy that the budget holds; now and then what is little known
    delegate   here: the chosen strategy runs as if it had been asked for
    go on      here: where all of its models fail, the others are asked one after the other

After Chen et al., "FrugalGPT" (2023), and Ong et al., "RouteLLM" (2024).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar

from app.core.errors import AllCandidatesFailed, BudgetExceeded, ErrorReport, InvalidRequest, ProviderError, QuorumError, report
from app.core.run_events import LinkPassed, OutputDelta, OutputReset, PlanMade, RunEvent, Warning
from app.core.runs import PlanDecision, RunRequest
from app.core.streams import close
from app.orchestration.adaptive.choice import STRATEGIES, chosen, rank
from app.orchestration.adaptive.options import AdaptiveOptions
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.fallback.options import DEFAULT_ON
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
        first = _Leg(choice.strategy, request, _current(choice.inner, context))
        async with aclosing(first.events()) as events:
            async for event in events:
                yield event
        context.taught = first.context.taught
        if first.failure is None:
            return
        if choice.behind is None or not _others_may(first.failure):
            raise first.failure
        names = ", ".join(repr(model.profile.name) for model in choice.behind.models)
        yield Warning(f"{choice.way.strategy} gave no answer; asked next is {names}, one after the other")
        if first.said:
            yield OutputReset(f"{choice.way.strategy} failed after it had begun to answer")
        if context.purse is not None:
            context.purse.tighten()
        second = _Leg(STRATEGIES["fallback"], request, _current(choice.behind, context), after_links=first.links)
        async with aclosing(second.events()) as events:
            async for event in events:
                yield event
        context.taught = second.context.taught
        if second.failure is not None:
            raise _both(first.failure, second.failure)


class _Leg:
    """One strategy over some of the models. `failure` is there where it gave no answer; `said` tells whether something was
    shown all the same, `links` how many links of a chain it told of."""

    def __init__(self, strategy: BaseOrchestrator, request: RunRequest, context: RunContext, *, after_links: int = 0) -> None:
        self._strategy = strategy
        self._request = request
        self.context = context
        self._after_links = after_links
        self.failure: QuorumError | None = None
        self.said = False
        self.links = 0

    async def events(self) -> AsyncGenerator[RunEvent]:
        source = self._strategy.run(self._request, self.context)
        try:
            async for event in source:
                match event:
                    case PlanMade():  # the plan of this run is ours
                        continue
                    case LinkPassed():
                        self.links += 1
                        event = LinkPassed(replace(event.link, link=event.link.link + self._after_links))
                    case OutputDelta():
                        self.said = True
                    case OutputReset():
                        self.said = False
                    case _:
                        pass
                yield event
        except QuorumError as error:
            self.failure = error
        finally:
            await close(source)


def _reports(error: QuorumError) -> tuple[ErrorReport, ...]:
    return error.reports if isinstance(error, AllCandidatesFailed) else (report(error),)


def _others_may(error: QuorumError) -> bool:
    """Whether models that were not asked may answer what those could not."""
    model_failed = isinstance(error, (ProviderError, AllCandidatesFailed))
    return model_failed and any(one.failure in DEFAULT_ON for one in _reports(error))


def _both(first: QuorumError, second: QuorumError) -> QuorumError:
    """What the run fails with; the first failure where the budget held nobody else."""
    if isinstance(second, (BudgetExceeded, InvalidRequest)):
        return first
    if not isinstance(second, (ProviderError, AllCandidatesFailed)):
        return second
    reports = (*_reports(first), *_reports(second))
    message = f"none of the {len(reports)} models asked gave an answer. {first.message}; then {second.message}"
    return AllCandidatesFailed(message, reports=reports)


def _current(inner: RunContext, context: RunContext) -> RunContext:
    """`inner` with what the engine has given the run since the choice was made."""
    inner.purse, inner.default_max_tokens, inner.finished = context.purse, context.default_max_tokens, context.finished
    inner.conversation = context.conversation
    return inner
