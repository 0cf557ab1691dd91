"""Planners over targets that stand as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.config.planning import PlannerConfig, PlanTarget
from app.core.errors import QuorumError
from app.core.runs import OrchestrationConfig, PlanRequest
from app.orchestration.outlook import POLICIES
from app.orchestration.planning.learned import LearnedPlanner
from app.orchestration.planning.planner import Promise, Surveyed, label_of
from app.orchestration.planning.rules import RuleBasedPlanner


@dataclass
class Standing:
    """How targets stand: all can be run, but for those with an obstacle. Names are those of their recipes and tools."""

    obstacles: Mapping[str, str] = field(default_factory=dict[str, str])
    errors: Mapping[str, QuorumError] = field(default_factory=dict[str, QuorumError])
    costs: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict[str, tuple[float | None, float | None]])
    promises: Mapping[str, Promise] = field(default_factory=dict[str, Promise])
    asked: list[str] = field(default_factory=list[str])

    def of(self, target: PlanTarget) -> Surveyed:
        name = name_of(target)
        self.asked.append(name)
        error = self.errors.get(name)
        obstacle = error.message if error else self.obstacles.get(name)
        cost, seconds = self.costs.get(name, (None, None))
        return Surveyed(target, label_of(target), None, obstacle, error, cost, seconds)

    def promise(self, surveyed: Surveyed) -> Promise | None:
        name = name_of(surveyed.target)
        return None if surveyed.target.tool else self.promises.get(name, Promise(0.7, learned=False))


def name_of(target: PlanTarget) -> str:
    return target.tool or target.recipe or target.strategy or ""


def request(**more: Any) -> PlanRequest:
    return PlanRequest(OrchestrationConfig("reliable"), (), type="order", facts={"text": "Hi", "tokens": 1}, **more)


def by_rules(*rules: dict[str, Any]) -> RuleBasedPlanner:
    config = PlannerConfig.model_validate({"rules": rules})
    return RuleBasedPlanner(config.rules, PlanTarget(strategy="simple"))


def by_learning(*rules: dict[str, Any], policy: Any = "balanced") -> LearnedPlanner:
    return LearnedPlanner(by_rules(*rules), POLICIES[policy])


def rule(name: str, recipe: str | None = None, *, tool: str | None = None, behind: tuple[str, ...] = (), **more: Any) -> Any:
    use = {"tool": tool} if tool else {"recipe": recipe or name}
    return {"name": name, "use": use, "fallbacks": [{"recipe": one} for one in behind], **more}
