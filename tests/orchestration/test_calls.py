"""Calls inside a run: they tell what happens, keep what came of it, and a failure is an event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.core.chat import ChatRequest, ChatResponse
from app.core.clock import SystemClock
from app.core.errors import OrchestratorError
from app.core.messages import ToolCallPart, user
from app.core.model_events import ModelEvent, ResponseFinished, TextDelta
from app.core.models import Model, ModelProfile
from app.core.run_events import CandidateDelta, CandidateFailed, CandidateFinished, HelperFinished, OutputDelta
from app.core.runs import Deltas
from app.orchestration.base import StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.prompts import Prompts
from tests.orchestration.known import asked
from tests.orchestration.scripted import Reply, Scripted, failure


def context(model: Model, deltas: Deltas = "none") -> RunContext:
    request = asked(deltas=deltas)
    return RunContext("run_1", request, (model,), None, StrategyOptions(), SystemClock(), Prompts())


async def ask(says: Any, deltas: Deltas = "none", *, output: bool = False) -> tuple[Any, list[Any]]:
    model = says if isinstance(says, Model) else Scripted("a", says).model
    call = context(model, deltas).ask(model, output=output)
    return call, [event async for event in call.events()]


def calling(*events: ModelEvent) -> Model:
    async def call(request: ChatRequest) -> AsyncIterator[ModelEvent]:
        for event in events:
            yield event

    return Model(ModelProfile("a", "p", "a"), call)


@pytest.mark.parametrize(
    ("deltas", "output", "kinds"),
    [
        ("none", False, []),
        ("none", True, [OutputDelta]),
        ("output", False, []),
        ("output", True, [OutputDelta, OutputDelta]),
        ("all", False, [CandidateDelta, CandidateDelta]),
        ("all", True, [CandidateDelta, OutputDelta, CandidateDelta, OutputDelta]),
    ],
)
async def test_who_watches_decides_what_is_told(deltas: Deltas, output: bool, kinds: list[type[Any]]) -> None:
    call, events = await ask(Reply(["one ", "two"]), deltas, output=output)
    told = [event for event in events if isinstance(event, (CandidateDelta, OutputDelta))]
    assert [type(event) for event in told] == kinds
    assert "".join(event.text for event in told if isinstance(event, OutputDelta)) == ("one two" if output else "")
    assert call.candidate.text == "one two"
    assert call.request.incremental == (deltas == "all" or (output and deltas == "output"))


async def test_a_finished_candidate_holds_its_answer_and_what_it_took() -> None:
    tool = ToolCallPart("t1", "look", "{}")
    call, events = await ask(Reply(["x"], tool_calls=(tool,), finish_reason="tool_calls"), "all")
    (done,) = [event.candidate for event in events if isinstance(event, CandidateFinished)]
    assert done is call.candidate
    assert (done.status, done.text, done.tool_calls, done.finish_reason) == ("succeeded", "x", (tool,), "tool_calls")
    assert done.usage.total_tokens == 5
    assert done.ttft_ms is not None
    assert 0 <= done.ttft_ms <= done.latency_ms


async def test_a_failed_candidate_keeps_what_it_had_said() -> None:
    reply = failure("a")
    reply.pieces = ["half"]
    call, events = await ask(reply, "all")
    last = events[-1]
    assert isinstance(last, CandidateFailed)
    assert (last.candidate.status, last.candidate.text, last.candidate.finish_reason) == ("failed", "half", None)
    assert last.candidate.error is not None
    assert last.candidate.error.failure == "overloaded"
    assert call.error is not None
    with pytest.raises(OrchestratorError, match="'a' has given no answer"):
        call.ending()


@pytest.mark.parametrize(
    ("events", "message"),
    [
        ((), "'a' ended without an answer"),
        ((TextDelta("x"),), "'a' ended without an answer"),
        ((ResponseFinished(ChatResponse("r", "m", ())),), "provider 'p' (a): an answer without choices"),
    ],
)
async def test_an_answer_that_is_none_is_a_failure(events: tuple[ModelEvent, ...], message: str) -> None:
    call, told = await ask(calling(*events))
    assert isinstance(told[-1], CandidateFailed)
    assert call.error.message == message


async def test_a_candidate_that_is_closed_early_is_cancelled_and_its_call_closed() -> None:
    scripted = Scripted("a", Reply(["x"], hold=asyncio.Event()))
    call = context(scripted.model, "all").ask(scripted.model)
    events = call.events()
    async for event in events:
        if isinstance(event, CandidateDelta):
            break
    await events.aclose()
    assert scripted.open == 0
    assert (call.candidate.status, call.candidate.text) == ("cancelled", "x")


async def test_a_consultation_is_booked_in_its_role_whether_it_ends_well_or_not() -> None:
    for says, status in (("fine", "succeeded"), (failure("a"), "failed")):
        model = Scripted("a", says).model
        call = context(model, "all").consult("judge", model, (user("which?"),))
        (event,) = [event async for event in call.events()]
        assert isinstance(event, HelperFinished)
        assert (event.call.role, event.call.status, event.call.model) == ("judge", status, "a")
        assert (event.call.error is None) == (status == "succeeded")
        assert not call.request.incremental


async def test_candidates_of_a_run_are_numbered_and_carry_its_deadline_and_trace() -> None:
    model = Scripted("a").model
    run = context(model)
    calls = [run.ask(model) for _ in range(3)]
    assert [call.candidate.id for call in calls] == ["c1", "c2", "c3"]
    assert calls[0].request.context.run_id == "run_1"
    assert calls[0].request.context is not calls[1].request.context
