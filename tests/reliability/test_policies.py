"""The policies around a call: what they note, what they bound, and in which order they stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from app.core.chat import CallContext, ChatRequest, ChatResponse, Choice
from app.core.errors import DeadlineExceeded, ProviderError, QuorumError
from app.core.messages import user
from app.core.model_events import ModelEvent, ResponseFinished, ResponseStarted, TextDelta
from app.core.models import Call, ModelProfile, Policy
from app.reliability.attempt import attempt
from app.reliability.compose import compose
from app.reliability.timeout import timeout

END = ResponseFinished(ChatResponse("r", "m", (Choice(0, "x"),)))


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time + 1e9

    def monotonic(self) -> float:
        return self.time


class Counted:
    def __init__(self) -> None:
        self.seen: list[tuple[str, float, float | None]] = []

    def attempt(self, outcome: str, latency_s: float, ttft_s: float | None) -> None:
        self.seen.append((outcome, latency_s, ttft_s))


def asked(*, incremental: bool = True, **context: Any) -> ChatRequest:
    return ChatRequest("m", (user("hi"),), incremental=incremental, context=CallContext(**context))


def saying(clock: Clock, *told: ModelEvent | BaseException) -> Call:
    """A call that takes a second before each thing it tells."""

    async def call(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        for event in told:
            clock.time += 1
            if isinstance(event, BaseException):
                raise event
            yield event

    return call


async def noted(*told: ModelEvent | BaseException, read: int | None = None) -> tuple[Counted, ChatRequest]:
    clock, counted, request = Clock(), Counted(), asked()
    events = attempt(counted, clock)(saying(clock, *told))(request)
    async with aclosing(events):  # type: ignore[type-var]
        if read is None:
            async for _ in events:
                pass
        else:
            for _ in range(read):
                await anext(events)
    return counted, request


async def test_an_answer_is_noted_with_its_time_and_the_time_to_its_first_token() -> None:
    counted, request = await noted(ResponseStarted("r", "m"), TextDelta("x"), TextDelta("y"), END)
    assert counted.seen == [("ok", 4.0, 2.0)]
    (made,) = request.context.attempts
    assert (made.outcome, made.started_at, made.latency_ms, made.error) == ("ok", 1e9 + 100, 4000, None)


async def test_a_unary_answer_has_no_first_token() -> None:
    counted, _ = await noted(END)
    assert counted.seen == [("ok", 1.0, None)]


async def test_a_failure_is_noted_by_its_class_with_its_account() -> None:
    error = ProviderError("busy", failure="overloaded", provider="p", status=529)
    with pytest.raises(ProviderError):
        await noted(TextDelta("x"), error)
    clock, counted, request = Clock(), Counted(), asked()
    with pytest.raises(ProviderError):
        async for _ in attempt(counted, clock)(saying(clock, TextDelta("x"), error))(request):
            pass
    assert counted.seen == [("overloaded", 2.0, 1.0)]
    (made,) = request.context.attempts
    assert made.outcome == "error"
    assert made.error is not None
    assert (made.error.failure, made.error.status) == ("overloaded", 529)


async def test_a_failure_of_the_run_is_noted_by_its_code() -> None:
    clock, counted = Clock(), Counted()
    with pytest.raises(DeadlineExceeded):
        async for _ in attempt(counted, clock)(saying(clock, DeadlineExceeded("late")))(asked()):
            pass
    assert [outcome for outcome, *_ in counted.seen] == ["deadline_exceeded"]


async def test_a_call_that_is_left_before_its_end_is_cancelled_and_after_it_is_not() -> None:
    counted, request = await noted(TextDelta("x"), END, read=1)
    assert counted.seen == [("cancelled", 1.0, 1.0)]
    assert request.context.attempts[0].outcome == "cancelled"
    counted, _ = await noted(TextDelta("x"), END, read=2)
    assert counted.seen == [("ok", 2.0, 1.0)]


async def test_each_attempt_of_a_request_is_noted() -> None:
    clock, counted, request = Clock(), Counted(), asked()
    call = attempt(counted, clock)(saying(clock, END))
    for _ in range(2):
        async for _ in call(request):
            pass
    assert len(request.context.attempts) == len(counted.seen) == 2


def slow(*told: ModelEvent) -> Call:
    """A call that tells what it has and then nothing more."""

    async def call(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        for event in told:
            yield event
        await asyncio.Event().wait()

    return call


@pytest.mark.parametrize(
    ("incremental", "told", "times", "message"),
    [
        (True, (), {"first_token_s": 0.01}, "no first token within 0.01 s"),
        (True, (TextDelta("x"),), {"idle_s": 0.01}, "no further token within 0.01 s"),
        (True, (TextDelta("x"),), {"total_s": 0.01}, "no whole answer within 0.01 s"),
        (False, (), {"first_token_s": 0.001, "total_s": 0.02}, "no whole answer within 0.02 s"),
    ],
)
async def test_a_provider_that_is_too_slow_is_a_timeout_that_says_what_was_waited_for(
    incremental: bool, told: Any, times: dict[str, float], message: str
) -> None:
    bounds = {"first_token_s": 60.0, "idle_s": 60.0, "total_s": 60.0, **times}
    call = timeout(ModelProfile("fast", "p", "m-1"), **bounds)(slow(*told))
    got = []
    with pytest.raises(ProviderError) as caught:
        async for event in call(asked(incremental=incremental)):
            got.append(event)
    assert got == list(told)
    assert caught.value.message == f"provider 'p' (m-1): {message}"
    assert (caught.value.failure, caught.value.provider, caught.value.model) == ("timeout", "p", "m-1")


async def test_the_runs_own_deadline_is_not_the_providers_fault() -> None:
    call = timeout(ModelProfile("fast", "p", "m"), first_token_s=60, idle_s=60, total_s=60)(slow(TextDelta("x")))
    with pytest.raises(DeadlineExceeded, match="while 'fast' was answering"):
        async for _ in call(asked(deadline=asyncio.get_running_loop().time() + 0.01)):
            pass


async def test_a_deadline_beyond_the_providers_own_time_changes_nothing() -> None:
    call = timeout(ModelProfile("fast", "p", "m"), first_token_s=60, idle_s=60, total_s=0.01)(slow())
    with pytest.raises(ProviderError, match="no whole answer"):
        async for _ in call(asked(deadline=asyncio.get_running_loop().time() + 60)):
            pass


async def test_a_timeout_is_noted_by_the_attempt_around_it() -> None:
    counted, clock, request = Counted(), Clock(), asked()
    bound = timeout(ModelProfile("fast", "p", "m"), first_token_s=0.01, idle_s=1, total_s=1)
    with pytest.raises(QuorumError):
        async for _ in compose(slow(), (attempt(counted, clock), bound))(request):
            pass
    assert [outcome for outcome, *_ in counted.seen] == ["timeout"]


async def test_the_first_policy_is_the_outermost() -> None:
    log: list[str] = []

    def named(name: str) -> Policy:
        def policy(call: Call) -> Call:
            async def around(request: ChatRequest) -> AsyncIterator[ModelEvent]:
                log.append(f"{name} in")
                async for event in call(request):
                    yield event
                log.append(f"{name} out")

            return around

        return policy

    async for _ in compose(saying(Clock(), END), (named("a"), named("b")))(asked()):
        pass
    assert log == ["a in", "b in", "b out", "a out"]


def test_no_policy_is_the_call_itself() -> None:
    call = saying(Clock(), END)
    assert compose(call, ()) is call
