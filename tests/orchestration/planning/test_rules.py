"""The planner by rules."""

from __future__ import annotations

import pytest

from app.core.errors import InvalidRequest
from app.core.runs import RuleLook
from tests.orchestration.planning.surveyed import Standing, by_rules, name_of, request, rule

OTHER = {"types": ["sum"]}


def test_the_first_rule_that_fits_is_gone_by() -> None:
    planned = by_rules(rule("a", match=OTHER), rule("b"), rule("c")).plan(request(), Standing())
    assert (planned.rule, name_of(planned.chosen.target)) == ("b", "b")
    assert planned.rules == (
        RuleLook("a", "not_matched", "the type 'order' is none of its types", "recipe a"),
        RuleLook("b", "chosen", "it fits every request", "recipe b"),
    )
    assert planned.reason == "the rule 'b': it fits every request"


def test_the_highest_priority_comes_first_and_of_equals_the_earlier() -> None:
    standing = Standing(obstacles=dict.fromkeys("abcd", "it is away"))
    planned = by_rules(rule("a", priority=-1), rule("b"), rule("c", priority=7), rule("d")).plan(request(), standing)
    assert [look.rule for look in planned.rules] == ["c", "b", "d", "a"]


def test_a_rule_whose_target_cannot_be_run_is_passed_over_and_says_why() -> None:
    standing = Standing(obstacles={"a": "the circuit breaker of its model is open for 3.0 s more ('fast')"})
    planned = by_rules(rule("a", behind=("x",)), rule("b")).plan(request(), standing)
    assert planned.rule == "b"
    assert planned.rules[0] == RuleLook(
        "a", "passed_over", "it fits, but the circuit breaker of its model is open for 3.0 s more ('fast')", "recipe a"
    )


def test_what_does_not_fit_is_not_even_looked_at() -> None:
    standing = Standing()
    by_rules(rule("a", match=OTHER), rule("b"), rule("c")).plan(request(), standing)
    assert standing.asked == ["b"]


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ([], "there are no rules: what is run otherwise, strategy simple"),
        ([rule("a", match=OTHER)], "none of the rules fits: what is run otherwise, strategy simple"),
        ([rule("a")], "of no rule that fits can the target be run: what is run otherwise, strategy simple"),
    ],
)
def test_without_a_rule_what_is_run_otherwise_is(rules: list[object], reason: str) -> None:
    planned = by_rules(*rules).plan(request(), Standing(obstacles={"a": "it is away"}))  # pyright: ignore[reportArgumentType]
    assert (planned.rule, name_of(planned.chosen.target), planned.reason) == (None, "simple", reason)


def test_what_is_run_otherwise_is_run_whatever_stands_in_its_way() -> None:
    planned = by_rules().plan(request(), Standing(obstacles={"simple": "its breaker is open"}))
    assert planned.reason.endswith("strategy simple, although its breaker is open")
    with pytest.raises(InvalidRequest, match="there is no model"):
        by_rules().plan(request(), Standing(errors={"simple": InvalidRequest("there is no model")}))


def test_the_fallbacks_are_those_of_the_rule_that_can_be_run() -> None:
    planner = by_rules(rule("a", behind=("x", "y", "z")))
    standing = Standing(obstacles={"y": "it may cost $2, and budget.cost_usd is 1"})
    planned = planner.plan(request(), standing)
    assert [one.label for one in planned.fallbacks] == ["recipe x", "recipe z"]
    assert planned.set_aside == {"recipe y": "it may cost $2, and budget.cost_usd is 1"}
    assert planner.plan(request(allow_fallback=False), standing).fallbacks == ()


def test_a_tool_that_is_asked_for_is_run_with_the_fallbacks_of_its_rule() -> None:
    planner = by_rules(
        rule("first", match=OTHER, tool="clock", behind=("x",)), rule("b", priority=5), rule("c", tool="clock@1", behind=("y",))
    )
    planned = planner.plan(request(tool="clock"), Standing())
    assert (name_of(planned.chosen.target), planned.rule) == ("clock", "c")
    assert [one.label for one in planned.fallbacks] == ["recipe y"]
    assert [look.outcome for look in planned.rules] == ["not_matched", "chosen"]
    alone = planner.plan(request(tool="calculator"), Standing(obstacles={"calculator": "it is not permitted"}))
    assert (alone.rule, alone.fallbacks) == (None, ())
    assert alone.reason == "the tool 'calculator' is asked for by name, although it is not permitted"
