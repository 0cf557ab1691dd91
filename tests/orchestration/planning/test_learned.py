"""The planner by what was learned."""

from __future__ import annotations

from typing import Any

import pytest

from app.orchestration.planning.planner import Promise
from tests.orchestration.planning.surveyed import Standing, by_learning, name_of, request, rule

STRONG, WEAK = Promise(0.9, learned=True), Promise(0.6, learned=True)
RULES: list[Any] = [rule("cheap"), rule("dear")]


def test_the_target_that_promises_most_is_run_whatever_its_priority() -> None:
    standing = Standing(promises={"cheap": WEAK, "dear": STRONG})
    planned = by_learning(rule("cheap", priority=9), rule("dear", behind=("cheap",))).plan(request(), standing)
    assert (planned.rule, planned.quality) == ("dear", 0.9)
    assert [one.strategy for one in planned.alternatives] == ["recipe dear", "recipe cheap"]
    assert [one.label for one in planned.fallbacks] == ["recipe cheap"]
    assert "of 2 that fit, its recipe dear promises most" in planned.reason
    assert {look.rule: look.outcome for look in planned.rules} == {"cheap": "outdone", "dear": "chosen"}
    assert "it fits, and promises less: worth 0.600" in planned.rules[0].reason


@pytest.mark.parametrize(("policy", "rule_name"), [("quality", "dear"), ("cheap", "cheap"), ("fast", "cheap")])
def test_cost_and_time_count_as_the_policy_says(policy: str, rule_name: str) -> None:
    standing = Standing(promises={"cheap": WEAK, "dear": STRONG}, costs={"cheap": (0.001, 1.0), "dear": (0.064, 16.0)})
    assert by_learning(*RULES, policy=policy).plan(request(), standing).rule == rule_name


def test_without_anything_learned_the_priority_decides() -> None:
    planned = by_learning(*RULES).plan(request(), Standing())
    assert planned.rule == "cheap"
    assert "nothing was learned yet, so the priority decides" in planned.reason
    assert planned.rules[1].reason == "it fits, and 'cheap' has priority"


def test_only_what_fits_and_can_be_run_is_chosen_among() -> None:
    standing = Standing(obstacles={"dear": "its breaker is open"}, promises={"cheap": WEAK, "dear": STRONG, "no": STRONG})
    planned = by_learning(*RULES, rule("no", match={"types": ["sum"]})).plan(request(), standing)
    assert planned.rule == "cheap"
    assert [look.outcome for look in planned.rules] == ["chosen", "passed_over", "not_matched"]


def test_a_tool_is_run_where_its_rule_comes_first() -> None:
    standing = Standing(promises={"dear": STRONG})
    first = by_learning(rule("t", tool="clock"), rule("dear")).plan(request(), standing)
    assert name_of(first.chosen.target) == "clock"
    later = by_learning(rule("dear"), rule("t", tool="clock")).plan(request(), standing)
    assert later.rule == "dear"
    assert later.rules[1].outcome == "outdone"


def test_a_tool_that_is_asked_for_is_run_and_without_rules_what_is_run_otherwise() -> None:
    assert name_of(by_learning(*RULES).plan(request(tool="clock"), Standing()).chosen.target) == "clock"
    assert name_of(by_learning().plan(request(), Standing()).chosen.target) == "simple"
