"""What `reliable` runs, and what goes in its place."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.core.chat import Generation, ResponseFormat
from app.core.errors import InvalidRequest
from app.core.models import Capabilities
from app.core.run_events import OutputReset, PlanMade, ToolCalled, ToolReturned
from app.core.runs import Budget
from app.core.tool_runs import ToolRun
from app.core.tools import EnclosingRun
from app.core.usage import FlatPrice
from app.observability.paces import tool_took
from app.orchestration.reliable.orchestrator import ReliableOrchestrator
from app.tools.python_tools import tool_of
from tests.orchestration.lessons import Learned, measured
from tests.orchestration.reliable.planned import Doing, act, begin, run
from tests.orchestration.scripted import Reply, Scripted, failure
from tests.orchestration.tools.acting import asks, call, script, toolbox

SUM: Any = {"name": "sum", "use": {"tool": "calculator", "arguments": {"expression": "{attributes.sum}"}}}
ONE: Any = {"strategy": "direct", "models": ["one"]}
TWO: Any = {"strategy": "direct", "models": ["two"]}


def rule(use: Any, *behind: Any, **more: Any) -> Any:
    return {"name": "r", "use": use, "fallbacks": list(behind), **more}


async def test_the_target_of_the_rule_runs_as_if_it_had_been_asked_for() -> None:
    one, two = Scripted("one"), Scripted("two")
    ran = await act([one, two], [rule(TWO, match={"types": ["question"]}), rule(ONE, name="all")], text="Who was it?")
    assert ran.result.output.text == "the answer of two"
    assert (ran.result.strategy, ran.result.output.source_model, one.asked) == ("reliable", "two", [])
    plan = ran.result.plan
    assert plan is not None
    assert (plan.strategy, plan.models, plan.rule) == ("direct", ("two",), "r")
    assert [event.plan for event in ran.of(PlanMade)] == [plan]


async def test_a_rule_gives_its_tool_arguments_out_of_the_request(tmp_path: Path) -> None:
    ran = await act([], [SUM], box=toolbox(tmp_path), options={"attributes": {"sum": "17 * 23"}})
    assert (ran.result.status, ran.result.output.text, ran.result.output.json) == ("succeeded", "391", 391)
    [made] = ran.result.tool_calls
    assert (made.name, made.version, made.arguments, made.status) == (
        "calculator",
        "1.0.0",
        '{"expression":"17 * 23"}',
        "succeeded",
    )
    assert ran.types == ["run.started", "plan.made", "tool.called", "tool.returned", "output.delta", "run.finished"]
    assert ran.result.plan is not None
    assert (ran.result.plan.tool, ran.result.plan.options) == ("calculator@1.0.0", {"expression": "17 * 23"})


async def test_a_tool_that_is_named_is_run_with_the_options_it_is_given(tmp_path: Path) -> None:
    def greet(name: str) -> str:
        """Greets.

        Parameters:
            name: whom.
        """
        return f"Hello, {name}"

    asked = {"tool_name": "greet@1", "tool_options": {"name": "{text}"}}
    ran = await act([], box=toolbox(tmp_path, greet), options=asked)
    assert (ran.result.output.text, ran.result.output.json) == ("Hello, {text}", None)


@pytest.mark.parametrize(
    ("options", "param", "said"),
    [
        ({"tool_name": "clocks"}, "options.tool_name", "did you mean 'clock'"),
        ({"tool_name": "calculator"}, "options.tool_options", 'options.tool_options: "expression" is a required'),
        (
            {"tool_name": "calculator", "tool_options": {"expression": 7}},
            "options.tool_options.expression",
            "options.tool_options.expression: ",
        ),
        ({"tool_name": "no name"}, "options.tool_name", "options.tool_name"),
        ({"tools": []}, "options.tools", "the options of 'reliable' are type, attributes, tool_name"),
    ],
)
def test_what_is_wrong_with_options_is_said_before_anything_runs(
    tmp_path: Path, options: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said.replace(".", r"\.")) as caught:
        begin([], box=toolbox(tmp_path), options=options)
    assert caught.value.param == param


async def test_a_tool_that_is_not_permitted_fails_the_run_and_as_a_rules_is_passed_over(tmp_path: Path) -> None:
    box = toolbox(tmp_path, permissions=[{"effect": "deny", "tools": ["clock"], "name": "no-clock"}])
    named = await act([], box=box, options={"tool_name": "clock"})
    assert named.result.error is not None
    assert (named.result.error.code, named.result.tool_calls[0].status) == ("tool_forbidden", "refused")
    one = Scripted("one")
    passed = await act([one], [rule({"tool": "clock"}), rule(ONE, name="next")], box=box)
    assert passed.result.plan is not None
    assert passed.result.plan.rule == "next"
    assert "it fits, but it is not permitted: 'no-clock' denies 'clock@1.0.0'" in passed.result.plan.rules[0].reason


async def test_where_a_tool_fails_the_fallbacks_of_its_rule_go_in_its_place(tmp_path: Path) -> None:
    def broken() -> str:
        """Breaks."""
        raise OSError("no disk")

    one, two = Scripted("one", failure("one")), Scripted("two")
    ran = await act([one, two], [rule({"tool": "broken"}, ONE, TWO)], box=toolbox(tmp_path, broken))
    assert (ran.result.status, ran.result.output.text) == ("succeeded", "the answer of two")
    assert ran.result.warnings == (
        "tool broken@1.0.0 failed (tool_failed); strategy direct over 'one' goes in its place",
        "strategy direct over 'one' failed (overloaded); strategy direct over 'two' goes in its place",
    )
    assert [(c.id, c.model, c.status) for c in ran.result.candidates] == [("c1", "one", "failed"), ("c2", "two", "succeeded")]
    assert ran.result.plan is not None
    assert ran.result.plan.fallbacks == ("strategy direct over 'one'", "strategy direct over 'two'")


async def test_nothing_goes_in_the_place_of_a_tool_that_may_have_written(tmp_path: Path) -> None:
    calls: list[str] = []

    def order() -> str:
        """Orders."""
        calls.append("order")
        raise OSError("the line broke")

    box = toolbox(tmp_path, tool_of(order, side_effect="write"))
    one = Scripted("one")
    ran = await act([one], [rule({"tool": "order"}, ONE)], box=box)
    assert (ran.result.status, calls, one.asked) == ("failed", ["order"], [])
    assert ran.result.warnings == ("tool order@1.0.0 may have written; nothing goes in its place, which might do so again",)


async def test_fallbacks_can_be_forbidden() -> None:
    one, two = Scripted("one", failure("one")), Scripted("two")
    ran = await act([one, two], [rule(ONE, TWO)], options={"allow_fallback": False})
    assert ran.result.error is not None
    assert (ran.result.error.failure, two.asked) == ("overloaded", [])


async def test_what_was_said_before_a_failure_is_taken_back() -> None:
    one = Scripted("one", Reply(["half an "], error=failure("one").error))
    ran = await act([one, Scripted("two")], [rule(ONE, TWO)])
    assert ran.result.output.text == "the answer of two"
    assert len(ran.of(OutputReset)) == 1


async def test_where_all_fail_each_ones_reason_is_told() -> None:
    ran = await act([Scripted("one", failure("one")), Scripted("two", failure("two", "timeout"))], [rule(ONE, TWO)])
    error = ran.result.error
    assert error is not None
    assert (error.code, [cause.failure for cause in error.causes]) == ("all_candidates_failed", ["overloaded", "timeout"])


async def test_a_fault_that_others_share_is_not_handed_on() -> None:
    two = Scripted("two")
    ran = await act([Scripted("one", failure("one", "invalid_request")), two], [rule(ONE, TWO)])
    assert ran.result.error is not None
    assert (ran.result.error.failure, two.asked) == ("invalid_request", [])


async def test_a_rule_whose_breakers_are_all_open_is_passed_over() -> None:
    both = {"strategy": "fallback", "models": ["one", "two"]}
    models = [Scripted("one"), Scripted("two"), Scripted("three")]
    rules = [rule(both), rule({"strategy": "direct", "models": ["three"]}, name="next")]
    partly = await act(models, rules, doing=Doing({"one": 5.0}))
    wholly = await act(models, rules, doing=Doing({"one": 5.0, "two": 3.0}))
    assert partly.result.plan is not None
    assert wholly.result.plan is not None
    assert (partly.result.plan.rule, wholly.result.plan.rule) == ("r", "next")
    reason = wholly.result.plan.rules[0].reason
    assert reason == "it fits, but the circuit breaker of all its models is open for 3.0 s more ('one', 'two')"


@pytest.mark.parametrize(
    ("budget", "reason"),
    [
        (Budget(tokens=600), "it may use "),
        (Budget(cost_usd=0.5), "it may cost $"),
    ],
)
async def test_a_rule_that_the_budget_does_not_hold_is_passed_over(budget: Budget, reason: str) -> None:
    price = FlatPrice(1.0, 1000.0)
    one, two = Scripted("one"), Scripted("two")
    one.model, two.model = one.profiled(price=price), two.profiled(price=price)
    dear = {"strategy": "consensus", "models": ["one", "two"], "options": {"k": 4}}
    limits = {"limits": {"default_max_tokens": 200}}
    ran = await act([one, two], [rule(dear), rule(ONE, name="next")], budget=budget, spec=limits)
    assert ran.result.plan is not None
    assert ran.result.plan.rule == "next"
    assert f"it fits, but {reason}" in ran.result.plan.rules[0].reason


async def test_a_tool_that_costs_more_than_the_budget_is_passed_over(tmp_path: Path) -> None:
    def look() -> str:
        """Looks."""
        return "seen"

    box = toolbox(tmp_path, tool_of(look, side_effect="read", cost_usd=0.25))
    one = Scripted("one")
    one.model = one.profiled(price=FlatPrice(0.0, 0.0))
    rules = [rule({"tool": "look"}), rule(ONE, name="next")]
    poor = begin([one], rules, box=box, budget=Budget(cost_usd=0.2))
    assert poor.strategy.plan(poor.request, poor.context).rule == "next"
    rich = await act([one], rules, box=box, budget=Budget(cost_usd=0.3))
    assert (rich.result.output.text, rich.result.cost_usd) == ("seen", 0.25)


async def test_fallbacks_of_a_tool_are_held_to_the_budget_call_by_call(tmp_path: Path) -> None:
    def broken() -> str:
        """Breaks."""
        raise OSError("no disk")

    one = Scripted("one")
    limits = {"limits": {"default_max_tokens": 100}}
    rules = [rule({"tool": "broken"}, ONE)]
    box = toolbox(tmp_path, broken)
    held = await act([one], rules, box=box, budget=Budget(tokens=1_000), spec=limits)
    assert held.result.status == "succeeded"


async def test_a_rule_that_takes_longer_than_is_left_is_passed_over(tmp_path: Path) -> None:
    def nap() -> str:
        """Naps."""
        return "slept"

    tool_took("nap", 30.0)
    one = Scripted("one")
    ran = await act(
        [one], [rule({"tool": "nap"}), rule(ONE, name="next")], box=toolbox(tmp_path, nap), budget=Budget(seconds=9)
    )
    assert ran.result.plan is not None
    assert ran.result.plan.rule == "next"
    assert "it takes 30.0 s as a rule, and 9.0 s are left" in ran.result.plan.rules[0].reason


async def test_what_the_models_cannot_do_is_an_obstacle(tmp_path: Path) -> None:
    one, two = Scripted("one"), Scripted("two")
    chain = {"strategy": "direct", "models": ["nobody"]}
    ran = await act(
        [one, two], [rule(chain), rule({"tool": "missing"}, name="t"), rule(TWO, name="next")], box=toolbox(tmp_path)
    )
    assert ran.result.plan is not None
    assert [look.outcome for look in ran.result.plan.rules] == ["passed_over", "passed_over", "chosen"]
    assert "there is no model 'nobody'" in ran.result.plan.rules[0].reason


async def test_a_recipe_has_its_own_settings_and_a_target_without_models_those_of_the_request() -> None:
    one, two = Scripted("one"), Scripted("two")
    spec = {
        "recipes": {"brief": {"strategy": "direct", "generation": {"max_tokens": 5}}},
        "defaults": {"generation": {"max_tokens": 900}},
    }
    await act([one, two], [rule({"recipe": "brief"})], spec=spec, selected=("two",))
    assert (one.asked, [asked.generation.max_tokens for asked in two.asked]) == ([], [5])


async def test_a_target_whose_options_name_models_asks_those_whatever_the_request_names() -> None:
    one, two = Scripted("one"), Scripted("two")
    chain = {"strategy": "fallback", "options": {"chain": [{"model": "two"}]}}
    ran = await act([one, two], [rule(chain)], selected=("one",))
    assert ran.result.output.source_model == "two"
    assert one.asked == []


async def test_calls_of_tools_keep_ids_of_their_own_over_two_loops(tmp_path: Path) -> None:
    def say(reply: Reply) -> Any:
        return script(asks(call("clock")), reply)

    one, two = Scripted("one", say(failure("one"))), Scripted("two", say(Reply(["done"])))
    loops = [{"strategy": "tools", "models": [name]} for name in ("one", "two")]
    ran = await act([one, two], [rule(*loops)], box=toolbox(tmp_path))
    assert ran.result.output.text == "done"
    assert [made.id for made in ran.result.tool_calls] == ["t1", "call_1_1"]
    assert len(ran.of(ToolCalled)) == len(ran.of(ToolReturned)) == 2


async def test_a_run_that_was_taken_over_runs_no_tool_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def order() -> str:
        """Orders."""
        calls.append("order")
        return "ordered"

    box = toolbox(tmp_path, tool_of(order, side_effect="write"))
    one = Scripted("one")
    begun = begin([one], [rule({"tool": "order"}, ONE)], box=box)
    begun.context.past.taken = True
    known = ToolRun("direct_1", 1, "order", "{}", "1.0.0", "write", "succeeded", "ordered", started_at=1.0)
    begun.context.past.returned = {"direct_1": known}
    told = await run(begun, [one])
    assert (told.result.output.text, calls) == ("ordered", [])

    unknown = begin([one], [rule({"tool": "order"}, ONE)], box=box)
    unknown.context.past.taken = True
    lost = await run(unknown, [one])
    assert lost.result.error is not None
    assert (lost.result.error.code, calls, one.asked) == ("effect_uncertain", [], [])


async def test_what_was_learned_of_models_decides_where_the_planner_learns() -> None:
    one, two = Scripted("one"), Scripted("two")
    rules = [rule(ONE, name="first"), rule(TWO, name="second")]
    known = Learned(performances={"one": measured(quality=0.4, judged=100), "two": measured(quality=0.95, judged=100)})
    spec = {"planner": {"kind": "learned", "policy": "quality"}}
    before = await act([one, two], rules, spec=spec)
    after = await act([one, two], rules, spec=spec, lessons=known)
    assert before.result.plan is not None
    assert after.result.plan is not None
    assert (before.result.plan.rule, after.result.plan.rule) == ("first", "second")
    assert [one.models for one in after.result.plan.alternatives] == [("two",), ("one",)]


@pytest.mark.parametrize(
    ("member", "asked"),
    [
        ("n", {"generation": Generation(n=2)}),
        ("response_format", {"generation": Generation(response_format=ResponseFormat("json_object"))}),
        ("tool_choice", {"tool_choice": "required"}),
    ],
)
async def test_what_no_tool_does_is_refused_and_a_rule_with_one_is_passed_over(
    tmp_path: Path, member: str, asked: dict[str, Any]
) -> None:
    box = toolbox(tmp_path)
    with pytest.raises(InvalidRequest, match="a tool that is run directly") as caught:
        begin([], box=box, options={"tool_name": "clock"}, **asked)
    assert caught.value.param == member
    one = Scripted("one", capabilities=Capabilities(n=True))
    acting = {"strategy": "tools", "models": ["one"], "options": {"tools": ["calculator"]}}
    able = acting if member == "tool_choice" else ONE
    begun = begin([one], [rule({"tool": "clock"}), rule(able, name="next")], box=box, **asked)
    plan = begun.strategy.plan(begun.request, begun.context)
    assert [look.outcome for look in plan.rules] == ["passed_over", "chosen"]


async def test_a_part_of_a_tool_calls_neither_that_tool_nor_one_that_writes(tmp_path: Path) -> None:
    def order() -> str:
        """Orders."""
        return "ordered"

    inside = EnclosingRun(lambda _: None, lambda _: None, within=("clock",))
    rules = [rule({"tool": name}, name=name) for name in ("clock", "order")]
    box = toolbox(tmp_path, tool_of(order, side_effect="write"))
    begun = begin([Scripted("one")], [*rules, rule(ONE)], box=box, inside=inside)
    clock, orders, chosen = begun.strategy.plan(begun.request, begun.context).rules
    assert chosen.outcome == "chosen"
    assert clock.reason == "it fits, but this is a part of the tool 'clock' itself (clock)"
    assert orders.reason == "it fits, but the tool 'order' writes, and this is a part of a tool, which only reads"


async def test_it_runs_from_python() -> None:
    async with ReliableOrchestrator() as reliable:
        by_name = await reliable.process("x", tool_name="calculator", tool_options={"expression": "6 * 7"})
        otherwise = await reliable.process("Hi", selected_models=["mock/mock-terse"])
    assert (by_name.output.text, by_name.output.json) == ("42", 42)
    assert [one.model for one in otherwise.candidates] == ["mock/mock-terse"]


def test_hundreds_of_rules_are_looked_at_in_no_time() -> None:
    match = {
        "attributes": {"customer.tier": "gold", "amount": {"min": 5}},
        "keywords": ["refund", "return"],
        "when": 'attributes.amount > 1.0 && type == "order"',
    }
    rules = [{"name": f"r{number}", "match": match, "use": ONE} for number in range(256)]
    options = {"type": "order", "attributes": {"customer": {"tier": "gold"}, "amount": 7.5}}
    text = "Where is my book? " * 1_000
    begin([Scripted("one")], rules, text=text, options=options)
    runs = [_timed(lambda: begin([Scripted("one")], rules, text=text, options=options)) for _ in range(5)]
    print(f"256 rules that do not fit, over 18,000 characters: {min(runs) * 1000:.1f} ms with making the engine")
    assert min(runs) < 0.5


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
