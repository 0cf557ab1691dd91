"""What is called again, after which wait, and how often at most."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any, get_args

import pytest

from app.config.spec import RetryBudgetConfig, RetryConfig
from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice
from app.core.errors import FailureClass, ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted, TextDelta
from app.core.models import ModelProfile
from app.reliability.retry import RETRIED, RetryBudget, may_retry, retry, wait_before
from tests.reliability.turned import Highest, TurnedClock, Waits

STARTED, WORD = ResponseStarted("r", "m"), TextDelta("x")
END = ResponseFinished(ChatResponse("r", "m", (Choice(0, "x"),)))
CONFIG = RetryConfig()
PLENTY = RetryBudgetConfig(share=1, per_second=1000)


def failed(failure: FailureClass = "overloaded", **more: Any) -> ProviderError:
    return ProviderError("no", failure=failure, provider="p", **more)


class Upstream:
    """Says one of `answers` after the other; `calls` counts."""

    def __init__(self, *answers: Sequence[ModelEvent | Exception]) -> None:
        self.answers = answers
        self.calls = 0
        self.closed = 0

    async def __call__(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        self.calls += 1
        try:
            for event in self.answers[min(self.calls, len(self.answers)) - 1]:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed += 1


class Asked:
    def __init__(self, upstream: Upstream, *, budget: RetryBudgetConfig = PLENTY, **config: Any) -> None:
        self.clock = TurnedClock()
        self.waits = Waits(self.clock)
        self.budget = RetryBudget(budget, self.clock)
        profile = ModelProfile("fast", "p", "m")
        self.call = retry(profile, RetryConfig(**config), self.budget, self.clock, Highest(), self.waits)(upstream)

    async def __call__(self, deadline: float | None = None, retries: dict[FailureClass, int] | None = None) -> list[ModelEvent]:
        context = CallContext(deadline=deadline, retries=retries)
        request = ChatRequest("m", (user("hi"),), incremental=True, context=context)
        return [event async for event in self.call(request)]


def test_the_classes_are_those_of_the_table() -> None:
    assert {c for c in get_args(FailureClass) if may_retry(failed(c), CONFIG, 0)} == RETRIED
    assert {"breaker_open", "pacing", "auth", "quota_exhausted", "context_length"}.isdisjoint(RETRIED)


def test_the_providers_word_counts() -> None:
    assert not may_retry(failed("server_error", should_retry=False), CONFIG, 0)
    assert may_retry(failed("invalid_request", should_retry=True), CONFIG, 0)
    assert not may_retry(failed("quota_exhausted", should_retry=True), CONFIG, 0)


def test_two_retries_are_the_most() -> None:
    assert [may_retry(failed(), CONFIG, retries) for retries in range(4)] == [True, True, False, False]


def test_waits_are_full_jitter_doubling_up_to_eight_seconds() -> None:
    longest = [wait_before(failed(), CONFIG, retries, Highest()) for retries in range(7)]
    assert longest == [0.5, 1, 2, 4, 8, 8, 8]
    rng = Random(7)
    waits = [wait_before(failed(), CONFIG, 2, rng) or 0.0 for _ in range(2000)]
    assert 0 <= min(waits) < 0.01
    assert 0.95 < sum(waits) / len(waits) < 1.05


def test_a_hint_is_kept_and_one_that_is_too_long_means_to_give_up() -> None:
    assert wait_before(failed("rate_limited", retry_after=3), CONFIG, 0, Random(1)) == pytest.approx(3.15, abs=0.15)
    assert wait_before(failed("rate_limited", retry_after=20.5), CONFIG, 0, Random(1)) is None


async def test_a_retry_cannot_be_seen() -> None:
    upstream = Upstream([STARTED, failed()], [failed("connection")], [STARTED, WORD, END])
    asked = Asked(upstream)
    assert await asked() == [STARTED, WORD, END]
    assert (upstream.calls, upstream.closed, asked.waits.made) == (3, 3, [0.5, 1])


async def test_after_the_first_token_nothing_is_called_again() -> None:
    upstream = Upstream([STARTED, WORD, failed("incomplete")])
    with pytest.raises(ProviderError):
        await Asked(upstream)()
    assert upstream.calls == 1


async def test_the_last_failure_is_the_callers() -> None:
    upstream = Upstream([failed("connection")], [failed("timeout")], [failed("overloaded")])
    with pytest.raises(ProviderError) as caught:
        await Asked(upstream)()
    assert caught.value.failure == "overloaded"
    assert upstream.calls == 3


async def test_a_wait_that_outlasts_the_deadline_is_not_begun() -> None:
    upstream = Upstream([failed("rate_limited", retry_after=5)], [END])
    asked = Asked(upstream)
    with pytest.raises(ProviderError, match="no"):
        await asked(deadline=asked.clock.time + 5)
    assert (upstream.calls, asked.waits.made) == (1, [])
    assert await Asked(Upstream([failed("rate_limited", retry_after=5)], [END]))(deadline=asked.clock.time + 6) == [END]


async def test_a_long_hint_fails_at_once_so_that_others_can_take_over() -> None:
    asked = Asked(upstream := Upstream([failed("overloaded", retry_after=60)]))
    with pytest.raises(ProviderError) as caught:
        await asked()
    assert (upstream.calls, asked.waits.made, caught.value.retry_after) == (1, [], 60)


async def test_without_budget_there_is_no_retry() -> None:
    upstream = Upstream([failed()])
    asked = Asked(upstream, budget=RetryBudgetConfig(share=0, per_second=0))
    with pytest.raises(ProviderError):
        await asked()
    assert upstream.calls == 1


def test_the_budget_is_a_share_of_the_calls_and_some_a_second() -> None:
    clock = TurnedClock()
    budget = RetryBudget(RetryBudgetConfig(), clock)
    assert sum(budget.take() for _ in range(100)) == 10  # a second's worth is there at the start
    for _ in range(51):
        budget.called()
    assert sum(budget.take() for _ in range(100)) == 10  # 20 % of 51
    clock.time += 0.5
    assert sum(budget.take() for _ in range(100)) == 5
    clock.time += 3600
    assert sum(budget.take() for _ in range(100)) == 10


async def test_an_answer_of_nothing_but_its_start_ends_so() -> None:
    assert await Asked(Upstream([END]))() == [END]


@pytest.mark.parametrize("config", [{}, {"enabled": False}, {"max_retries": 0}])
async def test_a_call_may_say_itself_how_often_a_class_is_called_again(config: dict[str, Any]) -> None:
    upstream = Upstream([failed()])
    with pytest.raises(ProviderError):
        await Asked(upstream, **config)(retries={"overloaded": 4})
    assert upstream.calls == 5
    upstream = Upstream([failed()])
    with pytest.raises(ProviderError):
        await Asked(upstream, **config)(retries={"overloaded": 0})
    assert upstream.calls == 1


async def test_classes_that_a_call_does_not_name_are_called_again_as_configured() -> None:
    upstream = Upstream([failed("timeout")])
    with pytest.raises(ProviderError):
        await Asked(upstream, max_retries=1)(retries={"overloaded": 4})
    assert upstream.calls == 2


async def test_a_call_cannot_have_called_again_what_the_provider_forbids() -> None:
    upstream = Upstream([failed(should_retry=False)])
    with pytest.raises(ProviderError):
        await Asked(upstream)(retries={"overloaded": 4})
    assert upstream.calls == 1


async def test_where_retries_are_off_nothing_is_put_around_a_call() -> None:
    upstream = Upstream([STARTED, WORD, END])
    asked = Asked(upstream, enabled=False)
    assert asked.call(ChatRequest("m", (user("hi"),))).__class__.__name__ == "async_generator"
    source = asked.call(ChatRequest("m", (user("hi"),)))
    assert source.ag_code.co_name == "__call__"
