"""The planners, by what the configuration calls them."""

from __future__ import annotations

from app.config.planning import PlanTarget
from app.config.spec import QuorumSpec
from app.orchestration.outlook import POLICIES
from app.orchestration.planning.learned import LearnedPlanner
from app.orchestration.planning.planner import Planner
from app.orchestration.planning.rules import RuleBasedPlanner


def planner_of(spec: QuorumSpec) -> Planner:
    """The planner that `spec` wants."""
    config = spec.planner
    rules = RuleBasedPlanner(config.rules, config.otherwise or PlanTarget(strategy=spec.defaults.strategy))
    match config.kind:
        case "rules":
            return rules
        case "learned":
            return LearnedPlanner(rules, POLICIES[config.policy])
