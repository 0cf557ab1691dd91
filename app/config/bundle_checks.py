"""What holds for bundle tools, orchestrations as tools, beyond the shape of each member."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import cast

from app.config.document import Fault, MemberPath
from app.config.explaining import close_to, listed
from app.config.spec import OrchestratorConfig, QuorumSpec
from app.config.tools import BundleToolConfig
from app.core.errors import InvalidRequest
from app.core.json_schemas import compiled as compiled_schema
from app.core.templates import placeholders
from app.core.tools import FIRST, Version, parse_reference

NamedTools = Callable[[OrchestratorConfig], list[tuple[MemberPath, str]]]
"""The tools that the options of an orchestration name, without patterns, each with the path of the member that does."""


def asked_by(spec: QuorumSpec, config: BundleToolConfig) -> OrchestratorConfig | None:
    """The orchestration that a bundle tool asks; None where its recipe is not there."""
    if config.recipe is not None:
        return spec.recipes.get(config.recipe)
    return OrchestratorConfig(
        strategy=config.strategy or "direct", models=config.models, lead_model=config.lead_model, options=config.options
    )


def bundle_faults(spec: QuorumSpec, named: NamedTools | None) -> Iterator[Fault]:
    """All faults of `tools.bundles` but for those of the orchestrations that they state themselves."""
    taken = {(parsed.name, Version(*parsed.version or FIRST)) for parsed in map(parse_reference, spec.tools.http) if parsed}
    for reference, config in spec.tools.bundles.items():
        path: MemberPath = ("tools", "bundles", reference)
        parsed = parse_reference(reference)
        if parsed is None:
            yield Fault(path, "is not a usable name; write it like verdict or verdict@2")
            continue
        version = (parsed.name, Version(*parsed.version or FIRST))
        if parsed.name in spec.tools.builtins:
            yield Fault(path, f"{parsed.name!r} is a built-in tool; choose another name")
        elif version in taken:
            yield Fault(path, f"there is another tool {parsed.name}@{version[1]}; give it another name or version")
        taken.add(version)
        yield from _asked(spec, config, path)
        yield from _shape(config, path)
        yield from _times(config, path)
    if named is not None:
        yield from _circles(spec, named)


def _asked(spec: QuorumSpec, config: BundleToolConfig, path: MemberPath) -> Iterator[Fault]:
    if (config.recipe is None) == (config.strategy is None):
        yield Fault(path, "needs either 'recipe', or 'strategy' with what a recipe has")
    elif config.recipe is not None:
        if config.recipe not in spec.recipes:
            known = f"; recipes here: {listed(spec.recipes)}" if spec.recipes else "; there are no recipes here"
            yield Fault((*path, "recipe"), f"{config.recipe!r} is not a recipe{close_to(config.recipe, spec.recipes) or known}")
        for member in ("models", "lead_model", "options"):
            if getattr(config, member):
                yield Fault((*path, member), "is the recipe's; leave it out")


def _shape(config: BundleToolConfig, path: MemberPath) -> Iterator[Fault]:
    for member, schema in (("input", config.input), ("schema", config.json_schema)):
        try:
            compiled_schema(schema or {})
        except InvalidRequest as error:
            yield Fault((*path, member), error.message)
    if config.input.get("type") != "object":
        yield Fault((*path, "input"), "is not of type object, which arguments are")
    properties, required = config.input.get("properties"), config.input.get("required")
    known = set(cast("Mapping[str, object]", properties)) if isinstance(properties, Mapping) else set[str]()
    given = set(cast("list[str]", required)) if isinstance(required, list) else set[str]()
    for name in dict.fromkeys(placeholders(config.prompt)):
        top = name.partition(".")[0]
        if top not in known:
            yield Fault((*path, "prompt"), f"{{{name}}} stands for nothing; the input schema has no property {top!r}")
        elif top not in given:
            yield Fault((*path, "prompt"), f"{{{name}}} may be missing; list {top!r} as required in the input schema")
    if config.epsilon is not None and config.json_schema is None:
        yield Fault((*path, "epsilon"), "is for answers that can be counted; give their 'schema', or leave it out")
    for member in ("seeds", "temperatures"):
        if len(getattr(config, member)) > config.k:
            yield Fault((*path, member), f"are more than the replicates (k is {config.k})")


def _times(config: BundleToolConfig, path: MemberPath) -> Iterator[Fault]:
    whole, each = config.budget.seconds, config.replicate_budget.seconds
    if whole is not None and whole >= config.timeout_s:
        message = f"must be less than timeout_s ({config.timeout_s:g}): what there is by then could not be given any more"
        yield Fault((*path, "budget", "seconds"), message)
    if whole is not None and each is not None and each > whole:
        yield Fault((*path, "replicate_budget", "seconds"), f"is more than all may take together ({whole:g})")


def _circles(spec: QuorumSpec, named: NamedTools) -> Iterator[Fault]:
    """A tool that would be asked for inside of itself, by the names in the options of what it asks."""
    leads = {reference: _called(spec, config, named) for reference, config in spec.tools.bundles.items()}
    for reference in leads:
        circle = _back_to(reference, leads)
        if circle:
            said = " -> ".join(circle)
            yield Fault(("tools", "bundles", reference), f"asks for itself: {said}; leave one of them out of options.tools")


def _called(spec: QuorumSpec, config: BundleToolConfig, named: NamedTools) -> tuple[str, ...]:
    asked = asked_by(spec, config)
    wanted = [parsed for parsed in map(parse_reference, _names(asked, named)) if parsed]
    found: dict[str, None] = {}
    for reference in spec.tools.bundles:
        own = parse_reference(reference)
        if own and any(one.name == own.name for one in wanted):
            found[reference] = None
    return tuple(found)


def _names(asked: OrchestratorConfig | None, named: NamedTools) -> list[str]:
    return [name for _, name in named(asked)] if asked is not None else []


def _back_to(start: str, leads: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The shortest way from `start` back to it; empty where there is none."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen = {start}
    while ways:
        way = ways.pop(0)
        for following in leads[way[-1]]:
            if following == start:
                return (*way, start)
            if following not in seen:
                seen.add(following)
                ways.append((*way, following))
    return ()
