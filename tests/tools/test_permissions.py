from __future__ import annotations

from typing import Any

import pytest

from app.config.tools import PermissionRule
from app.core.tools import PermissionDecision, ToolCaller, ToolSpec, Version
from app.tools.permissions import Permissions
from tests.tools.conftest import ME

WEATHER = ToolSpec("weather", "Tells.", {"type": "object"}, Version(1, 2), side_effect="read", source="http")
ORDER = ToolSpec("order", "Orders.", {"type": "object"}, side_effect="write", source="http")
SUM = ToolSpec("sum", "Adds.", {"type": "object"}, side_effect="pure", source="builtin")


async def decided(
    rules: list[dict[str, Any]],
    spec: ToolSpec = WEATHER,
    caller: ToolCaller = ME,
    arguments: dict[str, Any] | None = {},  # noqa: B006 (read only)
) -> PermissionDecision:
    permissions = Permissions([PermissionRule.model_validate(rule) for rule in rules])
    return await permissions.decide(spec, caller, arguments, explain=True)


async def test_nothing_is_allowed_by_default_but_pure_built_ins() -> None:
    assert (await decided([], SUM)).effect == "allow"
    refused = await decided([])
    assert (refused.effect, refused.rule) == ("deny", None)
    assert "{effect: allow, tools: [weather], tenants: [acme]}" in refused.reason


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ({}, True),
        ({"tenants": ["ac*"]}, True),
        ({"tenants": ["other"]}, False),
        ({"scopes": ["tools", "admin"]}, True),
        ({"scopes": ["review"]}, False),
        ({"tools": ["weather@1"]}, True),
        ({"tools": ["weather@1.2"]}, True),
        ({"tools": ["weather@1.20"]}, False),
        ({"tools": ["weather@2"]}, False),
        ({"tools": ["we*"]}, True),
        ({"tools": ["eather"]}, False),
        ({"side_effects": ["pure", "read"]}, True),
        ({"side_effects": ["write"]}, False),
        ({"sources": ["http"]}, True),
        ({"sources": ["mcp"]}, False),
        ({"recipes": ["*"]}, False),
        ({"when": 'arguments.city == "Rome"'}, True),
        ({"when": 'arguments.city == "Oslo"'}, False),
        ({"when": 'tenant == "acme" && "tools" in scopes && recipe == "" && side_effect == "read"'}, True),
        ({"tenants": ["acme"], "when": "false"}, False),
    ],
)
async def test_a_rule_fits_where_all_its_members_do(rule: dict[str, Any], fits: bool) -> None:
    decision = await decided([{"effect": "allow", **rule}], arguments={"city": "Rome"})
    assert (decision.effect == "allow") is fits
    assert decision.considered[0].matched is fits


async def test_rules_of_recipes_fit_their_runs_only() -> None:
    rules = [{"effect": "allow", "recipes": ["travel*"]}]
    assert (await decided(rules, caller=ToolCaller("acme", recipe="travel-plan"))).effect == "allow"
    assert (await decided(rules, caller=ToolCaller("acme", recipe="chat"))).effect == "deny"


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
async def test_the_strictest_rule_holds_in_whatever_order_they_stand(order: list[int]) -> None:
    rules = [{"effect": effect, "name": effect} for effect in ("allow", "approve", "deny")]
    assert (await decided([rules[index] for index in order])).rule == "deny"
    assert (await decided([rules[index] for index in order if index != 2])).effect == "approve"


async def test_a_built_in_can_be_denied() -> None:
    assert (await decided([{"effect": "deny", "tools": ["sum"], "reason": "not here"}], SUM)).reason.endswith(": not here")


async def test_a_condition_that_cannot_be_decided_counts_against_the_call() -> None:
    for effect, outcome in [("allow", "deny"), ("approve", "approve"), ("deny", "deny")]:
        rules = [{"effect": effect, "when": "arguments.amount < 10"}]
        decision = await decided(rules if effect == "allow" else [{"effect": "allow"}, *rules], ORDER, arguments={})
        assert decision.effect == outcome, effect
        assert "cannot be decided" in decision.considered[-2].why
        assert "its condition cannot be decided (" in decision.reason
    many = {"items": list(range(1_000))}
    assert (
        await decided(
            [{"effect": "allow", "when": "true"}, {"effect": "deny", "when": "size(arguments.items) > 5000"}], arguments=many
        )
    ).effect == "deny"


async def test_without_arguments_what_they_decide_is_open() -> None:
    rules = [{"effect": "allow"}, {"effect": "deny", "when": "arguments.amount > 10"}]
    assert (await decided(rules, ORDER, arguments=None)).depends
    assert not (
        await decided([{"effect": "deny"}, {"effect": "allow", "when": "arguments.amount > 10"}], ORDER, arguments=None)
    ).depends
    assert (await decided([{"effect": "allow", "when": "arguments.amount > 10"}], ORDER, arguments=None)).depends


async def test_a_tool_may_want_scopes_of_its_own() -> None:
    spec = ToolSpec("purge", "Purges.", {"type": "object"}, scopes=frozenset({"review"}))
    rules = [{"effect": "allow"}]
    assert "scope 'review'" in (await decided(rules, spec)).reason
    assert (await decided(rules, spec, ToolCaller("acme", frozenset({"review"})))).effect == "allow"
    assert (await decided(rules, spec, ToolCaller("acme", frozenset({"admin"})))).effect == "allow"
