"""reliable: a planner picks what is run, and what its rule names goes in its place where that fails.

plan     `deciding`: the planner looks at its rules, and at what can be run now
run      a tool directly (`ToolLeg`), or a strategy as if it had been asked for (`Leg`)
go on    the fallbacks of the rule, in turn; not where a tool was run that writes: another try might do it twice
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import ClassVar, cast

from app.core.errors import (
    AllCandidatesFailed,
    BudgetExceeded,
    CapabilityMissing,
    DeadlineExceeded,
    OrchestratorError,
    ProviderError,
    QuorumError,
    RunCancelled,
    ToolExecutionError,
)
from app.core.run_events import OutputReset, PlanMade, RunEvent, Warning
from app.core.runs import PlanDecision, RunRequest
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.legs import Leg, others_may, reports
from app.orchestration.planning.planner import OrchestrationWay, Surveyed, ToolWay
from app.orchestration.reliable.deciding import Decided, decided, direct_id, way_of
from app.orchestration.reliable.options import ReliableOptions
from app.orchestration.reliable.tool_leg import ToolLeg
from app.orchestration.tools.offering import caller_of
from app.orchestration.tools.resuming import lost, told_again
from app.reliability.forecast import PlannedCall


class ReliableOrchestrator(BaseOrchestrator):
    """Runs what a planner picks for the request: a tool, a recipe or a strategy, with others behind it."""

    name: ClassVar[str] = "reliable"
    summary: ClassVar[str] = "A planner picks the tool or orchestration by rules, with others in its place where it fails."
    Options: ClassVar[type[StrategyOptions]] = ReliableOptions
    brings_tools: ClassVar[bool] = True
    delegates: ClassVar[bool] = True

    def tools_of(self, options: StrategyOptions) -> Sequence[tuple[tuple[str | int, ...], str]]:
        name = cast("ReliableOptions", options).tool_name
        return () if name is None else [(("tool_name",), name)]

    def check(self, request: RunRequest, context: RunContext) -> None:
        context.settled = decided(context)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        return _settled(context).plan

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        """That of what was chosen; what goes in its place reserves each of its calls when it makes it."""
        first = _settled(context).first
        return first.forecast.calls if isinstance(first, OrchestrationWay) else ()

    def loops_in(self, context: RunContext) -> bool:
        first = _settled(context).first
        return isinstance(first, OrchestrationWay) and first.strategy.loops_in(first.context)

    def may_pause(self, context: RunContext) -> bool:
        return any(_may_wait(surveyed, context, place) for place, surveyed in enumerate(_settled(context).ways, 1))

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        choice = _settled(context)
        yield PlanMade(choice.plan)
        for event in _before(choice, context):
            yield event
        failures: list[tuple[str, QuorumError]] = []
        links = len(context.past.before.path) if context.past.before else 0
        for place, surveyed in enumerate(choice.ways[choice.place - 1 :], choice.place):
            leg = _leg(surveyed, context, place, links)
            async with aclosing(leg.events()) as events:
                async for event in events:
                    yield event
            if isinstance(leg, Leg):
                context.taught, links = leg.context.taught, links + leg.links
            if leg.failure is None:
                return
            failures.append((surveyed.label, leg.failure))
            after = choice.ways[place : place + 1]
            if not after or not _goes_on(leg.failure) or leg.wrote:
                if after and leg.wrote:
                    yield Warning(f"{surveyed.label} may have written; nothing goes in its place, which might do so again")
                raise _failure(failures)
            yield Warning(f"{surveyed.label} failed ({leg.failure.code}); {after[0].label} goes in its place")
            if leg.said:
                yield OutputReset(f"{surveyed.label} failed after it had begun to answer")


def _settled(context: RunContext) -> Decided:
    return context.settled


def _may_wait(surveyed: Surveyed, context: RunContext, place: int) -> bool:
    """Whether what is tried in that place may have to wait for a person. Of strategies only the first may: what goes on in
    place of another could not tell the candidates of the two apart."""
    way, toolbox = way_of(surveyed), context.toolbox
    match way:
        case ToolWay():
            if toolbox is None or context.inside is not None:
                return False
            decision = toolbox.beforehand(way.registered, caller_of(context))
            return decision.effect == "approve" or decision.depends
        case OrchestrationWay():
            return place == 1 and way.strategy.may_pause(way.context)


def _before(choice: Decided, context: RunContext) -> Iterator[RunEvent]:
    """What had come of the run before a tool that is run directly waited for a person. A strategy tells of that itself."""
    before = context.past.before
    if before is None or not isinstance(way_of(choice.ways[choice.place - 1]), ToolWay):
        return
    calls = [one for one in before.tool_calls if one.id != direct_id(choice.place)]
    yield from told_again(context, before, calls)
    yield from lost(before, ())


def _leg(surveyed: Surveyed, context: RunContext, place: int, links: int) -> Leg | ToolLeg:
    """What runs a target. Only the calls of the first are part of what the run was admitted with."""
    way = way_of(surveyed)
    match way:
        case ToolWay():
            return ToolLeg(way, context, place)
        case OrchestrationWay():
            way.context.follow(context, unplanned=place > 1)
            if not way.stated and context.spending.purse is not None:
                context.spending.purse.tighten()
            return Leg(way.strategy, way.context.request, way.context, after_links=links)


def _goes_on(error: QuorumError) -> bool:
    """Whether something else may do what has failed so."""
    match error:
        case DeadlineExceeded() | BudgetExceeded() | RunCancelled():
            return False
        case ProviderError() | AllCandidatesFailed():
            return others_may(error)
        case _:
            return isinstance(error, (OrchestratorError, ToolExecutionError, CapabilityMissing))


def _failure(failures: Sequence[tuple[str, QuorumError]]) -> QuorumError:
    """What the run fails with."""
    last = failures[-1][1]
    if len(failures) == 1 or not _goes_on(last):
        return last
    reasons = "; ".join(f"{label}: {error.message}" for label, error in failures)
    return AllCandidatesFailed(
        f"nothing that was tried succeeded. {reasons}", reports=tuple(one for _, error in failures for one in reports(error))
    )
