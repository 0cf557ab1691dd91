"""What budgets make of runs: what is planned is what is called, and what is over is not called."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.config.spec import QuorumSpec, RecipeReliability
from app.core.chat import Generation
from app.core.clock import SystemClock
from app.core.errors import BudgetExceeded, InvalidRequest
from app.core.messages import user
from app.core.models import Model
from app.core.run_events import RunEvent
from app.core.runs import Budget, OrchestrationConfig, RunRequest
from app.core.usage import FlatPrice
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.engine import Engine
from app.orchestration.strategies import Strategies
from app.reliability.charge import charge
from tests.orchestration.scripted import Reply, Scripted, failure
from tests.support.serving import until

PRICE = FlatPrice(1.0, 2.0)


class Known:
    """The models of a test."""

    def __init__(self, scripted: Sequence[Scripted], *, priced: bool = True) -> None:
        self.scripted = {one.name: one for one in scripted}
        price = PRICE if priced else None
        profiles = {one.name: replace(one.model.profile, price=price) for one in scripted}
        self._models = {one.name: Model(profiles[one.name], charge(profiles[one.name])(one.model.call)) for one in scripted}

    def tuned(self, model: Model, reliability: RecipeReliability) -> Model:
        return model

    def resolve(self, name: str) -> Model:
        return self._models[name]

    def models(self) -> Sequence[Model]:
        return tuple(self._models.values())


def engine(known: Known) -> Engine:
    return Engine(known, Strategies(plugins=False), QuorumSpec(), SystemClock())


def request(
    known: Known,
    budget: Budget,
    *,
    strategy: str = "simple",
    max_tokens: int | None = 100,
    deltas: Any = "none",
    **options: Any,
) -> RunRequest:
    config = OrchestrationConfig(strategy, tuple(known.scripted), None, options)
    return RunRequest(config, (user("What is it?"),), Generation(max_tokens=max_tokens), budget=budget, deltas=deltas)


def three(**phases: Any) -> list[Scripted]:
    return [Scripted(name, **phases) for name in "abc"]


PLANS = [
    {},
    {"layers": 3},
    {"analysis": "critique"},
    {"analysis": "peer_ranking"},
    {"analysis": "factual", "layers": 2},
]


@pytest.mark.parametrize("options", PLANS, ids=str)
async def test_a_run_makes_as_many_calls_as_its_plan_said_and_no_longer_ones(options: dict[str, Any]) -> None:
    known = Known(three(ranking='{"ranking": ["A", "B", "C"]}'))
    run = engine(known).begin(request(known, Budget(tokens=10**6, cost_usd=10), **options))
    planned = run.strategy.worst_case(run.request, run.context)
    assert planned is not None
    result = await run.result()
    assert result.status == "succeeded"
    made = [asked for one in known.scripted.values() for asked in one.asked]
    assert len(made) == len(planned)
    assert all(asked.generation.max_tokens in (100, 4_096) for asked in made)
    assert run.context.spending.purse is not None
    assert run.context.spending.purse.spent.tokens == result.usage.total_tokens <= sum(call.tokens for call in planned)
    assert run.context.spending.purse.spent.usd == pytest.approx(result.cost_usd)


async def test_a_call_without_max_tokens_gets_that_of_the_configuration_only_where_a_budget_applies() -> None:
    known = Known([Scripted("a")])
    await engine(known).begin(request(known, Budget(tokens=10_000), max_tokens=None)).result()
    await engine(known).begin(request(known, Budget(), max_tokens=None)).result()
    assert [asked.generation.max_tokens for asked in known.scripted["a"].asked] == [4_096, None]


@pytest.mark.parametrize(
    ("budget", "param"), [(Budget(tokens=500), "budget.tokens"), (Budget(cost_usd=0.0005), "budget.cost_usd")]
)
def test_a_plan_beyond_the_runs_own_budget_is_refused_before_anything_is_called(budget: Budget, param: str) -> None:
    known = Known(three())
    with pytest.raises(BudgetExceeded, match="the plan may") as refused:
        engine(known).begin(request(known, budget))
    assert refused.value.param == param
    assert not any(one.asked for one in known.scripted.values())


def test_dollars_cannot_bound_what_has_no_price() -> None:
    known = Known(three(), priced=False)
    with pytest.raises(InvalidRequest, match=r"budget.cost_usd cannot be kept: the price of 'a', 'b', 'c' is not known"):
        engine(known).begin(request(known, Budget(cost_usd=1)))
    engine(known).begin(request(known, Budget(tokens=100_000)))


async def test_with_the_best_so_far_the_synthesis_is_not_asked_when_it_does_not_fit() -> None:
    known = Known(three())
    run = engine(known).begin(request(known, Budget(tokens=650, on_budget="best_so_far")))
    result = await run.result()
    assert result.status == "succeeded"
    assert (result.output.source_model, result.output.is_synthesized) == ("a", False)
    assert [one.phases for one in known.scripted.values()] == [["candidate"]] * 3
    assert "is not asked: the call would take the run to" in result.warnings[0]


async def test_with_the_best_so_far_models_that_do_not_fit_any_more_are_not_asked() -> None:
    gate = asyncio.Event()
    known = Known([Scripted(name, Reply(["x"], hold=gate)) for name in "abc"])
    running = asyncio.create_task(engine(known).begin(request(known, Budget(tokens=400, on_budget="best_so_far"))).result())
    await until(lambda: sum(one.open for one in known.scripted.values()) == 2)
    gate.set()
    result = await running
    assert [candidate.status for candidate in result.candidates].count("succeeded") == 2
    (left,) = [candidate for candidate in result.candidates if candidate.error]
    assert left.error is not None
    assert left.error.code == "budget_exceeded"


def test_even_the_best_so_far_needs_one_call() -> None:
    known = Known(three())
    with pytest.raises(BudgetExceeded, match="even its cheapest call may use"):
        engine(known).begin(request(known, Budget(tokens=150, on_budget="best_so_far")))


async def test_a_run_that_really_used_more_than_its_budget_makes_no_further_call() -> None:
    known = Known([Scripted("a"), Scripted("b")])
    whole = request(known, Budget(tokens=1_000_000))
    charge = engine(known).begin(whole).charge
    assert charge is not None
    assert charge.forecast is not None
    plan = charge.forecast.tokens
    greedy = Known([Greedy("a", 100_000), Greedy("b", 100_000)])
    result = await engine(greedy).begin(request(greedy, Budget(tokens=plan))).result()
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == "budget_exceeded"
    assert not any("synthesis" in one.phases for one in greedy.scripted.values())


class Greedy(Scripted):
    """Says that it wrote so many tokens."""

    def __init__(self, name: str, tokens: int) -> None:
        super().__init__(name)
        self._tokens = tokens

    async def call(self, request: Any) -> AsyncIterator[Any]:
        async for event in super().call(request):
            response = getattr(event, "response", None)
            yield (
                event
                if response is None
                else replace(event, response=replace(response, usage=replace(response.usage, output_tokens=self._tokens)))
            )


class Careless(BaseOrchestrator):
    """Does not say what it will call, and calls more than one would think."""

    name = "careless"

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        for _ in range(20):
            asked = context.ask(context.models[0])
            async for event in asked.events():
                yield event
        yield asked.ending()


async def test_a_strategy_that_does_not_say_what_it_calls_is_held_to_the_assumed_plan() -> None:
    known = Known([Greedy("a", 90)])
    whole = engine(known)
    whole.strategies.register(Careless())
    run = whole.begin(request(known, Budget(tokens=600), strategy="careless", max_tokens=100))
    result = await run.result()
    assert result.error is not None
    assert result.error.code == "budget_exceeded"
    assert len(known.scripted["a"].asked) == 5
    assert run.context.spending.purse is not None
    assert run.context.spending.purse.spent.tokens <= 600


async def test_such_a_strategy_is_held_to_it_where_a_planner_picks_it_too() -> None:
    known = Known([Greedy("a", 90)])
    rules = {"rules": [{"name": "r", "use": {"strategy": "careless", "models": ["a"]}}]}
    whole = Engine(known, Strategies(plugins=False), QuorumSpec.model_validate({"planner": rules}), SystemClock())
    whole.strategies.register(Careless())
    result = await whole.begin(request(known, Budget(tokens=600), strategy="reliable", max_tokens=100)).result()
    assert result.error is not None
    assert (result.error.code, len(known.scripted["a"].asked)) == ("budget_exceeded", 5)


async def test_an_answer_that_broke_off_is_booked_by_what_came() -> None:
    broken = Scripted("a", Reply(["x" * 400], error=failure("a", "incomplete").error))
    known = Known([broken, Scripted("b")])
    run = engine(known).begin(request(known, Budget(tokens=100_000), deltas="all"))
    result = await run.result()
    failed = next(candidate for candidate in result.candidates if candidate.status == "failed")
    assert failed.usage.output_tokens == 100
    assert failed.cost_usd == pytest.approx(PRICE.cost(failed.usage))
    assert run.context.spending.purse is not None
    assert run.context.spending.purse.spent.tokens == result.usage.total_tokens


async def test_a_run_that_is_closed_books_what_its_calls_have_probably_taken() -> None:
    known = Known([Scripted("a", Reply(["x" * 400], hold=asyncio.Event())), Scripted("b")])
    run = engine(known).begin(request(known, Budget(tokens=100_000), deltas="all"))
    events = run.events()
    async for event in events:
        if event.type == "candidate.delta" and "x" in getattr(event, "text", ""):
            break
    await events.aclose()
    assert run.context.spending.purse is not None
    assert run.context.spending.purse.spent.tokens >= 100


async def test_what_had_answered_before_a_run_was_taken_over_is_booked_without_being_asked_again() -> None:
    known = Known(three())
    first = await engine(known).begin(request(known, Budget(tokens=100_000))).result()
    again = Known(three())
    run = engine(again).begin(request(again, Budget(tokens=100_000)))
    run.context.recall(list(first.candidates), {})
    result = await run.result()
    assert [one.phases for one in again.scripted.values()] == [["synthesis"], [], []]
    assert result.output.text == first.output.text == "synthesis by a"
    assert run.context.spending.purse is not None
    assert run.context.spending.purse.spent.tokens == result.usage.total_tokens == first.usage.total_tokens
