"""What a planner is: one method that chooses among the configured targets, by what a survey says of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.config.planning import PlanTarget
from app.core.errors import QuorumError
from app.core.runs import Alternative, PlanRequest, RuleLook
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.reliability.forecast import Forecast
from app.tools.registry import Registered


@dataclass(frozen=True, slots=True)
class ToolWay:
    """A tool that is run directly, with arguments that fit it."""

    registered: Registered
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class OrchestrationWay:
    """A strategy in its surroundings, and the calls that it may make, at their worst. `stated`: it told them itself."""

    strategy: BaseOrchestrator
    context: RunContext
    forecast: Forecast
    stated: bool


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A target as it stands now. `label` names it in plans.

    `obstacle` says why it cannot be run, None where it can; `error` is there besides where it could not even be prepared, and
    then there is no `way`. Dollars and seconds are what is expected, None where that is not known.
    """

    target: PlanTarget
    label: str
    way: ToolWay | OrchestrationWay | None = None
    obstacle: str | None = None
    error: QuorumError | None = None
    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Promise:
    """How likely a target gives a good answer, 0 to 1, and whether anything was learned that says so."""

    quality: float
    learned: bool


class Survey(Protocol):
    """Who knows how targets stand for the request that is planned. Asking is quick, and calls nothing."""

    def of(self, target: PlanTarget) -> Surveyed:
        """Whether `target` can be run now, and what that takes."""
        ...

    def promise(self, surveyed: Surveyed) -> Promise | None:
        """What is expected of its answer; None of a tool."""
        ...


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be run, what goes in its place where it fails, and why.

    `rule` is the one that was gone by, None where none fitted; `set_aside` are fallbacks that cannot be run, with the reason.
    Where it was chosen by what was learned, `alternatives` are what it was chosen among, the best first, and `quality` is how
    likely it gives a good answer, 0 to 1.
    """

    chosen: Surveyed
    fallbacks: tuple[Surveyed, ...] = ()
    rule: str | None = None
    rules: tuple[RuleLook, ...] = ()
    reason: str = ""
    set_aside: Mapping[str, str] = field(default_factory=dict[str, str])
    alternatives: tuple[Alternative, ...] = ()
    quality: float | None = None


class Planner(Protocol):
    """Decides what a request gets."""

    def plan(self, request: PlanRequest, survey: Survey) -> Planned:
        """The decision; of one request always the same, as long as the survey says the same.

        Raises:
            QuorumError: nothing can be run for it.
        """
        ...


def label_of(target: PlanTarget) -> str:
    """How plans name it: `tool clock`, `recipe panel`, `strategy direct over 'fast'`."""
    if target.tool is not None:
        return f"tool {target.tool}"
    if target.recipe is not None:
        return f"recipe {target.recipe}"
    over = f" over {', '.join(repr(name) for name in target.models)}" if target.models else ""
    return f"strategy {target.strategy}{over}"
