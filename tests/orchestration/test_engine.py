"""Runs from the request to the count: what is refused, what is counted, what is logged."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from app.config.spec import QuorumSpec
from app.core.chat import Generation
from app.core.errors import InvalidRequest, NotFound
from app.core.messages import user
from app.core.run_events import OutputDelta, RunFailed, RunFinished
from app.core.runs import Budget
from app.core.usage import FlatPrice
from app.orchestration.run import new_run_id
from tests.orchestration.known import asked, engine
from tests.orchestration.scripted import Reply, Scripted, failure


def count(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


class Counted:
    """How far samples have gone up since this was made."""

    def __init__(self, *samples: tuple[str, dict[str, str]]) -> None:
        self._samples = samples
        self._before = [count(name, **labels) for name, labels in samples]

    def more(self) -> list[float]:
        return [round(count(n, **labels) - was, 9) for (n, labels), was in zip(self._samples, self._before, strict=True)]


async def test_a_run_is_answered_by_the_strategy_and_models_of_its_request() -> None:
    a, b = Scripted("a"), Scripted("b")
    result = await engine(a, b).begin(asked(models=("b",), request_id="req")).result()
    assert (result.status, result.output.text, result.output.source_model) == ("succeeded", "the answer of b", "b")
    assert (len(a.asked), len(b.asked)) == (0, 1)
    assert result.request_id == "req"


async def test_a_candidates_error_is_the_error_of_a_direct_run() -> None:
    result = await engine(Scripted("a", failure("a", "rate_limited"))).begin(asked()).result()
    assert result.status == "failed"
    assert result.error is not None
    assert (result.error.failure, result.error.message) == ("rate_limited", "a is rate_limited")
    assert result.candidates[0].status == "failed"


async def test_the_events_of_a_watched_direct_run_are_the_deltas_of_its_model() -> None:
    run = engine(Scripted("a", Reply(["one ", "two"]))).begin(asked(deltas="output"))
    events = [event async for event in run.events()]
    assert [event.text for event in events if isinstance(event, OutputDelta)] == ["one ", "two"]
    types = [event.type for event in events]
    assert types == [
        "run.started", "candidate.started", "output.delta", "output.delta", "candidate.finished", "run.finished",
    ]  # fmt: skip
    last = events[-1]
    assert isinstance(last, RunFinished)
    assert last.result is not None
    assert last.result.id == run.id


async def test_unwatched_and_watched_runs_have_the_same_answer() -> None:
    whole = [
        (await engine(Scripted("a", Reply(["one ", "two"]))).begin(asked(deltas=deltas)).result()).output  # type: ignore[arg-type]
        for deltas in ("none", "output", "all")
    ]
    assert whole[0] == whole[1] == whole[2]


@pytest.mark.parametrize(
    ("request_", "error", "param"),
    [
        (asked(messages=()), InvalidRequest, "messages"),
        (asked(messages=(user("x"),) * 4), InvalidRequest, "messages"),
        (asked(generation=Generation(max_tokens=101)), InvalidRequest, "max_tokens"),
        (asked(generation=Generation(n=3)), InvalidRequest, "n"),
        (asked(strategy="magic"), NotFound, "strategy"),
        (asked(models=("z",)), NotFound, "models"),
        (asked(options={"x": 1}), InvalidRequest, "options.x"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_called(request_: Any, error: Any, param: str) -> None:
    a = Scripted("a")
    limits = {"max_messages": 3, "max_tokens": 100, "max_choices": 2}
    with pytest.raises(error) as caught:
        engine(a, limits=limits).begin(request_)
    assert caught.value.param == param
    assert a.asked == []


async def test_a_budget_of_seconds_is_a_deadline_and_the_earlier_of_two_holds() -> None:
    now = asyncio.get_running_loop().time()
    begin = engine(Scripted("a")).begin
    assert begin(asked()).request.deadline is None
    assert begin(asked(budget=Budget(seconds=5))).request.deadline == pytest.approx(now + 5, abs=1)
    assert begin(asked(budget=Budget(seconds=5), deadline=now + 2)).request.deadline == now + 2
    assert begin(asked(budget=Budget(seconds=5), deadline=now + 60)).request.deadline == pytest.approx(now + 5, abs=1)


async def test_a_run_out_of_seconds_fails_and_its_calls_are_closed() -> None:
    models = [Scripted(name, Reply(["x"], hold=asyncio.Event())) for name in "abc"]
    result = await engine(*models).begin(asked("simple", budget=Budget(seconds=0.02), deltas="all")).result()
    assert result.error is not None
    assert result.error.code == "deadline_exceeded"
    assert [candidate.status for candidate in result.candidates] == ["cancelled"] * 3
    assert not any(model.open for model in models)


async def test_settings_of_the_configuration_reach_the_model_and_a_new_configuration_the_next_run() -> None:
    a = Scripted("a")
    made = engine(a, defaults={"generation": {"temperature": 0.5}})
    begun = made.begin(asked())
    made.configure(QuorumSpec())
    await begun.result()
    await made.begin(asked()).result()
    assert [request.generation.temperature for request in a.asked] == [0.5, None]


async def test_a_run_is_counted_once_with_its_tokens_and_cost() -> None:
    priced = Scripted("priced")
    priced.model = replace(priced.model, profile=replace(priced.model.profile, price=FlatPrice(1e6, 2e6)))
    counted = Counted(
        ("quorum_runs_total", {"strategy": "direct", "status": "succeeded"}),
        ("quorum_run_seconds_count", {"strategy": "direct"}),
        ("quorum_candidates_total", {"model": "priced", "status": "succeeded"}),
        ("quorum_tokens_total", {"model": "priced", "kind": "input"}),
        ("quorum_tokens_total", {"model": "priced", "kind": "output"}),
        ("quorum_cost_usd_total", {"model": "priced"}),
    )
    await engine(priced).begin(asked()).result()
    assert counted.more() == [1, 1, 1, 3, 2, 7]


async def test_failed_and_abandoned_runs_are_counted_as_what_they_are() -> None:
    counted = Counted(
        ("quorum_runs_total", {"strategy": "direct", "status": "failed"}),
        ("quorum_runs_total", {"strategy": "direct", "status": "cancelled"}),
        ("quorum_candidates_total", {"model": "bad", "status": "failed"}),
    )
    bad, held = Scripted("bad", failure("bad")), Scripted("held", Reply(["x"], hold=asyncio.Event()))
    await engine(bad).begin(asked()).result()
    assert counted.more() == [1, 0, 1]
    async with aclosing(engine(held).begin(asked(deltas="output")).events()) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, OutputDelta):
                break
    assert counted.more() == [1, 1, 1]
    assert held.open == 0


async def test_cancelling_whoever_waits_for_a_result_cancels_the_call() -> None:
    held = Scripted("held", Reply(hold=asyncio.Event()))
    waiting = asyncio.ensure_future(engine(held).begin(asked()).result())
    while not held.open:
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert held.open == 0


@pytest.fixture
def default_logging() -> Iterator[None]:
    """Whatever level a service in this process was started with before."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("default_logging")
@pytest.mark.parametrize("says", ["the secret answer", failure("a"), Reply(["the secret answer"], hold=asyncio.Event())])
async def test_one_line_is_logged_of_a_run_and_nothing_of_what_was_said(says: Any) -> None:
    a = Scripted("a", says)
    run = engine(a).begin(asked(messages=(user("a secret question"),), deltas="output", request_id="req_1"))
    with structlog.testing.capture_logs() as logs:
        async with aclosing(run.events()) as events:  # type: ignore[type-var]
            async for event in events:
                if isinstance(event, OutputDelta) and isinstance(says, Reply) and says.hold:
                    break
    (line,) = logs
    assert (line["run_id"], line["request_id"], line["strategy"]) == (run.id, "req_1", "direct")
    assert line["event"] == ("run cancelled" if isinstance(says, Reply) and says.hold else "run ended")
    assert "secret" not in repr(logs)


async def test_a_strategy_that_need_not_be_registered_runs_and_its_fault_is_a_failed_run() -> None:
    from tests.orchestration.test_strategies import Mine

    class Broken(Mine):
        async def run(self, request: Any, context: Any) -> Any:
            raise ZeroDivisionError
            yield

    run = engine(Scripted("a")).begin_with(Broken(), asked("mine"))
    with structlog.testing.capture_logs():
        *_, last = [event async for event in run.events()]
    assert isinstance(last, RunFailed)
    assert last.error.code == "internal_error"


def test_run_ids_are_their_own() -> None:
    ids = {new_run_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(re.fullmatch(r"run_[0-9a-f]{24}", run_id) for run_id in ids)
