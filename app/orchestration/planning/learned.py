"""The planner that goes by what was learned: of the orchestrations whose rules fit, the one that promises most.

Nothing is learned of tools, which are run as they are: where the first rule that can be gone by names one, that is run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.config.planning import PlanRule
from app.core.runs import Alternative, PlanRequest, RuleLook
from app.orchestration.outlook import Preference, doublings, merit
from app.orchestration.planning.matching import Asked
from app.orchestration.planning.planner import OrchestrationWay, Planned, Promise, Survey, Surveyed
from app.orchestration.planning.rules import RuleBasedPlanner


@dataclass(frozen=True, slots=True)
class _Option:
    rule: PlanRule
    found: Surveyed
    promise: Promise
    score: float = 0.0

    @property
    def alternative(self) -> Alternative:
        way = self.found.way
        models = way.context.models if isinstance(way, OrchestrationWay) else ()
        names = tuple(model.profile.name for model in models)
        quality = round(self.promise.quality, 4)
        return Alternative(self.found.label, names, self.score, quality, self.found.cost_usd, self.found.seconds)


class LearnedPlanner:
    """Chooses by learned quality, cost and time; by priority where nothing was learned.

    Parameters:
        preference: what counts how much.
    """

    def __init__(self, rules: RuleBasedPlanner, preference: Preference) -> None:
        self._rules = rules
        self._preference = preference

    def plan(self, request: PlanRequest, survey: Survey) -> Planned:
        if request.tool is not None:
            return self._rules.plan(request, survey)
        looks: list[RuleLook] = []
        options: list[_Option] = []
        for rule, found, look in self._rules.fitting(Asked(request), survey):
            looks.append(look)
            if found is None:
                continue
            promise = survey.promise(found)
            if promise is not None:
                options.append(_Option(rule, found, promise))
            elif not options:
                reason = f"the rule {rule.name!r}: {look.reason}; it names a tool"
                return self._rules.by_rule(rule, found, request, survey, tuple(looks), reason)
            else:
                looks[-1] = replace(look, outcome="outdone", reason="a rule of higher priority fits, and this one names a tool")
        if not options:
            return self._rules.without_rule(survey, tuple(looks))
        return self._best(options, looks, request, survey)

    def _best(self, options: list[_Option], looks: list[RuleLook], request: PlanRequest, survey: Survey) -> Planned:
        learned = any(option.promise.learned for option in options)
        ranked = sorted(_scored(options, self._preference), key=lambda option: -option.score) if learned else options
        best = ranked[0]
        if learned:
            reason = (
                f"the rule {best.rule.name!r}: of {len(options)} that fit, its {best.found.label} promises most, {_told(best)}"
            )
        else:
            reason = f"the rule {best.rule.name!r}: it fits, and nothing was learned yet, so the priority decides"
        others = {option.rule.name: option for option in ranked[1:]}
        told = tuple(
            replace(look, outcome="outdone", reason=_outdone(others[look.rule], best, learned=learned))
            if look.rule in others
            else look
            for look in looks
        )
        planned = self._rules.by_rule(best.rule, best.found, request, survey, told, reason)
        return replace(planned, alternatives=tuple(option.alternative for option in ranked), quality=best.promise.quality)


def _scored(options: list[_Option], preference: Preference) -> list[_Option]:
    """What each is worth. A price or a time that is not known is taken to be that of the dearest or slowest known one."""
    costs = [option.found.cost_usd for option in options if option.found.cost_usd is not None]
    times = [option.found.seconds for option in options if option.found.seconds is not None]
    least_cost, most_cost = min((one for one in costs if one > 0), default=None), max(costs, default=None)
    least_time, most_time = min((one for one in times if one > 0), default=None), max(times, default=None)

    def worth(option: _Option) -> float:
        found = option.found
        cost = doublings(most_cost if found.cost_usd is None else found.cost_usd, least_cost)
        time = doublings(most_time if found.seconds is None else found.seconds, least_time)
        return round(merit(option.promise.quality, cost, time, preference), 4)

    return [replace(option, score=worth(option)) for option in options]


def _outdone(option: _Option, best: _Option, *, learned: bool) -> str:
    if not learned:
        return f"it fits, and {best.rule.name!r} has priority"
    return f"it fits, and promises less: {_told(option)}"


def _told(option: _Option) -> str:
    found = option.found
    cost = "price unknown" if found.cost_usd is None else f"${found.cost_usd:.2g}"
    time = "time unknown" if found.seconds is None else f"{found.seconds:.2g} s"
    return f"worth {option.score:.3f} ({option.promise.quality:.0%} good, {cost}, {time})"
