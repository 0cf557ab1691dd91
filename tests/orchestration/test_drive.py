"""Every run has one end, whatever its strategy does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import structlog

from app.core.chat import Generation, ResponseFormat
from app.core.errors import InvalidRequest
from app.core.messages import user
from app.core.run_events import CandidateStarted, OutputDelta, RunEvent, RunFailed, RunFinished, RunStarted, Warning
from app.core.run_fold import RunFold
from app.core.runs import OrchestrationConfig, RunRequest
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.drive import drive
from app.orchestration.prompts import Prompts

Body = Callable[[RunRequest, RunContext], AsyncIterator[RunEvent]]


class Turning:
    """A clock that goes on by a second with every look at it."""

    def __init__(self) -> None:
        self.looks = 0

    def now(self) -> float:
        return 1_700_000_000.9

    def monotonic(self) -> float:
        self.looks += 1
        return float(self.looks)


class Scripted(BaseOrchestrator):
    """A strategy whose `run` is given."""

    name = "scripted"

    def __init__(self, body: Body) -> None:
        super().__init__()
        self._body = body

    def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        return self._body(request, context)


def asked(**more: Any) -> RunRequest:
    return RunRequest(OrchestrationConfig("scripted", recipe="r"), (user("hi"),), deltas="all", **more)


def start(body: Body, request: RunRequest | None = None) -> AsyncIterator[RunEvent]:
    request = request or asked()
    return drive(Scripted(body), request, RunContext("run_1", request, (), None, StrategyOptions(), Turning(), Prompts()))


async def run(body: Body, request: RunRequest | None = None) -> list[RunEvent]:
    """The events, of which exactly the last is an end, and its result is the fold of them."""
    events = [event async for event in start(body, request)]
    ends = [event for event in events if isinstance(event, (RunFinished, RunFailed))]
    assert ends == [events[-1]]
    fold = RunFold("run_1")
    for event in (*events[:-1], replace(ends[0], result=None)):
        fold.add(event)
    assert fold.result() == ends[0].result
    return events


async def answers(_request: RunRequest, _context: RunContext) -> AsyncIterator[RunEvent]:
    yield OutputDelta(0, "text", '{"a": 1}')
    yield RunFinished(source_model="m")


async def test_a_run_that_ends_well_tells_of_its_start_first_and_of_its_result_last() -> None:
    request = asked(request_id="req", traceparent="00-trace-span-01", metadata={"k": "v"})
    first, said, last = await run(answers, request)
    assert first == RunStarted("scripted", "r", {"k": "v"}, "req", "trace", 1_700_000_000)
    assert said == OutputDelta(0, "text", '{"a": 1}')
    assert isinstance(last, RunFinished)
    assert last.result is not None
    assert (last.result.status, last.result.output.source_model) == ("succeeded", "m")


async def quorum_error(*_: Any) -> AsyncIterator[RunEvent]:
    yield OutputDelta(0, "text", "so far")
    raise InvalidRequest("no such thing", param="models")


async def value_error(*_: Any) -> AsyncIterator[RunEvent]:
    yield OutputDelta(0, "text", "so far")
    raise ValueError("secret")


async def without_end(*_: Any) -> AsyncIterator[RunEvent]:
    yield OutputDelta(0, "text", "so far")


def no_generator(*_: Any) -> AsyncIterator[RunEvent]:
    raise ValueError("secret")


def not_even_an_iterator(*_: Any) -> Any:
    return 7


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (quorum_error, "invalid_request", "no such thing"),
        (value_error, "internal_error", "an internal error"),
        (without_end, "orchestration_failed", "the strategy 'scripted' ended without an answer"),
        (no_generator, "internal_error", "an internal error"),
        (not_even_an_iterator, "internal_error", "an internal error"),
    ],
)
async def test_a_strategy_that_fails_ends_the_run_as_failed_with_what_was_said(body: Body, code: str, message: str) -> None:
    with structlog.testing.capture_logs() as logs:
        last = (await run(body))[-1]
    assert isinstance(last, RunFailed)
    assert last.error.code == code
    assert last.error.message.startswith(message)
    assert "secret" not in str(last)
    assert len(logs) == (code == "internal_error")
    if body in (quorum_error, value_error, without_end):
        assert last.result is not None
        assert last.result.output.text == "so far"


async def test_what_comes_after_the_end_is_not_told() -> None:
    went_on = False

    async def talkative(*_: Any) -> AsyncIterator[RunEvent]:
        nonlocal went_on
        yield RunFinished()
        went_on = True
        yield Warning("late")
        yield RunFinished()

    assert [event.type for event in await run(talkative)] == ["run.started", "run.finished"]
    assert not went_on


async def will_not_close(*_: Any) -> AsyncIterator[RunEvent]:
    try:
        yield RunFinished()
    except GeneratorExit:
        yield Warning("I am not done")


async def fails_to_close(*_: Any) -> AsyncIterator[RunEvent]:
    try:
        yield RunFinished()
    finally:
        raise KeyError("clean-up")


async def fails_to_close_in_our_words(*_: Any) -> AsyncIterator[RunEvent]:
    try:
        yield RunFinished()
    finally:
        raise InvalidRequest("clean-up")


@pytest.mark.parametrize("body", [will_not_close, fails_to_close, fails_to_close_in_our_words])
async def test_a_strategy_that_does_not_close_well_after_its_answer_has_given_it(body: Body) -> None:
    with structlog.testing.capture_logs() as logs:
        assert isinstance((await run(body))[-1], RunFinished)
    assert [log["event"] for log in logs] == ["strategy failed"] * (body is not fails_to_close_in_our_words)


async def test_a_run_beyond_its_deadline_fails_and_its_strategy_is_closed() -> None:
    closed = False

    async def slow(*_: Any) -> AsyncIterator[RunEvent]:
        nonlocal closed
        yield CandidateStarted("c1", "m", "p")
        try:
            await asyncio.Event().wait()
        finally:
            closed = True

    last = (await run(slow, asked(deadline=asyncio.get_running_loop().time() + 0.01)))[-1]
    assert isinstance(last, RunFailed)
    assert last.error.code == "deadline_exceeded"
    assert closed
    assert last.result is not None
    assert last.result.candidates[0].status == "cancelled"


async def test_a_deadline_that_passes_while_nobody_reads_leaves_the_reader_alone() -> None:
    async def body(*_: Any) -> AsyncIterator[RunEvent]:
        yield OutputDelta(0, "text", "a")
        await asyncio.Event().wait()

    async with aclosing(start(body, asked(deadline=asyncio.get_running_loop().time() + 0.01))) as events:  # type: ignore[type-var]
        await anext(events)
        await anext(events)
        await asyncio.sleep(0.03)
        assert isinstance(await anext(events), RunFailed)


@pytest.mark.parametrize(
    ("form", "text", "parsed"),
    [
        ("json_object", '{"a": 1}', {"a": 1}),
        ("json_schema", "[1]", [1]),
        ("json_object", "no json", None),
        ("json_object", "[" * 100_000, None),
        ("text", '{"a": 1}', None),
        (None, '{"a": 1}', None),
    ],
)
async def test_an_answer_is_parsed_where_json_was_asked_for(form: Any, text: str, parsed: Any) -> None:
    async def body(*_: Any) -> AsyncIterator[RunEvent]:
        yield OutputDelta(0, "text", text)
        yield RunFinished()

    request = asked(generation=Generation(response_format=ResponseFormat(form) if form else None))
    last = (await run(body, request))[-1]
    assert isinstance(last, RunFinished)
    assert last.result is not None
    assert last.json == last.result.output.json == parsed
    assert last.result.output.text == text


async def test_timing_counts_from_the_start_and_the_first_output_where_somebody_watches() -> None:
    async def body(*_: Any) -> AsyncIterator[RunEvent]:
        yield Warning("not yet")
        yield OutputDelta(0, "text", "a")
        yield OutputDelta(0, "text", "b")
        yield RunFinished()

    def timing(events: list[RunEvent]) -> tuple[float, float | None]:
        last = events[-1]
        assert isinstance(last, RunFinished)
        assert last.result is not None
        assert last.timing == last.result.timing
        return last.timing.total_ms, last.timing.first_output_ms

    assert timing(await run(body)) == (2000, 1000)  # the clock was looked at at the start, the first piece, and the end
    assert timing(await run(body, replace(asked(), deltas="none"))) == (2000, None)


async def test_closing_a_run_cancels_its_strategy() -> None:
    log: list[str] = []

    async def body(*_: Any) -> AsyncIterator[RunEvent]:
        try:
            yield Warning("here")
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    events = start(body)
    await anext(events)
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined]
    assert log == ["closed"]


async def test_cancelling_whoever_waits_for_a_run_cancels_its_strategy_and_is_no_failure() -> None:
    log: list[str] = []

    async def body(*_: Any) -> AsyncIterator[RunEvent]:
        try:
            await asyncio.Event().wait()
            yield Warning("never")
        finally:
            log.append("closed")

    told: list[str] = []

    async def read() -> None:
        async for event in start(body):
            told.append(event.type)

    reader = asyncio.ensure_future(read())
    for _ in range(5):
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert (log, told) == (["closed"], ["run.started"])
