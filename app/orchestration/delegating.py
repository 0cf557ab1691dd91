"""What a strategy works with that hands requests to others: the planner in force, and who prepares them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.config.planning import PlanTarget
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.planning.planner import Planner


@dataclass(frozen=True, slots=True)
class Delegates:
    """`prepared` gives the strategy of a target, and its surroundings within the run of those that it is given.

    It raises what `Engine.begin` raises: nothing is called that cannot do what is asked.
    """

    planner: Planner
    prepared: Callable[[PlanTarget, RunContext], tuple[BaseOrchestrator, RunContext]]
