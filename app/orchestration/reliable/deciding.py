"""What a run of `reliable` will do: the planner's decision, as it is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from app.config.planning import PlanTarget
from app.core.errors import InvalidRequest
from app.core.planning import WEEKDAYS
from app.core.runs import OrchestrationOutput, PlanDecision, PlanRequest
from app.orchestration.context import RunContext
from app.orchestration.fallback.facts import facts
from app.orchestration.planning.planner import OrchestrationWay, Planned, Surveyed, ToolWay
from app.orchestration.planning.survey import RunSurvey
from app.orchestration.reliable.options import ReliableOptions


@dataclass(frozen=True, slots=True)
class Decided:
    """What is tried, one after the other, and the plan that says so. `place` is where it begins, from 1: at the first one, or,
    of a run that was paused, at the one that waited."""

    ways: tuple[Surveyed, ...]
    plan: PlanDecision
    place: int = 1

    @property
    def first(self) -> ToolWay | OrchestrationWay:
        return way_of(self.ways[self.place - 1])


def decided(context: RunContext) -> Decided:
    """The decision for a run; of one that was paused, the one that was taken before.

    Raises:
        QuorumError: nothing can be run for it.
    """
    delegates = context.delegates
    if delegates is None:
        raise InvalidRequest("'reliable' hands requests to other strategies, and nobody prepares them here; use an engine")
    request = plan_request(context)
    survey = RunSurvey(request, context, delegates)
    before = context.past.before
    if before is not None and before.plan is not None:
        return _as_before(before, before.plan, survey)
    planned = delegates.planner.plan(request, survey)
    return Decided((planned.chosen, *planned.fallbacks), _told(planned))


def _as_before(before: OrchestrationOutput, plan: PlanDecision, survey: RunSurvey) -> Decided:
    """`plan`, whatever a planner would say now.

    Raises:
        QuorumError: what waited cannot be prepared any more.
    """
    ways = tuple(survey.of(PlanTarget.model_validate(target)) for target in plan.targets)
    asked = {one.call_id for one in before.approvals}
    place = max((place for place in range(1, len(ways) + 1) if direct_id(place) in asked), default=1)
    error = ways[place - 1].error
    if error is not None:
        raise error
    return Decided((*ways[:place], *(way for way in ways[place:] if way.way is not None)), plan, place)


def direct_id(place: int) -> str:
    """The id of the call of a tool that is run directly, as the run's so-manieth try, from 1."""
    return f"direct_{place}"


def way_of(surveyed: Surveyed) -> ToolWay | OrchestrationWay:
    """The way of a target that was chosen."""
    if surveyed.way is None:
        raise RuntimeError(f"a planner chose {surveyed.label}, which cannot be run")
    return surveyed.way


def plan_request(context: RunContext) -> PlanRequest:
    """What the planner is told of a run."""
    options: ReliableOptions = context.options
    run, now = context.request, context.clock.now()
    kind = options.type or context.category
    left = None if run.deadline is None else run.deadline - context.clock.monotonic()
    return PlanRequest(
        run.config,
        run.messages,
        run.budget,
        run.metadata,
        run.tenant,
        kind,
        options.attributes,
        options.tool_name,
        options.tool_options,
        options.allow_fallback,
        {**facts(run), **_facts(context, kind, now)},
        now,
        left,
    )


def _facts(context: RunContext, kind: str, now: float) -> dict[str, Any]:
    """The variables of a rule's condition that a link of a chain has not. Hour and weekday are those of UTC."""
    options: ReliableOptions = context.options
    task = context.task
    days, seconds = divmod(int(now), 86_400)
    return {
        "type": kind,
        "attributes": options.attributes,
        "recipe": context.request.config.recipe or "",
        "category": task.category,
        "complexity": task.complexity,
        "language": task.language,
        "hour": seconds // 3_600,
        "weekday": WEEKDAYS[(days + 3) % 7],  # 1 January 1970 was a Thursday
    }


def _told(planned: Planned) -> PlanDecision:
    chosen = planned.chosen
    way = way_of(chosen)
    labels = tuple(one.label for one in planned.fallbacks)
    match way:
        case ToolWay():
            plan = PlanDecision(
                "reliable", (), tool=way.registered.spec.reference, options=way.arguments, reason=planned.reason
            )
        case OrchestrationWay():
            plan = way.strategy.plan(way.context.request, way.context)
            reason = f"{planned.reason}; {plan.reason}" if plan.reason else planned.reason
            plan = replace(plan, recipe=chosen.target.recipe, reason=reason)
    return replace(
        plan,
        fallbacks=(*plan.fallbacks, *labels),
        estimated_cost_usd=chosen.cost_usd,
        estimated_seconds=chosen.seconds,
        estimated_quality=plan.estimated_quality if planned.quality is None else round(planned.quality, 4),
        alternatives=planned.alternatives or plan.alternatives,
        set_aside={**plan.set_aside, **planned.set_aside},
        rule=planned.rule,
        targets=tuple(
            one.target.model_dump(mode="json", by_alias=True, exclude_defaults=True) for one in (chosen, *planned.fallbacks)
        ),
        rules=planned.rules,
    )
