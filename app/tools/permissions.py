"""Who may have which tool run: deny by default, and of the rules that fit a call the strictest holds.

The order of rules says nothing. `deny` goes before `approve`, and that before `allow`. A condition that cannot be decided
counts against the call: a rule that allows does not fit then, one that denies or asks for approval does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

from app.config.tools import PermissionRule
from app.core.conditions import Condition, Unanswerable, compiled
from app.core.tools import RULE_VARIABLES, Considered, Effect, PermissionDecision, ToolCaller, ToolSpec

PURE_BUILTINS: Final = "pure-builtins"
_STRICTEST: Final[tuple[Effect, ...]] = ("deny", "approve", "allow")
_BUILT_IN_RULE: Final = PermissionRule(effect="allow", name=PURE_BUILTINS, sources=("builtin",), side_effects=("pure",))


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    config: PermissionRule
    when: Condition | None


@dataclass(frozen=True, slots=True)
class _Stood:
    """How a rule stood to a call. `matched` is None where that depends on the arguments; `undecided` says that its condition
    could not be decided, as `why` says."""

    rule: _Rule
    matched: bool | None
    why: str
    undecided: bool = False


class Permissions:
    """The rules in force. The configuration was checked, so that conditions compile."""

    def __init__(self, rules: Sequence[PermissionRule] = ()) -> None:
        self._rules = [_rule(rule, index) for index, rule in enumerate((*rules, _BUILT_IN_RULE), 1)]

    async def decide(
        self, spec: ToolSpec, caller: ToolCaller, arguments: Mapping[str, Any] | None, *, explain: bool = False
    ) -> PermissionDecision:
        """What becomes of a call.

        Parameters:
            arguments: None where they are not known yet; then rules that ask of them leave the decision open.
            explain: tell of every rule how it stood to the call.
        """
        if arguments is None:
            return self.beforehand(spec, caller, explain=explain)
        lack = _lacking(spec, caller)
        if lack is not None:
            return lack
        stood = [await _fits(rule, spec, caller, arguments) for rule in self._rules]
        return _decided(stood, spec, caller, explain=explain)

    def beforehand(self, spec: ToolSpec, caller: ToolCaller, *, explain: bool = False) -> PermissionDecision:
        """What becomes of a call whose arguments are not known yet."""
        lack = _lacking(spec, caller)
        if lack is not None:
            return lack
        stood = [_Stood(rule, *_fits_by_name(rule, spec, caller)) for rule in self._rules]
        return _decided(stood, spec, caller, explain=explain)


def _lacking(spec: ToolSpec, caller: ToolCaller) -> PermissionDecision | None:
    lacking = spec.scopes - caller.scopes
    if not lacking or "admin" in caller.scopes:
        return None
    return PermissionDecision("deny", None, f"the tool {spec.name!r} needs a key with the scope {min(lacking)!r}")


def _decided(stood: Sequence[_Stood], spec: ToolSpec, caller: ToolCaller, *, explain: bool) -> PermissionDecision:
    """What follows from how each rule stood."""
    considered = [Considered(one.rule.name, one.rule.config.effect, one.matched, one.why) for one in stood if explain]
    found: dict[Effect, _Stood] = {}
    for one in stood:
        if one.matched:
            found.setdefault(one.rule.config.effect, one)
    open_ = {one.rule.config.effect for one in stood if one.matched is None}
    strictest = min(found, key=_STRICTEST.index, default=None)
    effect: Effect = strictest or "deny"
    depends = any(_STRICTEST.index(one) < _STRICTEST.index(effect) or (strictest is None and one != "deny") for one in open_)
    decisive = found.get(effect)
    if depends:
        reason = f"the arguments decide about {spec.reference!r}"
    else:
        reason = _default_reason(stood, spec, caller) if decisive is None else _reason(decisive, spec)
    return PermissionDecision(effect, decisive.rule.name if decisive else None, reason, depends, tuple(considered))


def _rule(config: PermissionRule, index: int) -> _Rule:
    when = compiled(config.when, RULE_VARIABLES) if config.when is not None else None
    return _Rule(config.name or f"rule {index}", config, when)


async def _fits(rule: _Rule, spec: ToolSpec, caller: ToolCaller, arguments: Mapping[str, Any]) -> _Stood:
    """Whether `rule` fits, and why."""
    matched, why = _fits_by_name(rule, spec, caller)
    if matched is not None or rule.when is None:
        return _Stood(rule, matched, why)
    try:
        holds = await rule.when.holds(_facts(spec, caller, arguments))
    except Unanswerable as error:
        strict = rule.config.effect != "allow"
        return _Stood(rule, strict, f"its condition cannot be decided ({error}), which counts against the call", undecided=True)
    return _Stood(rule, holds, "its condition holds" if holds else "its condition does not hold")


def _fits_by_name(rule: _Rule, spec: ToolSpec, caller: ToolCaller) -> tuple[bool | None, str]:
    """Whether `rule` fits, None where that depends on the arguments; and why."""
    config = rule.config
    if config.side_effects is not None and spec.side_effect not in config.side_effects:
        return False, f"its side effect is {spec.side_effect!r}"
    if config.sources is not None and spec.source not in config.sources:
        return False, f"its source is {spec.source!r}"
    if config.tools is not None and not any(_names(pattern, spec) for pattern in config.tools):
        return False, f"{spec.reference!r} is none of its tools"
    if config.tenants is not None and not _any(config.tenants, caller.tenant):
        return False, f"{caller.tenant!r} is none of its tenants"
    if config.scopes is not None and not caller.scopes.intersection((*config.scopes, "admin")):
        return False, "the key has none of its scopes"
    if config.recipes is not None and (caller.recipe is None or not _any(config.recipes, caller.recipe)):
        return False, f"{caller.recipe!r} is none of its recipes" if caller.recipe else "no recipe asks"
    if rule.when is None:
        return True, "it fits"
    return None, "it depends on the arguments"


def _facts(spec: ToolSpec, caller: ToolCaller, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "tenant": caller.tenant,
        "scopes": sorted(caller.scopes),
        "recipe": caller.recipe or "",
        "tool": spec.name,
        "version": str(spec.version),
        "side_effect": spec.side_effect,
        "source": spec.source,
        "arguments": dict(arguments),
    }


def _names(pattern: str, spec: ToolSpec) -> bool:
    name, at, version = pattern.partition("@")
    if not fnmatchcase(spec.name, name):
        return False
    return not at or str(spec.version) == version or str(spec.version).startswith(f"{version}.")


def _any(patterns: Sequence[str], text: str) -> bool:
    return any(fnmatchcase(text, pattern) for pattern in patterns)


def _reason(decisive: _Stood, spec: ToolSpec) -> str:
    rule = decisive.rule
    said = f": {rule.config.reason}" if rule.config.reason else ""
    why = f"; {decisive.why}" if decisive.undecided else ""
    match rule.config.effect:
        case "allow":
            return f"{rule.name!r} allows {spec.reference!r}{said}"
        case "approve":
            return f"{rule.name!r} wants an approval for {spec.reference!r}{said}{why}"
        case "deny":
            return f"{rule.name!r} denies {spec.reference!r}{said}{why}"


def _default_reason(stood: Sequence[_Stood], spec: ToolSpec, caller: ToolCaller) -> str:
    undecided = next((one for one in stood if one.undecided and one.rule.config.effect == "allow"), None)
    if undecided is not None:
        return f"no rule allows {spec.reference!r}; {undecided.rule.name!r} might, but {undecided.why}"
    recipe = f", recipes: [{caller.recipe}]" if caller.recipe else ""
    rule = f"{{effect: allow, tools: [{spec.name}], tenants: [{caller.tenant}]{recipe}}}"
    return f"no rule allows {spec.reference!r}; add one to tools.permissions, such as {rule}"
