"""What holds in the part of the configuration about the planner, beyond the shape of each member."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.config.document import Fault, MemberPath
from app.config.explaining import close_to, listed
from app.config.planning import AttributeTest, Match, PlanTarget, TimeWindow
from app.config.spec import OrchestratorConfig, QuorumSpec
from app.core.conditions import compiled
from app.core.errors import InvalidRequest
from app.core.patterns import compiled as compiled_pattern
from app.core.planning import ARGUMENT_VARIABLES, PLAN_VARIABLES
from app.core.templates import placeholders

OrchestrationCheck = Callable[[MemberPath, OrchestratorConfig], Iterator[Fault]]

RELIABLE: Final = "reliable"
_MOST_PATH: Final = 256
_CLOCK: Final = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9]")
_OF_TARGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "tool": ("arguments",),
    "recipe": (),
    "strategy": ("models", "lead_model", "options"),
}
"""By what a target is, the members that it may have beside."""


def planner_faults(spec: QuorumSpec, orchestration: OrchestrationCheck) -> Iterator[Fault]:
    """All faults of the member `planner`.

    Parameters:
        orchestration: the faults of a strategy with its models and options, at a place.
    """
    planner = spec.planner
    names: set[str] = set()
    for index, rule in enumerate(planner.rules):
        path: MemberPath = ("planner", "rules", index)
        if rule.name in names:
            yield Fault((*path, "name"), f"{rule.name!r} is the name of another rule too; every rule needs its own")
        names.add(rule.name)
        yield from _match((*path, "match"), rule.match)
        yield from _target((*path, "use"), rule.use, spec, orchestration)
        for place, target in enumerate(rule.fallbacks):
            yield from _target((*path, "fallbacks", place), target, spec, orchestration)
    if planner.otherwise is not None:
        yield from _target(("planner", "otherwise"), planner.otherwise, spec, orchestration)
    elif spec.defaults.strategy == RELIABLE:
        message = f"the default strategy is {RELIABLE!r} itself; say under planner.otherwise what is run where no rule fits"
        yield Fault(("defaults", "strategy"), message)


def _target(path: MemberPath, target: PlanTarget, spec: QuorumSpec, orchestration: OrchestrationCheck) -> Iterator[Fault]:
    given = [kind for kind in _OF_TARGETS if getattr(target, kind) is not None]
    if len(given) != 1:
        yield Fault(path, "needs one of 'tool', 'recipe' and 'strategy'" + (f"; {listed(given)} are given" if given else ""))
        return
    for kind, members in _OF_TARGETS.items():
        for member in members:
            if kind != given[0] and member in target.model_fields_set:
                yield Fault((*path, member), f"belongs to a {kind}; this runs a {given[0]}")
    if target.tool is not None:
        yield from _arguments((*path, "arguments"), target)
    elif target.recipe is not None:
        yield from _recipe((*path, "recipe"), target.recipe, spec)
    elif target.strategy == RELIABLE:
        yield Fault((*path, "strategy"), f"{RELIABLE!r} plans itself; name another strategy")
    else:
        config = OrchestratorConfig(
            strategy=target.strategy or "", models=target.models, lead_model=target.lead_model, options=target.options
        )
        yield from orchestration(path, config)


def _recipe(path: MemberPath, name: str, spec: QuorumSpec) -> Iterator[Fault]:
    recipe = spec.recipes.get(name)
    if recipe is None:
        known = f"; recipes here: {listed(spec.recipes)}" if spec.recipes else "; there are no recipes here"
        yield Fault(path, f"{name!r} is not a recipe{close_to(name, spec.recipes) or known}")
    elif recipe.strategy == RELIABLE:
        yield Fault(path, f"{name!r} is of strategy {RELIABLE!r}, which plans itself; name another recipe")


def _arguments(path: MemberPath, target: PlanTarget) -> Iterator[Fault]:
    for name in dict.fromkeys(placeholders(target.arguments)):
        if name.partition(".")[0] not in ARGUMENT_VARIABLES:
            yield Fault(path, f"{{{name}}} stands for nothing; there are {listed(ARGUMENT_VARIABLES)}")


def _match(path: MemberPath, match: Match) -> Iterator[Fault]:
    for place, inner in enumerate(match.all or ()):
        yield from _match((*path, "all", place), inner)
    for place, inner in enumerate(match.any or ()):
        yield from _match((*path, "any", place), inner)
    if match.not_ is not None:
        yield from _match((*path, "not"), match.not_)
    if match.matches is not None:
        yield from _pattern((*path, "matches"), match.matches)
    for name, test in (match.attributes or {}).items():
        if not all(name.split(".")) or len(name) > _MOST_PATH:
            yield Fault((*path, "attributes", name), f"is no path of at most {_MOST_PATH} characters, such as customer.tier")
        yield from _test((*path, "attributes", name), test)
    if match.tokens is not None:
        yield from _range((*path, "tokens"), match.tokens.min, match.tokens.max)
    if match.time is not None:
        yield from _time((*path, "time"), match.time)
    if match.when is not None:
        yield from _condition((*path, "when"), match.when)


def _test(path: MemberPath, test: AttributeTest) -> Iterator[Fault]:
    if not test.model_fields_set:
        yield Fault(path, "tests nothing; give one of 'equals', 'in', 'contains', 'matches', 'min', 'max' and 'exists'")
    if test.exists is False and len(test.model_fields_set) > 1:
        yield Fault((*path, "exists"), "what is not there passes no other test; leave one out")
    if test.matches is not None:
        yield from _pattern((*path, "matches"), test.matches)
    yield from _range(path, test.min, test.max)


def _range(path: MemberPath, least: float | None, most: float | None) -> Iterator[Fault]:
    if least is not None and most is not None and least > most:
        yield Fault((*path, "max"), f"is less than min ({least:g}), so nothing fits")


def _pattern(path: MemberPath, pattern: str) -> Iterator[Fault]:
    try:
        compiled_pattern(pattern)
    except InvalidRequest as error:
        yield Fault(path, error.message)


def _condition(path: MemberPath, source: str) -> Iterator[Fault]:
    try:
        condition = compiled(source, PLAN_VARIABLES)
    except InvalidRequest as error:
        yield Fault(path, error.message)
        return
    if condition.loops:
        yield Fault(path, "loops, and rules are looked at before anything else is done; test lists with 'in' or 'contains'")


def _time(path: MemberPath, window: TimeWindow) -> Iterator[Fault]:
    for member in ("start", "end"):
        at = getattr(window, member)
        if not _CLOCK.fullmatch(at):
            yield Fault((*path, member), f"{at[:60]!r} is no time of day; write it like 08:30")
    try:
        ZoneInfo(window.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Fault((*path, "zone"), f"there is no time zone {window.zone[:60]!r}; write it like Europe/Berlin")
