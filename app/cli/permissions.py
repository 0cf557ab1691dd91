"""What `quorum config explain-permission` says: the decision on a call of a tool, and how every rule stood to it."""

from __future__ import annotations

import asyncio
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from app.config.explaining import close_to, listed
from app.config.spec import QuorumSpec
from app.core.clock import SystemClock
from app.core.errors import InvalidRequest, NotFound
from app.core.principal import SCOPES
from app.core.tools import Effect, PermissionDecision, ToolCaller, ToolSpec
from app.orchestration.bundles.tools import Bundles
from app.tools.execution import arguments_of, checked
from app.tools.mcp.tools import SEPARATOR, spec_of
from app.tools.permissions import Permissions
from app.tools.toolbox import Toolbox

EXITS: Final[dict[Effect, int]] = {"allow": 0, "approve": 3, "deny": 4}
_OPEN: Final = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """The call that is asked about. `arguments` is JSON, None where they are to be left open."""

    tool: str
    tenant: str
    scopes: frozenset[str]
    recipe: str | None
    arguments: str | None


def explained(spec: QuorumSpec, asked: Asked, *, as_json: bool) -> int:
    """Print the decision; the exit code.

    Raises:
        NotFound: there is no such tool, or no such recipe.
        InvalidRequest: the arguments do not fit it, or there is no such scope.
    """
    for scope in sorted(asked.scopes.difference(SCOPES)):
        hint = close_to(scope, SCOPES) or f"; scopes are {listed(SCOPES)}"
        raise InvalidRequest(f"--scope: {scope!r} is no scope{hint}", param="scope")
    if asked.recipe is not None and asked.recipe not in spec.recipes:
        raise NotFound(_no_recipe(asked.recipe, tuple(spec.recipes)), param="recipe")
    tool, arguments = _call(spec, asked)
    caller = ToolCaller(tenant=asked.tenant, scopes=asked.scopes, recipe=asked.recipe)
    decision = asyncio.run(Permissions(spec.tools.permissions).decide(tool, caller, arguments, explain=True))
    typer.echo(json.dumps(_told(tool, decision), indent=2) if as_json else _page(tool, decision))
    return _OPEN if decision.depends else EXITS[decision.effect]


def _call(spec: QuorumSpec, asked: Asked) -> tuple[ToolSpec, dict[str, Any] | None]:
    config = spec.tools
    given = None if asked.arguments is None else dict(arguments_of(asked.arguments))
    server, _, tool = asked.tool.partition("@")[0].partition(SEPARATOR)
    if tool and server in config.mcp:
        described = {"name": tool, "description": "", "input_schema": None, "output_schema": None}
        return spec_of(server, config.mcp[server], described), given  # its schemas are the server's, which is not asked
    clock = SystemClock()
    more = Bundles(spec, clock).tools
    registered = Toolbox(config.model_copy(update={"mcp": {}}), clock, Path(), more=more).find(asked.tool)
    return registered.spec, None if given is None else checked(registered, given, config.max_arguments_bytes)


def _no_recipe(name: str, there: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, there, n=1)
    if close:
        return f"there is no recipe {name!r}; did you mean {close[0]!r}?"
    return f"there is no recipe {name!r}; " + (f"recipes here: {listed(there)}" if there else "there are no recipes here")


def _effect(decision: PermissionDecision) -> str:
    return "depends" if decision.depends else decision.effect


def _told(spec: ToolSpec, decision: PermissionDecision) -> dict[str, Any]:
    return {
        "tool": spec.name,
        "version": str(spec.version),
        "side_effect": spec.side_effect,
        "source": spec.source,
        "effect": _effect(decision),
        "rule": decision.rule,
        "reason": decision.reason,
        "rules": [
            {"rule": one.rule, "effect": one.effect, "matched": one.matched, "why": one.why} for one in decision.considered
        ],
    }


def _page(spec: ToolSpec, decision: PermissionDecision) -> str:
    words = {"allow": "allowed", "approve": "needs an approval", "deny": "denied", "depends": "depends on the arguments"}
    marks = {True: "fits", False: "does not fit", None: "open"}
    lines = [f"{spec.reference} ({spec.source}, {spec.side_effect}): {words[_effect(decision)]}", f"  {decision.reason}"]
    if decision.considered:
        lines.append("Rules:")
    lines += [f"  {one.rule} ({one.effect}): {marks[one.matched]}: {one.why}" for one in decision.considered]
    return "\n".join(lines)
