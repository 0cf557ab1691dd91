"""A call draws on its run's purse: what is set aside before, what is booked after, and who draws nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice, Generation
from app.core.clock import SystemClock
from app.core.errors import BudgetExceeded, DeadlineExceeded, ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, TextDelta
from app.core.models import Call, ModelProfile, Policy
from app.core.streams import close
from app.core.usage import FlatPrice, Usage
from app.reliability.attempt import attempt
from app.reliability.charge import charge
from app.reliability.compose import compose
from app.reliability.forecast import input_bound
from app.reliability.purse import Bounds, RunPurse

PRICE = FlatPrice(1.0, 2.0)
PROFILE = ModelProfile("a", "p", "a", price=PRICE)
USED = Usage(10, 5)
PROMPT = (user("What is it?"),)
WORST = input_bound(PROMPT) + 100
END = ResponseFinished(ChatResponse("r", "a", (Choice(0, "An answer."),), USED))


class Upstream:
    """Says `events`, then raises `error` if there is one."""

    def __init__(self, *events: ModelEvent, error: Exception | None = None) -> None:
        self.events: Sequence[ModelEvent] = events
        self.error = error
        self.asked = 0

    async def __call__(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        self.asked += 1
        for event in self.events:
            yield event
        if self.error:
            raise self.error


class Silent:
    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        pass


def purse(tokens: int) -> RunPurse:
    return RunPurse(Bounds(tokens=tokens), strict=True, ends_run=False, known_tokens=input_bound(PROMPT))


def request(drawn_on: RunPurse | None) -> ChatRequest:
    return ChatRequest("a", PROMPT, Generation(max_tokens=100), incremental=True, context=CallContext(purse=drawn_on))


async def answered(call: Call, drawn_on: RunPurse | None) -> list[ModelEvent]:
    return [event async for event in call(request(drawn_on))]


def failed(usage: Usage | None = None) -> ProviderError:
    error = ProviderError("broken", failure="incomplete", provider="p", model="a")
    if usage:
        error.usage = usage
    return error


async def test_an_answer_is_booked_by_what_its_provider_says() -> None:
    drawn_on = purse(WORST)
    assert await answered(charge(PROFILE)(Upstream(END)), drawn_on) == [END]
    assert drawn_on.spent.tokens == 15
    assert drawn_on.spent.usd == pytest.approx(PRICE.cost(USED))


async def test_what_does_not_fit_is_not_called() -> None:
    upstream = Upstream(END)
    with pytest.raises(BudgetExceeded, match="'a' is not asked"):
        await answered(charge(PROFILE)(upstream), purse(WORST - 1))
    assert upstream.asked == 0


async def test_a_run_without_a_purse_has_nothing_put_around_its_calls() -> None:
    inner = Upstream(END)(request(None))
    assert charge(PROFILE)(lambda _: inner)(request(None)) is inner


@pytest.mark.parametrize(
    ("upstream", "tokens"),
    [
        (Upstream(error=failed()), 0),
        (Upstream(error=failed(USED)), 15),
        (Upstream(TextDelta("x" * 400), error=failed()), 100 + input_bound(PROMPT) // 4),
    ],
    ids=["before a token", "with its usage", "after tokens"],
)
async def test_a_failure_is_booked_by_what_it_used(upstream: Upstream, tokens: int) -> None:
    drawn_on = purse(WORST)
    with pytest.raises(ProviderError):
        await answered(charge(PROFILE)(upstream), drawn_on)
    assert drawn_on.spent.tokens == tokens


async def test_a_call_that_is_closed_books_what_it_has_probably_taken_and_gives_the_rest_back() -> None:
    drawn_on = purse(2 * WORST)
    events = charge(PROFILE)(Upstream(TextDelta("x" * 400), END))(request(drawn_on))
    await anext(events)
    await close(events)
    assert drawn_on.spent.tokens == 100 + input_bound(PROMPT) // 4
    drawn_on.draw(request(drawn_on), PROFILE)


@pytest.mark.parametrize(("asked", "tokens"), [(True, input_bound(PROMPT) // 4), (False, 0)], ids=["asked", "not yet asked"])
async def test_of_a_call_that_the_deadline_cuts_the_prompt_is_booked_if_it_was_sent(asked: bool, tokens: int) -> None:
    clock, drawn_on = SystemClock(), purse(WORST)
    inner = attempt(Silent(), clock)(Upstream(error=DeadlineExceeded("too late")))
    given = request(drawn_on)
    given.context.deadline = clock.monotonic() + (60 if asked else -1)
    with pytest.raises(DeadlineExceeded):
        async for _ in charge(PROFILE)(inner)(given):
            pass
    assert drawn_on.spent.tokens == tokens
    assert given.context.used is not None
    assert given.context.used.total_tokens == tokens


async def test_an_answer_is_booked_before_anybody_has_it() -> None:
    drawn_on = purse(WORST)
    events = charge(PROFILE)(Upstream(END))(request(drawn_on))
    assert await anext(events) == END
    assert drawn_on.spent.tokens == 15
    await close(events)
    assert drawn_on.spent.tokens == 15


async def test_what_answers_outside_draws_nothing_though_the_purse_is_empty() -> None:
    upstream = Upstream()

    def remembered(_call: Call) -> Call:
        return Upstream(END)

    assert await answered(compose(upstream, [remembered, charge(PROFILE)]), purse(0)) == [END]
    assert upstream.asked == 0


def doubled(call: Call) -> Call:
    """Makes a second call beside each, if the purse holds it, and closes it unheard: the loser of a race."""

    async def both(asked: ChatRequest) -> AsyncIterator[ModelEvent]:
        assert asked.context.purse is not None
        try:
            draw = asked.context.purse.draw(asked, PROFILE)
        except BudgetExceeded:
            draw = None
        async for event in call(asked):
            yield event
        if draw:
            draw.book(USED, None)

    return both


@pytest.mark.parametrize(("size", "spent"), [(2 * WORST, 30), (2 * WORST - 1, 15)], ids=["both fit", "one fits"])
async def test_a_second_call_inside_draws_for_itself(size: int, spent: int) -> None:
    drawn_on = purse(size)
    around: list[Policy] = [charge(PROFILE), doubled]
    assert await answered(compose(Upstream(END), around), drawn_on) == [END]
    assert drawn_on.spent.tokens == spent
