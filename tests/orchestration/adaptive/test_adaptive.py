"""adaptive: who is chosen, and why, for which task under which policy."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from app.config.spec import BulkheadConfig
from app.core.chat import Generation, ResponseFormat, ToolDefinition
from app.core.clock import SystemClock
from app.core.errors import BudgetExceeded, CapabilityMissing, InvalidRequest
from app.core.messages import user
from app.core.models import Capabilities, ModelProfile
from app.core.run_events import PlanMade
from app.core.runs import Budget, PlanDecision
from app.core.standing import Standing
from app.core.usage import FlatPrice
from app.orchestration.adaptive.options import AdaptiveOptions
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.run import Run
from app.reliability.bulkhead import Bulkhead
from app.reliability.charge import charge
from app.reliability.load import Loads
from app.reliability.standings import LocalStandings
from tests.orchestration.known import asked, engine
from tests.orchestration.lessons import Learned, measured
from tests.orchestration.scripted import Ran, Scripted, failure, lawful

WHY = (user("Why is the sky blue?"),)
SUM = (user("What is 17 * 23?"),)
RELIABLE = measured(success=1.0)


class Standings:
    """How models are doing, as a test says it; the others do well."""

    def __init__(self, **told: Standing) -> None:
        self._told = told

    def of(self, profile: ModelProfile) -> Standing:
        return self._told.get(profile.name, Standing(1.0))

    def record(self, profile: ModelProfile, *, ok: bool) -> None:
        """Nobody asks for it here."""


def model(name: str, says: Any = "", **profile: Any) -> Scripted:
    made = Scripted(name, says or f"{name} says")
    made.model = made.profiled(**profile)
    return made


def priced(usd: float) -> FlatPrice:
    return FlatPrice(usd, usd)


def chosen_of(run: Run, lessons: Learned | None = None, standings: Standings | None = None) -> PlanDecision:
    run.context.lessons = lessons or Learned()
    run.context.standings = standings or Standings()
    run.context.settled = None
    return run.strategy.plan(run.request, run.context)


def plan(
    *models: Scripted, lessons: Learned | None = None, standings: Standings | None = None, request: Any = None, **options: Any
) -> PlanDecision:
    more = {"messages": WHY, **(request or {})}
    names = tuple(one.name for one in models)
    return chosen_of(
        engine(*models).begin(asked("adaptive", names, options={"explore": 0, **options}, **more)), lessons, standings
    )


async def ran(*models: Scripted, request: Any = None, **options: Any) -> Ran:
    more = {"messages": WHY, "deltas": "all", **(request or {})}
    run = engine(*models).begin(asked("adaptive", tuple(one.name for one in models), options={"explore": 0, **options}, **more))
    return lawful([event async for event in run.events()], models, run.id)


CHEAP = {"quality": 0.7, "price": priced(0.1)}
DEAR = {"quality": 0.95, "price": priced(10.0)}


@pytest.mark.parametrize(
    ("policy", "taken"), [("quality", "dear"), ("balanced", "middle"), ("cheap", "cheap"), ("fast", "quick")]
)
def test_the_policy_says_what_counts(policy: str, taken: str) -> None:
    models = [
        model("cheap", **CHEAP),
        model("middle", quality=0.88, price=priced(0.4)),
        model("dear", **DEAR),
        model("quick", quality=0.7, price=priced(5.0)),
    ]
    times = {"cheap": 4_000, "middle": 4_000, "dear": 6_000, "quick": 300}
    lessons = Learned(performances={name: measured(latency_ms=ms) for name, ms in times.items()})
    found = plan(*models, policy=policy, lessons=lessons)
    assert found.models[0] == taken
    assert found.alternatives[0].models[0] == taken


def test_weights_stand_in_place_of_a_policy() -> None:
    models = [model("cheap", **CHEAP), model("dear", **DEAR)]
    assert plan(*models, weights={"quality": 1}).models == ("dear",)
    assert plan(*models, weights={"cost": 1}).models == ("cheap",)


def test_what_was_learned_of_such_prompts_counts_before_what_was_judged_and_that_before_the_configuration() -> None:
    models = [model("a", quality=0.9), model("b", quality=0.6)]
    assert plan(*models).models[0] == "a"
    judged = {"a": measured(quality=0.5, judged=500), "b": measured(quality=0.95, judged=500)}
    assert plan(*models, lessons=Learned(performances=judged)).models[0] == "b"
    learned = Learned(performances=judged, likely={"a": 0.99, "b": 0.4})
    found = plan(*models, lessons=learned)
    assert (found.models[0], found.estimated_quality) == ("a", 0.99)


def test_a_model_without_a_quality_is_taken_to_be_as_good_as_the_configuration_says() -> None:
    models = [model("a"), model("b", quality=0.8)]
    assert plan(*models, weights={"quality": 1}).prospects["a"].quality == 0.7
    begun = engine(*models, learning={"priors": {"quality": 0.95}}).begin(
        asked("adaptive", ("a", "b"), options={"explore": 0, "weights": {"quality": 1}}, messages=WHY)
    )
    begun.context.standings, begun.context.settled = Standings(), None
    found = begun.strategy.plan(begun.request, begun.context)
    assert (found.models, found.prospects["a"].quality, found.prospects["b"].quality) == (("a",), 0.95, 0.8)


def test_the_plan_says_what_is_expected_of_each_model_that_might_be_asked() -> None:
    models = [model("cheap", **CHEAP), model("dear", **DEAR), model("left-out")]
    found = plan(*models, lessons=Learned(likely={"cheap": 0.61, "dear": 0.93}), exclude=["left-out"]).prospects
    assert {name: one.quality for name, one in found.items()} == {"cheap": 0.61, "dear": 0.93}
    assert (found["dear"].cost_usd or 0) > (found["cheap"].cost_usd or 0) > 0


def test_where_models_often_fail_another_one_stands_behind() -> None:
    models = [model("a", quality=0.9), model("b", quality=0.8)]
    shaky = Standings(a=Standing(0.7), b=Standing(0.95))
    found = plan(*models, standings=shaky, weights={"quality": 1})
    assert (found.strategy, found.models, found.fallbacks) == ("fallback", ("a", "b"), ("b",))
    assert plan(*models).strategy == "direct"


def test_where_answers_can_be_counted_a_panel_may_pay() -> None:
    models = [model(name, quality=0.75, family=name) for name in "abcd"]
    found = plan(*models, request={"messages": SUM}, policy="quality")
    assert (found.strategy, len(found.models), found.options) == ("consensus", 3, {"extract": {"type": "number"}})
    assert found.diversity == 0.5  # all families differ, and the provider is one
    assert plan(*models, policy="quality").strategy == "direct"
    offered = {"messages": SUM, "tools": (ToolDefinition("look"),)}
    assert plan(*models, request=offered, policy="quality").strategy == "direct"


@pytest.mark.parametrize(
    ("text", "extract"),
    [
        ("Is it so? Answer yes or no.", {"type": "choice", "choices": ["yes", "no"]}),
        ("Which one?\nA) Trout\nB) Whale", {"type": "choice", "choices": {"A": "Trout", "B": "Whale"}}),
    ],
)
def test_a_panel_counts_what_the_prompt_asks_for(text: str, extract: dict[str, Any]) -> None:
    models = [model(name, quality=0.75, family=name) for name in "abc"]
    assert plan(*models, request={"messages": (user(text),)}, policy="quality").options["extract"] == extract


def test_json_is_counted_member_by_member() -> None:
    form = Generation(response_format=ResponseFormat("json_schema", schema={"type": "object"}))
    models = [model(name, quality=0.75, family=name) for name in "abc"]
    found = plan(*models, request={"generation": form}, policy="quality")
    assert found.options == {"extract": {"type": "json", "schema": {"type": "object"}}}


def test_two_cheap_models_that_agree_may_spare_the_strong_one() -> None:
    cheap = {"quality": 0.9, "price": priced(0.1)}
    models = [model("one", **cheap), model("two", **cheap), model("strong", quality=0.97, price=priced(10.0))]
    found = plan(*models, request={"messages": SUM}, weights={"quality": 1, "cost": 0.1})
    assert (found.strategy, found.models) == ("fallback", ("one", "two", "strong"))
    assert found.options["chain"][0]["check"]["agree"]["model"] == "two"
    assert plan(*models, weights={"quality": 1, "cost": 0.1}).models == ("strong",)


@pytest.mark.parametrize(("second", "source"), [("391", "one"), ("400", "strong")])
async def test_the_strong_one_is_asked_where_they_differ(second: str, source: str) -> None:
    models = [
        model("one", "391", quality=0.9, price=priced(0.1)),
        model("two", second, quality=0.9, price=priced(0.1)),
        model("strong", "It is 391.", quality=0.97, price=priced(10.0)),
    ]
    run = engine(*models).begin(
        asked(
            "adaptive", ("one", "two", "strong"), options={"explore": 0, "weights": {"quality": 1, "cost": 0.1}}, messages=SUM
        )
    )
    run.context.standings, run.context.settled = Standings(), None
    result = await run.result()
    assert (result.output.source_model, result.status) == (source, "succeeded")
    assert len(models[2].asked) == (source == "strong")


def test_a_panel_of_one_family_promises_less() -> None:
    mixed = [model(name, quality=0.75, family=name) for name in "abc"]
    alike = [model(name, quality=0.75, family="one") for name in "abc"]
    wants = {"request": {"messages": SUM}, "policy": "quality"}
    one, other = plan(*mixed, **wants), plan(*alike, **wants)
    best = [max(way.quality for way in found.alternatives) for found in (one, other)]
    assert best[0] > best[1]


@pytest.mark.parametrize(("measured_as", "taken"), [(0.1, "consensus"), (None, "consensus"), (0.98, "direct")])
def test_what_was_measured_of_their_errors_counts_before_what_is_assumed(measured_as: float | None, taken: str) -> None:
    models = [model(name, quality=0.75, family=name, price=priced(1)) for name in "abc"]
    pairs = {} if measured_as is None else {"a": {"b": measured_as, "c": measured_as}, "b": {"c": measured_as}}
    lessons = Learned(panel=PanelWeights(dict.fromkeys("abc", 1.0), together=pairs))
    found = plan(*models, request={"messages": SUM}, policy="quality", lessons=lessons)
    assert found.strategy == taken


def test_two_that_err_alike_spare_no_strong_one() -> None:
    models = [model(name, quality=0.8, price=priced(0.1)) for name in ("one", "two")]
    models.append(model("strong", quality=0.98, price=priced(3)))

    def promised(together: float) -> float:
        lessons = Learned(panel=PanelWeights({}, together={"two": {"one": together}}))
        found = plan(*models, request={"messages": SUM}, lessons=lessons)
        return next(way.quality for way in found.alternatives if way.strategy == "fallback" and len(way.models) == 3)

    assert promised(0.0) > promised(0.9)


def test_who_cannot_do_it_is_set_aside_with_the_reason() -> None:
    models = [
        Scripted("blind", capabilities=Capabilities(tools=False)),
        model("small", context_window=10, quality=0.99),
        model("fit", quality=0.5),
        model("unwanted", quality=0.99),
    ]
    asks = {"tools": (ToolDefinition("look"),)}
    found = plan(*models, request=asks, exclude=["unwanted"])
    assert found.models == ("fit",)
    assert set(found.set_aside) == {"blind", "small", "unwanted"}
    assert "cannot call tools" in found.set_aside["blind"]
    assert "do not fit its context window of 10" in found.set_aside["small"]


def test_who_is_refused_or_full_is_set_aside_while_there_are_others() -> None:
    models = [model("open", quality=0.99), model("full", quality=0.99), model("calm", quality=0.5)]
    trouble = {"open": Standing(1.0, open_s=5.0), "full": Standing(1.0, under_way=3, full=True)}
    found = plan(*models, standings=Standings(**trouble))
    assert found.models == ("calm",)
    assert found.set_aside == {
        "open": "its circuit breaker is open for 5.0 s more",
        "full": "3 calls to it are under way, the most there may be",
    }
    assert plan(models[0], standings=Standings(**trouble)).models == ("open",)


def test_a_model_with_many_calls_under_way_is_taken_to_be_slower() -> None:
    models = [model("a"), model("b")]
    lessons = Learned(performances={name: measured(latency_ms=1_000) for name in "ab"})
    busy = Standings(a=Standing(1.0, under_way=64))
    found = plan(*models, lessons=lessons, standings=busy, policy="fast")
    assert found.models[0] == "b"
    assert next(one.seconds for one in found.alternatives if one.models == ("a",)) == 3.0


def test_the_choice_may_be_limited_to_some_models() -> None:
    models = [model("a", quality=0.9), model("b", quality=0.6), model("c", quality=0.8)]
    assert plan(*models, pin=["b"]).models == ("b",)
    assert plan(*models, pin=["b", "c"]).models[0] == "c"


def test_the_choice_may_be_limited_to_some_strategies() -> None:
    models = [model(name, quality=0.8) for name in "abc"]
    sums: dict[str, Any] = {"request": {"messages": SUM}, "weights": {"quality": 1}}
    assert plan(*models, **sums).strategy == "consensus"
    alone = plan(*models, **sums, strategies=["direct", "fallback"])
    assert (alone.strategy, {one.strategy for one in alone.alternatives}) == ("direct", {"direct", "fallback"})
    with pytest.raises(InvalidRequest, match=r"nothing can be done with consensus for this request; there is direct, fallback"):
        plan(*models, strategies=["consensus"])


def test_what_costs_too_much_is_not_chosen_and_an_unknown_price_is_told() -> None:
    models = [model("cheap", **CHEAP), model("dear", **DEAR), model("unknown", quality=0.99)]
    assert plan(*models, policy="quality").models == ("unknown",)
    found = plan(*models, policy="quality", max_cost_usd=0.001)
    assert found.models == ("cheap",)
    shown = plan(*models, policy="quality").alternatives
    assert next(one.cost_usd for one in shown if one.models == ("unknown",)) is None
    assert "price unknown" in plan(*models, policy="quality").reason
    with pytest.raises(InvalidRequest, match="the cheapest is 'cheap'"):
        plan(*models, max_cost_usd=1e-9)


async def test_the_budget_of_the_request_holds_what_is_chosen() -> None:
    models = [model("cheap", **CHEAP), model("dear", **DEAR), model("unknown", quality=0.99)]
    limited = {"budget": Budget(cost_usd=0.001), "generation": Generation(max_tokens=100)}
    found = (await ran(*models, policy="quality", request=limited)).result
    assert found.output.source_model == "cheap"
    assert found.plan
    assert "the budget does not hold the worst case" in found.plan.reason
    with pytest.raises(BudgetExceeded):
        await ran(*models, request={"budget": Budget(cost_usd=1e-9), "generation": Generation(max_tokens=100)})


async def test_the_chosen_strategy_runs_as_if_it_had_been_asked_for() -> None:
    models = [model(name, "It is 391.", quality=0.75, family=name) for name in "abc"]
    done = await ran(*models, request={"messages": SUM}, policy="quality")
    assert (done.result.strategy, done.result.status) == ("adaptive", "succeeded")
    assert done.result.plan
    assert done.result.plan.strategy == "consensus"
    assert done.result.consensus
    assert done.result.consensus.winner == 391
    assert len(done.of(PlanMade)) == 1
    assert done.result.plan.reason.startswith("a task of math, complexity ")


async def test_a_model_that_fails_hands_over_to_the_one_behind() -> None:
    done = await ran(model("a", failure("a"), quality=0.9), model("b", quality=0.8))
    assert done.result.plan
    assert done.result.plan.strategy == "fallback"  # a model of which nothing is known answers nine calls of ten
    assert done.result.output.source_model == "b"
    assert [link.outcome for link in done.result.path] == ["handed_over", "answered"]


@pytest.mark.parametrize("failing", range(8))
@pytest.mark.parametrize("messages", [WHY, SUM])
async def test_any_of_the_models_may_fail(failing: int, messages: Any) -> None:
    models = [
        model(name, failure(name) if failing >> place & 1 else "It is 391.", quality=0.75, family=name)
        for place, name in enumerate("abc")
    ]
    done = await ran(*models, request={"messages": messages}, policy="quality")
    asked_of = {candidate.model for candidate in done.result.candidates}
    broken = {name for place, name in enumerate("abc") if failing >> place & 1}
    assert done.result.status == ("failed" if len(broken) == len(models) else "succeeded")
    failed = {one.model: one.error for one in done.result.candidates if one.status == "failed"}
    assert set(failed) == broken & asked_of
    assert all(error and error.failure == "overloaded" for error in failed.values())


@pytest.mark.parametrize("policy", ["quality", "balanced", "cheap", "fast"])
async def test_who_is_left_answers_whoever_of_the_others_fails(policy: str) -> None:
    for working in "abcde":
        models = [
            model(name, "fine" if name == working else failure(name), quality=0.9 - place / 9, price=priced(1))
            for place, name in enumerate("abcde")
        ]
        done = await ran(*models, policy=policy)
        assert done.result.output.text == "fine"
        failed = {one.model: one.error for one in done.result.candidates if one.status == "failed"}
        assert all(error and error.failure == "overloaded" for error in failed.values())


async def test_a_failure_that_others_would_share_is_not_handed_on() -> None:
    done = await ran(model("a", failure("a", "invalid_request"), quality=0.99), model("b", quality=0.1))
    assert done.result.status == "failed"
    assert {one.model for one in done.result.candidates} == {"a"}


async def test_who_is_behind_is_in_the_plan_and_keeps_to_the_most_that_it_may_cost() -> None:
    models = [model("a", failure("a"), price=priced(1)), model("dear", price=priced(1e6)), model("c", price=priced(2))]
    done = await ran(*models, policy="cheap", max_cost_usd=0.005)
    assert done.result.plan
    assert set(done.result.plan.models) | set(done.result.plan.fallbacks) == {"a", "c"}
    assert done.result.output.source_model == "c"


async def test_who_is_behind_is_not_asked_where_the_budget_does_not_hold_it() -> None:
    models = [model("a", failure("a"), quality=0.99, price=priced(1)), model("dear", quality=0.1, price=priced(1e6))]
    for one in models:
        one.model = replace(one.model, call=charge(one.model.profile)(one.model.call))
    limited = {"budget": Budget(cost_usd=0.01), "generation": Generation(max_tokens=100)}
    done = await ran(*models, request=limited)
    assert done.result.error
    assert done.result.error.failure == "overloaded"
    assert not models[1].asked


async def test_the_estimate_tells_the_plan_of_the_run_where_prices_are_not_known() -> None:
    models = [model("a", quality=0.9), model("b", quality=0.9), model("c", quality=0.2, price=priced(1))]
    for budget in (Budget(), Budget(tokens=1_000_000)):
        request = asked("adaptive", ("a", "b", "c"), options={"explore": 0}, messages=WHY, budget=budget)
        run = engine(*models).begin(request)
        estimate = await engine(*models).estimate(request)
        own = run.strategy.plan(run.request, run.context)
        assert (estimate.plan.strategy, estimate.plan.models) == (own.strategy, own.models)
        assert "budget" not in estimate.plan.reason


def test_now_and_then_it_tries_what_is_little_known() -> None:
    models = [model("known", quality=0.8), model("new", quality=0.78), model("bad", quality=0.1)]
    lessons = Learned(performances={name: measured(quality=q, judged=5_000) for name, q in [("known", 0.8), ("bad", 0.1)]})

    def taken(seed: int, explore: float) -> str:
        generation = {"generation": Generation(seed=seed)}
        return plan(*models, lessons=lessons, request=generation, explore=explore).models[0]

    always = [taken(seed, 1.0) for seed in range(60)]
    assert {"known", "new"} == set(always)
    assert always == [taken(seed, 1.0) for seed in range(60)]
    some = [taken(seed, 0.2) for seed in range(60)]
    assert 0 < some.count("new") < always.count("new")
    assert {taken(seed, 0.0) for seed in range(60)} == {"known"}
    told = plan(*models, lessons=lessons, request={"generation": Generation(seed=always.index("new"))}, explore=1.0)
    assert "it is tried" in told.reason


async def test_all_models_are_there_to_choose_from_where_none_is_named() -> None:
    models = [model(f"m{number}", quality=0.5 + number / 100) for number in range(6)]
    run = engine(*models).begin(asked("adaptive", options={"explore": 0}, messages=WHY))
    assert chosen_of(run).models == ("m5",)


async def test_the_estimate_shows_the_plan_and_calls_nobody() -> None:
    models = [model("cheap", **CHEAP), model("dear", **DEAR)]
    estimate = await engine(*models).estimate(asked("adaptive", ("cheap", "dear"), options={"explore": 0}, messages=WHY))
    assert estimate.plan.alternatives
    assert estimate.plan.task
    assert estimate.plan.task["category"] == "reasoning"
    assert estimate.plan.models[0] == estimate.calls[0].model
    assert not models[0].asked
    assert not models[1].asked


@pytest.mark.parametrize(
    ("options", "param", "says"),
    [
        ({"policy": "best"}, "options.policy", "'quality', 'balanced', 'cheap' or 'fast'"),
        ({"pin": ["x"]}, "options.pin", "'x' is none of the models"),
        ({"exclude": ["a", "b"]}, "options", "no model is left to choose from. 'a': it is excluded"),
        ({"pin": ["a"], "exclude": ["a"]}, "options", "both pinned and excluded"),
        ({"policy": "fast", "weights": {"quality": 1}}, "options", "in place of a policy"),
        ({"weights": {"quality": 0}}, "options", "at least one weight"),
        ({"max_cost_usd": 0.01}, "options.max_cost_usd", "no price is known"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        plan(model("a"), model("b"), **options)
    assert (refused.value.param or "").startswith(param)


def test_where_no_model_can_do_it_the_answer_says_what_is_missing() -> None:
    with pytest.raises(CapabilityMissing, match="cannot call tools"):
        plan(Scripted("a", capabilities=Capabilities(tools=False)), request={"tools": (ToolDefinition("look"),)})


async def test_standings_tell_the_calls_under_way_and_whether_there_is_room() -> None:
    loads, profile = Loads(), ModelProfile("a", "p", "m")
    standings = LocalStandings(SystemClock(), loads=loads)
    assert (standings.of(profile).under_way, standings.of(profile).full) == (0, False)
    load = loads.of("p", "m")
    config = BulkheadConfig(max_concurrent=1)
    load.bulkheads = [Bulkhead("the model", config.max_concurrent or 1, config.max_wait_s)]
    load.under_way = 1
    await load.bulkheads[0].enter(1.0)
    assert (standings.of(profile).under_way, standings.of(profile).full) == (1, True)


def test_a_plan_is_json_as_it_stands() -> None:
    found = plan(model("a", **CHEAP), model("b", **DEAR))
    assert json.dumps([found.options, found.task, dict(found.set_aside)])
    assert AdaptiveOptions().preference.quality == 1.0


@pytest.mark.alone
async def test_it_adds_at_most_a_millisecond_to_a_direct_call() -> None:
    models = [model(f"m{number}", quality=0.5 + number / 100, price=priced(1.0 + number)) for number in range(8)]
    made, names = engine(*models), tuple(one.name for one in models)
    text = ("Explain why the following plan, with its constraints, works. " * 40)[:2_048]

    async def taken_ms(strategy: str, named: tuple[str, ...], **options: Any) -> float:
        begun = time.perf_counter()
        run = made.begin(asked(strategy, named, options=options, messages=(user(text),)))
        assert (await run.result()).status == "succeeded"
        return (time.perf_counter() - begun) * 1000

    pairs = [
        (await taken_ms("direct", names[-1:]), await taken_ms("adaptive", names, weights={"quality": 1})) for _ in range(200)
    ]
    await asyncio.sleep(0)
    direct, adaptive = median(one for one, _ in pairs), median(other for _, other in pairs)
    print(
        f"direct {direct:.3f} ms, adaptive over 8 models with a prompt of 2 KB {adaptive:.3f} ms: {adaptive - direct:+.3f} ms"
    )
    assert adaptive - direct <= 1.0
