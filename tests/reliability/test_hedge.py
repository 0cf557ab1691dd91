"""When a call is hedged, how often at most, and what is usual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest

from app.config.spec import HedgeConfig
from app.core.budgets import NOTHING, Amount
from app.core.chat import ChatRequest, ChatResponse, Choice, Generation
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished
from app.core.models import Call, ModelProfile
from app.core.usage import Usage
from app.reliability.charge import charge
from app.reliability.compose import compose
from app.reliability.forecast import cut_off, input_bound
from app.reliability.hedge import Usual, hedge
from app.reliability.purse import Bounds, RunPurse
from app.reliability.quantiles import Quantiles


class Nobody:
    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        pass


def usual(**config: float) -> Usual:
    return Usual(Nobody(), HedgeConfig.model_validate({"enabled": True, **config}))


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
def test_a_quantile_is_right_to_a_tenth(quantile: float) -> None:
    rng = Random(1)
    times = [rng.expovariate(2.0) for _ in range(2_000)]
    found = Quantiles()
    for time in times:
        found.add(time)
    recent = sorted(times[-1_000:])
    assert found.at(quantile) == pytest.approx(recent[int(quantile * len(recent))], rel=0.25)


def test_what_is_usual_follows_what_changes() -> None:
    found = Quantiles()
    for seconds in (0.1, 2.0):
        for _ in range(5_000):
            found.add(seconds)
    assert found.at(0.5) == pytest.approx(2.0, rel=0.1)


def test_it_goes_on_for_ever() -> None:
    found = Quantiles()
    for _ in range(300_000):
        found.add(0.2)
    assert found.at(0.95) == pytest.approx(0.2, rel=0.1)


def test_streams_and_whole_answers_have_times_of_their_own() -> None:
    times = usual(min_calls=5)
    stream, whole = ChatRequest("m", (user("x"),), incremental=True), ChatRequest("m", (user("x"),))
    for _ in range(5):
        times.attempt("ok", 3.0, 0.5)
        times.attempt("timeout", 60.0, None)
    assert times.delay_s(whole) is None
    assert times.delay_s(stream) == pytest.approx(0.5, rel=0.1)


def test_at_most_one_call_in_twenty_is_hedged() -> None:
    times, request = usual(), ChatRequest("m", (user("x"),))
    hedged = 0
    for _ in range(1_000):
        times.delay_s(request)
        hedged += times.take()
    assert hedged == 50


PROFILE = ModelProfile("m", "p", "m")


class Reserving:
    """The reservations of a caller, each granted when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Amount] = []
        self.settled: list[Amount] = []
        self.grant = asyncio.Event()

    async def __call__(self, amount: Amount) -> Reserving:
        self.asked.append(amount)
        await self.grant.wait()
        return self

    def settle_later(self, used: Amount) -> None:
        self.settled.append(used)


class Slow:
    """Answers when the test says so, the first time; after that at once."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.asked = 0

    async def __call__(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        self.asked += 1
        if self.asked == 1:
            await self.go.wait()
        yield ResponseFinished(ChatResponse("r", "m", (Choice(0, "An answer."),), Usage(10, 5)))


def hedging(reserving: Reserving) -> tuple[Usual, ChatRequest, RunPurse]:
    """A model that is quick as a rule, has one hedge saved up, and a caller whose plan holds one call."""
    times = usual(min_calls=5, max_share=0.5)
    request = ChatRequest("m", (user("x"),), Generation(max_tokens=100))
    bound = input_bound(request.messages)
    plan = Bounds(tokens=bound + 100)
    purse = RunPurse(plan, strict=False, ends_run=True, known_tokens=bound, reserve=reserving)
    request.context.purse = purse
    for _ in range(5):
        times.attempt("ok", 0.001, None)
        times.delay_s(request)
    return times, request, purse


async def answered(call: Call, request: ChatRequest) -> list[ModelEvent]:
    return [event async for event in call(request)]


async def test_a_hedge_reserves_for_itself_and_settles_that_by_itself() -> None:
    reserving, slow = Reserving(), Slow()
    times, request, purse = hedging(reserving)
    reserving.grant.set()
    call = compose(slow, [charge(PROFILE), hedge(PROFILE, times, lambda: True)])
    assert len(await answered(call, request)) == 1
    prompt = Amount(cut_off(request.messages, Choice()).total_tokens)
    assert slow.asked == 2
    assert reserving.asked == [Amount(input_bound(request.messages) + 100)]
    assert reserving.settled == [prompt]
    assert purse.spent == Amount(15)
    assert request.context.wasted.total_tokens == prompt.tokens


async def test_a_hedge_that_is_granted_too_late_is_not_made_and_gives_back_all_of_it() -> None:
    reserving, slow = Reserving(), Slow()
    times, request, purse = hedging(reserving)
    call = compose(slow, [charge(PROFILE), hedge(PROFILE, times, lambda: True)])
    asking = asyncio.create_task(answered(call, request))
    while not reserving.asked:
        await asyncio.sleep(0)
    slow.go.set()
    reserving.grant.set()
    assert len(await asking) == 1
    assert slow.asked == 1
    assert reserving.settled in ([], [NOTHING])
    assert purse.spent == Amount(15)
    assert times.may_hedge()
