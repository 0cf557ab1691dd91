"""What a chain may cost at most, and what it does where a budget holds only a part of it."""

from __future__ import annotations

from app.core.models import Capabilities, Model, ModelProfile
from app.core.runs import Budget
from app.core.usage import FlatPrice
from app.orchestration.fallback.orchestrator import FallbackOrchestrator
from app.reliability.charge import charge
from tests.orchestration.fallback.chained import again, told
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Scripted

CHAIN = [
    {"model": "a", "request": {"generation": {"max_tokens": 50}}, "check": {"judge": {"model": "j"}}},
    {"model": "b"},
]


def priced(name: str, **says: object) -> Scripted:
    model = Scripted(name, **says)  # type: ignore[arg-type]
    profile = ModelProfile(name, "p", name, Capabilities(), FlatPrice(1.0, 1.0))
    model.model = Model(profile, charge(profile)(model.call))
    return model


def test_every_link_and_its_judge_is_counted() -> None:
    run = engine(priced("a"), priced("b"), priced("j")).begin(asked("fallback", options={"chain": CHAIN}))
    run.context.spending.default_max_tokens = 200
    calls = FallbackOrchestrator().worst_case(run.request, run.context)
    assert [(call.model.name, call.role, call.stage) for call in calls] == [
        ("a", "candidate", 1),
        ("j", "judge", 2),
        ("b", "candidate", 3),
    ]
    assert calls[0].output_tokens == 50
    assert calls[2].output_tokens == 200
    assert calls[1].input_tokens > calls[0].input_tokens + 50


async def test_with_best_so_far_an_answer_that_did_not_pass_is_better_than_none() -> None:
    models = priced("a"), priced("b"), priced("j", judge='{"score": 0.1}')
    on = engine(*models)
    chain = [*CHAIN[:1], {"model": "b", "request": {"generation": {"max_tokens": 30_000}}}]

    ran = await again(on, models, {"chain": chain}, budget=Budget(tokens=20_000, on_budget="best_so_far"), deltas="all")
    assert (ran.result.status, ran.result.output.text) == ("succeeded", "the answer of a")
    assert [told(link) for link in ran.result.path] == [
        (1, "a", "handed_over", "low_quality"),
        (2, "b", "failed", "budget_exceeded"),
        (1, "a", "answered", None),
    ]
    assert ran.result.wasted_cost_usd == 0
    assert not models[1].asked
