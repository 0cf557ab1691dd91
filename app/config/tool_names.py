"""The tools that a configuration names, held to those that it has: a slip of the pen in a rule that denies would allow."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from app.config.bundle_checks import NamedTools, asked_by
from app.config.document import Fault, MemberPath
from app.config.explaining import close_to, listed
from app.config.planning import PlanTarget
from app.config.spec import OrchestratorConfig, QuorumSpec
from app.core.tools import ToolReference, Version, parse_reference

ToolsThere = Callable[[QuorumSpec], Sequence[tuple[str, Version]] | None]
"""Every version of every tool that a configuration has but those of MCP servers; None where it is faulty otherwise."""

MCP_SEPARATOR: Final = "__"
"""Between an MCP server's name and its tool's own."""
_PATTERN: Final = re.compile(r"[*?\[]")


def tool_name_faults(spec: QuorumSpec, there: ToolsThere | None, named: NamedTools | None) -> Iterator[Fault]:
    """A fault at each member of `spec` that names a tool which there is not. What MCP servers have is known later."""
    known = there(spec) if there is not None else None
    if known is None:
        return
    for path, reference, then in _named(spec, named):
        wanted = parse_reference(reference)
        if wanted is not None and not _is_there(wanted, known, spec):
            names = {name for name, _ in known}
            hint = _versions(wanted, known) or close_to(wanted.name, names) or f"; tools here: {listed(names)}"
            yield Fault(path, f"{reference!r} is not a tool{then}{hint}")


def _is_there(wanted: ToolReference, known: Sequence[tuple[str, Version]], spec: QuorumSpec) -> bool:
    server, separator, _ = wanted.name.partition(MCP_SEPARATOR)
    return bool(separator and server in spec.tools.mcp) or any(wanted.fits(*one) for one in known)


def _versions(wanted: ToolReference, known: Sequence[tuple[str, Version]]) -> str:
    versions = [str(version) for name, version in known if name == wanted.name]
    return f"; of {wanted.name!r} there is {', '.join(versions)}" if versions else ""


def _named(spec: QuorumSpec, named: NamedTools | None) -> Iterator[tuple[MemberPath, str, str]]:
    """Each name of a tool: where it stands, the name, and what follows from it for who is told that there is no such tool."""
    for index, rule in enumerate(spec.tools.permissions):
        for place, pattern in enumerate(rule.tools or ()):
            if not _PATTERN.search(pattern):
                yield ("tools", "permissions", index, "tools", place), pattern, ", so no call fits the rule by it"
    for path, config in _orchestrations(spec):
        for inner, name in named(config) if named is not None else ():
            yield (*path, *inner), name, ""
    for path, target in _targets(spec):
        if target.tool is not None:
            yield (*path, "tool"), target.tool, ""


def _orchestrations(spec: QuorumSpec) -> Iterator[tuple[MemberPath, OrchestratorConfig]]:
    for name, recipe in spec.recipes.items():
        yield ("recipes", name), recipe
    for reference, bundle in spec.tools.bundles.items():
        asked = asked_by(spec, bundle)
        if bundle.recipe is None and asked is not None:
            yield ("tools", "bundles", reference), asked
    for path, target in _targets(spec):
        if target.strategy is not None:
            yield path, OrchestratorConfig(strategy=target.strategy, models=target.models, options=target.options)


def _targets(spec: QuorumSpec) -> Iterator[tuple[MemberPath, PlanTarget]]:
    for index, rule in enumerate(spec.planner.rules):
        yield ("planner", "rules", index, "use"), rule.use
        for place, target in enumerate(rule.fallbacks):
            yield ("planner", "rules", index, "fallbacks", place), target
    if spec.planner.otherwise is not None:
        yield ("planner", "otherwise"), spec.planner.otherwise
