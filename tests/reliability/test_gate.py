"""What a call passes on its way: breaker, bulkhead and pause, in a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from app.config.calls import CallConfig
from app.config.spec import BulkheadConfig, CacheConfig, CircuitBreakerConfig, PaceConfig, RetryBudgetConfig, RetryConfig
from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice
from app.core.errors import DeadlineExceeded, FailureClass, ProviderError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, TextDelta
from app.core.models import ModelProfile
from app.reliability.answers import Answers
from app.reliability.breakers import Breakers
from app.reliability.policies import StandardPolicies
from tests.reliability.turned import Highest, TurnedClock, Waits

END = ResponseFinished(ChatResponse("r", "m", (Choice(0, "x"),)))
ONCE = CallConfig(retry=RetryConfig(enabled=False))


def failed(failure: FailureClass, **more: Any) -> ProviderError:
    return ProviderError("no", failure=failure, provider="p", **more)


class Provider:
    """Answers as `says` tells: an end or a failure, `after_s` by the turned clock; waits for `hold`, where there is one."""

    def __init__(self, config: CallConfig = ONCE) -> None:
        self.clock = TurnedClock()
        self.waits = Waits(self.clock)
        self.breakers = Breakers(None, self.clock, Highest())
        self.policies = StandardPolicies(
            self.clock, self.breakers, RetryBudgetConfig(), Highest(), Answers(None, CacheConfig()), self.waits
        )
        self.says: Exception | ResponseFinished = END
        self.after_s = 0.0
        self.hold: asyncio.Event | None = None
        self.calls = 0
        self.call = self.policies(ModelProfile("fast", "p", "m"), config, self._stream)
        (self.breaker,) = self.breakers.all() or [None]

    async def _stream(self, request: ChatRequest) -> AsyncIterator[ModelEvent]:
        self.calls += 1
        if self.hold is not None:
            await self.hold.wait()
        self.clock.time += self.after_s
        if isinstance(self.says, Exception):
            raise self.says
        if request.incremental:
            yield TextDelta("x")
        yield self.says

    async def ask(self, *, incremental: bool = False, deadline: float | None = None) -> CallContext:
        context = CallContext(deadline=deadline)
        async for _ in self.call(ChatRequest("m", (user("hi"),), incremental=incremental, context=context)):
            pass
        return context

    async def fail(self, times: int, failure: FailureClass = "overloaded", **more: Any) -> None:
        self.says = failed(failure, **more)
        for _ in range(times):
            with pytest.raises(ProviderError):
                await self.ask()
        self.says = END

    async def refused(self, **more: Any) -> ProviderError:
        before = self.calls
        with pytest.raises(ProviderError) as caught:
            await self.ask(**more)
        assert self.calls == before
        return caught.value


async def test_after_twenty_failures_calls_are_refused_with_the_time_to_wait() -> None:
    provider = Provider()
    await provider.fail(20)
    refusal = await provider.refused()
    assert refusal.failure == "breaker_open"
    assert refusal.retry_after == pytest.approx(11, abs=0.01)  # ten seconds and the jitter
    provider.clock.time += 11
    for _ in range(3):
        await provider.ask()
    assert provider.breaker.circuit.state == "closed"


@pytest.mark.parametrize("failure", ["connection", "timeout", "overloaded", "server_error", "incomplete"])
async def test_what_counts(failure: FailureClass) -> None:
    provider = Provider()
    await provider.fail(20, failure)
    assert provider.breaker.circuit.state == "open"


@pytest.mark.parametrize(
    "failure", ["auth", "not_found", "invalid_request", "context_length", "quota_exhausted", "request_too_large"]
)
async def test_what_does_not_count(failure: FailureClass) -> None:
    provider = Provider()
    await provider.fail(40, failure)
    assert provider.breaker.circuit.state == "closed"


async def test_who_leaves_is_no_failure_and_gives_a_probes_permit_back() -> None:
    provider = Provider()
    await provider.fail(20)
    provider.clock.time += 11
    for number in range(6):
        provider.hold = asyncio.Event()
        asking = asyncio.create_task(provider.ask())
        while provider.calls < 21 + number:
            await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    circuit = provider.breaker.circuit
    assert (circuit.state, circuit.generation) == ("half_open", 3)  # open, and two epochs of three probes


async def test_slow_first_tokens_trip_it_and_unary_calls_do_not() -> None:
    provider = Provider()
    provider.after_s = 31
    config = replace(ONCE, breaker=CircuitBreakerConfig(window_s=3600))
    provider.call = provider.policies(ModelProfile("fast", "p", "m"), config, provider._stream)
    for _ in range(20):
        await provider.ask()
    assert provider.breaker.circuit.state == "closed"
    for _ in range(20):
        await provider.ask(incremental=True)
    assert provider.breaker.circuit.state == "open"


async def test_a_stream_that_was_left_before_its_first_token_was_slow_if_that_took_long() -> None:
    provider = Provider(replace(ONCE, breaker=CircuitBreakerConfig(window_s=3600, min_calls=2)))
    for _ in range(2):
        provider.hold = asyncio.Event()
        asking = asyncio.create_task(provider.ask(incremental=True))
        while not provider.calls:
            await asyncio.sleep(0)
        provider.calls = 0
        provider.clock.time += 40
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert provider.breaker.circuit.state == "open"


async def test_a_probe_has_passed_with_its_first_token() -> None:
    provider = Provider()
    await provider.fail(20)
    provider.clock.time += 11
    source = provider.call(ChatRequest("m", (user("hi"),), incremental=True))
    async with aclosing(source):  # type: ignore[type-var]
        await anext(source)
        assert provider.breaker.circuit.passed == 1


async def test_a_refused_call_is_an_attempt_that_says_why() -> None:
    provider = Provider()
    await provider.fail(20)
    context = CallContext()
    with pytest.raises(ProviderError):
        async for _ in provider.call(ChatRequest("m", (user("hi"),), context=context)):
            pass
    (refused,) = context.attempts
    assert refused.error is not None
    assert (refused.outcome, refused.error.failure) == ("error", "breaker_open")


async def test_a_switched_off_breaker_never_refuses() -> None:
    provider = Provider(replace(ONCE, breaker=CircuitBreakerConfig(enabled=False)))
    await provider.fail(60)
    await provider.ask()


async def test_a_rate_limit_makes_all_calls_wait_a_moment() -> None:
    provider = Provider()
    await provider.fail(1, "rate_limited")
    await provider.ask()
    assert provider.waits.made == [pytest.approx(0.55, abs=0.01)]
    assert provider.breaker.circuit.state == "closed"
    await provider.ask()
    assert len(provider.waits.made) == 1


async def test_a_long_pause_refuses_with_the_rest_of_it() -> None:
    provider = Provider()
    await provider.fail(1, "rate_limited", retry_after=30)
    provider.clock.time += 10
    refusal = await provider.refused()
    assert (refusal.failure, refusal.retry_after) == ("pacing", pytest.approx(20, abs=0.01))
    provider.clock.time += 20
    await provider.ask()
    assert provider.waits.made == []


async def test_a_pause_has_a_bound_and_a_switch() -> None:
    provider = Provider()
    await provider.fail(1, "rate_limited", retry_after=86_400)
    assert (await provider.refused()).retry_after == pytest.approx(60, abs=0.01)
    provider = Provider(replace(ONCE, pace=PaceConfig(enabled=False)))
    await provider.fail(1, "rate_limited", retry_after=86_400)
    await provider.ask()


async def test_a_pause_longer_than_the_deadline_is_not_waited_for() -> None:
    provider = Provider()
    await provider.fail(1, "rate_limited", retry_after=1)
    assert (await provider.refused(deadline=provider.clock.time + 0.5)).failure == "pacing"


async def test_nothing_starts_after_the_deadline() -> None:
    provider = Provider()
    with pytest.raises(DeadlineExceeded, match="before 'm' was asked"):
        await provider.ask(deadline=provider.clock.time)
    assert provider.calls == 0


@pytest.mark.parametrize("member", ["provider_bulkhead", "model_bulkhead"])
async def test_a_bulkhead_bounds_the_calls_under_way_and_the_wait_for_a_turn(member: str) -> None:
    config = replace(ONCE, **{member: BulkheadConfig(max_concurrent=2, max_wait_s=0.02)})
    provider = Provider(config)
    provider.hold = asyncio.Event()
    both = [asyncio.create_task(provider.ask()) for _ in range(2)]
    while provider.calls < 2:
        await asyncio.sleep(0)
    refusal = await provider.refused()
    assert refusal.failure == "pacing"
    assert "2 calls under way" in refusal.message
    waiting = asyncio.create_task(provider.ask())
    await asyncio.sleep(0)
    provider.hold.set()
    await asyncio.gather(*both, waiting)
    assert provider.calls == 3


async def test_who_leaves_while_waiting_for_a_turn_takes_none() -> None:
    provider = Provider(replace(ONCE, model_bulkhead=BulkheadConfig(max_concurrent=1, max_wait_s=60)))
    provider.hold = asyncio.Event()
    first, second = asyncio.create_task(provider.ask()), asyncio.create_task(provider.ask())
    while not provider.calls:
        await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    provider.hold.set()
    await first
    await provider.ask()
    assert provider.calls == 2


async def test_models_of_one_provider_share_its_bulkhead_and_not_their_own() -> None:
    config = replace(ONCE, provider_bulkhead=BulkheadConfig(max_concurrent=1, max_wait_s=0))
    provider = Provider(config)
    provider.hold = asyncio.Event()
    other = provider.policies(ModelProfile("other", "p", "m2"), config, provider._stream)
    first = asyncio.create_task(provider.ask())
    while not provider.calls:
        await asyncio.sleep(0)
    with pytest.raises(ProviderError, match="for the provider 'p'"):
        async for _ in other(ChatRequest("m2", (user("hi"),))):
            pass
    provider.hold.set()
    await first
