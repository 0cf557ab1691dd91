"""parallel: several models are asked at once, and as soon as enough good answers are there the best of them is taken.

    order      `order`, `outlook`: by how the models have done on such tasks
    ask        `panel.Panel`: all at once, or the next one when those at work are slower than usual
    hear       `contest`: until it is enough
    score      `scoring`: how likely each answer is right, by what all of them say; or a judge
    select     the first, the longest, or the best of the good ones

Hedged starts follow Dean and Barroso, "The Tail at Scale" (2013).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import ClassVar

from app.core.errors import InvalidRequest
from app.core.run_events import PlanMade, RunEvent
from app.core.runs import PlanDecision, RunRequest
from app.orchestration.analysis import own_generation
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.judging import judge_format, judge_prompt
from app.orchestration.parallel.contest import Contest
from app.orchestration.parallel.options import ParallelOptions
from app.orchestration.parallel.order import ranked
from app.orchestration.tools.panels import check_tools, most_steps, seating, waits, worst_steps
from app.orchestration.tools.resuming import chosen, gone_on
from app.providers.fitting import missing
from app.reliability.forecast import PlannedCall


class ParallelOrchestrator(BaseOrchestrator):
    """Asks several models at once and takes the best of the first good answers."""

    name: ClassVar[str] = "parallel"
    summary: ClassVar[str] = "Several models at once: as soon as enough good answers are there, the best of them is taken."
    Options: ClassVar[type[StrategyOptions]] = ParallelOptions

    def check(self, request: RunRequest, context: RunContext) -> None:
        options: ParallelOptions = context.options
        check_tools(request, context)
        if options.min_responses > len(context.models):
            message = f"min_responses is {options.min_responses}, but there are only {len(context.models)} models"
            raise InvalidRequest(message, param="options.min_responses")
        if options.select == "judge":
            judge = context.judge
            lack = missing(judge.profile, request.messages, own_generation(context, judge), ())
            if lack is not None:
                raise InvalidRequest(f"the judge cannot read the request: {lack.message}", param="lead_model")

    def may_pause(self, context: RunContext) -> bool:
        return waits(context)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        options: ParallelOptions = context.options
        names = tuple(model.profile.name for model in ranked(context))
        most = min(options.max_models or len(names), len(names))
        judge = context.judge.profile.name if options.select == "judge" else None
        if options.hedge_after is None:
            begin = f"{most} models are asked at once"
        else:
            slow = "slower than usual" if options.hedge_after == "p95" else f"silent for {options.hedge_after:g} s"
            begin = f"{options.min_responses} of up to {most} models are asked, the next one when those at work are {slow}"
        enough = f"{options.min_responses} answers" if options.min_responses > 1 else "one answer"
        until = f"until {enough} reached {options.quality_threshold:g}" + (f" by the judge {judge!r}" if judge else "")
        return PlanDecision(
            self.name, names[:most], judge, names[most:], reason=f"{begin}, {until}; selected by {options.select}"
        )

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        options: ParallelOptions = context.options
        members = [worst_steps(context, model) for model in context.models]
        dearest = sorted(members, key=_dearness, reverse=True)[: options.max_models or len(members)]
        asked = [call for steps in dearest for call in steps]
        if options.select != "judge":
            return asked
        judge, prompt = context.judge, judge_prompt(context, None, "")
        generation = own_generation(context, judge, judge_format(judge))
        judged = context.planned(judge, "judge", stage=1 + most_steps(context), generation=generation, quoting=1, prompt=prompt)
        return [*asked, *[judged] * len(dearest)]

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        seats, choice = await seating(context), chosen(context)
        if choice is not None:
            async with aclosing(gone_on(context, choice, seats.winner(choice))) as events:
                async for event in events:
                    yield event
            return
        yield PlanMade(self.plan(request, context))
        contest = Contest(context, seats)
        async with aclosing(contest.events()) as events:
            async for event in events:
                yield event


def _dearness(calls: Sequence[PlannedCall]) -> tuple[int, int]:
    return sum(call.nano_usd or 0 for call in calls), sum(call.tokens for call in calls)
