"""The planner that goes by rules: the first, by priority, that fits the request and whose target can be run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.config.planning import PlanRule, PlanTarget
from app.core.runs import PlanRequest, RuleLook
from app.core.tools import parse_reference
from app.orchestration.planning.matching import Asked, given
from app.orchestration.planning.planner import Planned, Survey, Surveyed, label_of


class RuleBasedPlanner:
    """Goes by the rules of the configuration.

    Parameters:
        rules: in the order of the configuration.
        otherwise: what is run where none of them can be gone by.
    """

    def __init__(self, rules: Sequence[PlanRule], otherwise: PlanTarget) -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: -rule.priority))  # of equals the earlier stays first
        self._otherwise = otherwise

    def plan(self, request: PlanRequest, survey: Survey) -> Planned:
        asked = Asked(request)
        if request.tool is not None:
            return self._tool(PlanTarget(tool=request.tool), asked, survey)
        looks: list[RuleLook] = []
        for rule, found, look in self.fitting(asked, survey):
            looks.append(look)
            if found is not None:
                return self.by_rule(rule, found, request, survey, tuple(looks), f"the rule {rule.name!r}: {look.reason}")
        return self.without_rule(survey, tuple(looks))

    def fitting(self, asked: Asked, survey: Survey) -> Iterator[tuple[PlanRule, Surveyed | None, RuleLook]]:
        """Every rule by priority, with its target where it fits and can be run, and how it stood."""
        for rule in self.rules:
            label = label_of(rule.use)
            mismatch = asked.mismatch(rule.match)
            if mismatch is not None:
                yield rule, None, RuleLook(rule.name, "not_matched", mismatch, label)
                continue
            found = survey.of(rule.use)
            if found.obstacle is not None:
                yield rule, None, RuleLook(rule.name, "passed_over", f"it fits, but {found.obstacle}", label)
            else:
                yield rule, found, RuleLook(rule.name, "chosen", given(rule.match), label)

    def by_rule(
        self,
        rule: PlanRule,
        found: Surveyed,
        request: PlanRequest,
        survey: Survey,
        looks: tuple[RuleLook, ...],
        reason: str,
    ) -> Planned:
        """The plan that goes by `rule`."""
        fallbacks = [survey.of(target) for target in rule.fallbacks] if request.allow_fallback else []
        usable = tuple(one for one in fallbacks if one.obstacle is None)
        set_aside = {one.label: one.obstacle for one in fallbacks if one.obstacle is not None}
        return Planned(found, usable, rule.name, looks, reason, set_aside)

    def without_rule(self, survey: Survey, looks: tuple[RuleLook, ...]) -> Planned:
        """The plan where no rule can be gone by.

        Raises:
            QuorumError: what is run otherwise cannot even be prepared.
        """
        found = survey.of(self._otherwise)
        if found.error is not None:
            raise found.error
        why = "none of the rules fits" if looks else "there are no rules"
        if any(look.outcome == "passed_over" for look in looks):
            why = "of no rule that fits can the target be run"
        but = f", although {found.obstacle}" if found.obstacle is not None else ""
        return Planned(found, rules=looks, reason=f"{why}: what is run otherwise, {found.label}{but}")

    def _tool(self, target: PlanTarget, asked: Asked, survey: Survey) -> Planned:
        """The plan for a tool that is asked for by name. It has the fallbacks of the first rule that fits and names it.

        Raises:
            QuorumError: there is no such tool, or its arguments do not fit.
        """
        found = survey.of(target)
        if found.error is not None:
            raise found.error
        but = f", although {found.obstacle}" if found.obstacle is not None else ""
        reason = f"the tool {target.tool!r} is asked for by name{but}"
        looks: list[RuleLook] = []
        for rule in self.rules:
            if not _same_tool(rule.use.tool, target.tool):
                continue
            mismatch = asked.mismatch(rule.match)
            if mismatch is None:
                looks.append(RuleLook(rule.name, "chosen", f"it names the tool, and {given(rule.match)}", found.label))
                return self.by_rule(rule, found, asked.request, survey, tuple(looks), reason)
            looks.append(RuleLook(rule.name, "not_matched", mismatch, label_of(rule.use)))
        return Planned(found, rules=tuple(looks), reason=reason)


def _same_tool(one: str | None, other: str | None) -> bool:
    """Whether two references are to one tool, whichever versions."""
    if one is None or other is None:
        return False
    first, second = parse_reference(one), parse_reference(other)
    return first is not None and second is not None and first.name == second.name
