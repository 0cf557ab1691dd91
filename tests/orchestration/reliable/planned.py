"""Runs of `reliable` over models that speak by script, with tools and rules of a test's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.config.spec import QuorumSpec
from app.core.clock import SystemClock
from app.core.messages import user
from app.core.models import ModelProfile
from app.core.runs import OrchestrationConfig, RunRequest
from app.core.standing import Standing
from app.core.tools import EnclosingRun
from app.orchestration.engine import Engine
from app.orchestration.learning.lessons import Lessons
from app.orchestration.run import Run
from app.orchestration.strategies import Strategies
from app.tools.toolbox import Toolbox
from tests.orchestration.known import Known
from tests.orchestration.scripted import Ran, Scripted, lawful

RUN_ID = "run_" + "b2" * 12


@dataclass
class Doing:
    """How models are doing: well, but for those whose breaker is `open`."""

    open: Mapping[str, float] = field(default_factory=dict[str, float])

    def of(self, profile: ModelProfile) -> Standing:
        return Standing(0.9, self.open.get(profile.name, 0.0))

    def record(self, profile: ModelProfile, *, ok: bool) -> None: ...


def begin(
    models: Sequence[Scripted],
    rules: Sequence[Mapping[str, Any]] = (),
    /,
    *,
    box: Toolbox | None = None,
    doing: Doing | None = None,
    lessons: Lessons | None = None,
    text: str = "What is it?",
    options: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    selected: tuple[str, ...] = (),
    spec: Mapping[str, Any] | None = None,
    inside: EnclosingRun | None = None,
    **request: Any,
) -> Run:
    """A run that may begin. `request` are further members of it."""
    more = dict(spec or {})
    planner = {"rules": list(rules), **more.pop("planner", {})}
    configured = QuorumSpec.model_validate({"planner": planner, **more})
    made = Engine(
        Known(*models),
        Strategies(plugins=False),
        configured,
        SystemClock(),
        standings=doing or Doing(),
        lessons=None if lessons is None else lambda _: lessons,
        toolbox=box,
    )
    config = OrchestrationConfig("reliable", selected, None, options or {}, recipe)
    asking = RunRequest(config, (user(text),), **{"deltas": "all", "scopes": frozenset({"run"}), **request})
    return made.begin(asking, RUN_ID) if inside is None else made.begin_inside(asking, inside)


async def act(models: Sequence[Scripted], rules: Sequence[Mapping[str, Any]] = (), /, **how: Any) -> Ran:
    """A run to its end."""
    return await run(begin(models, rules, **how), models)


async def run(begun: Run, models: Sequence[Scripted]) -> Ran:
    return lawful([event async for event in begun.events()], models, RUN_ID)
