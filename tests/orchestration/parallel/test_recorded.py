"""What `parallel` reaches on recorded answers that come as late as they came then: how many are right after how long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from app.core.messages import user
from app.core.run_events import CandidateFinished, CandidateStarted
from app.orchestration.learning.calibrator_fit import fit_vote
from app.orchestration.learning.choosing import choose_waiting, judge_waiting
from app.orchestration.learning.observations import halves
from tests.orchestration.known import asked, engine
from tests.orchestration.learning.recorded import observations, rows
from tests.orchestration.lessons import Learned
from tests.orchestration.scripted import Reply, Scripted

SET = "llmdrift_prime_yesno"
LEVELS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Taken:
    seconds: float
    right: bool


async def played(row: dict[str, Any], lessons: Learned, threshold: float) -> Taken:
    """A run over the recorded answers, which come in the order of their latencies, and how long it took by those."""
    gates = {name: asyncio.Event() for name in row["answers"]}
    order = sorted(gates, key=lambda name: row["answers"][name]["latency_s"])
    models = [Scripted(name, Reply([row["answers"][name]["text"]], hold=gate)) for name, gate in gates.items()]
    run = engine(*models).begin(
        asked("parallel", tuple(gates), options={"quality_threshold": threshold}, messages=(user(row["question"]),))
    )
    run.context.lessons = lessons
    waiting, source, begun = list(order), "", 0
    async for event in run.events():
        begun += isinstance(event, CandidateStarted)
        if waiting and (begun == len(order) if len(waiting) == len(order) else isinstance(event, CandidateFinished)):
            gates[waiting.pop(0)].set()
        result = getattr(event, "result", None)
        if result is not None:
            source = result.output.source_model
            came = [one.model for one in result.candidates if one.status == "succeeded"]
    return Taken(max(row["answers"][name]["latency_s"] for name in came), row["answers"][source]["correct"])


@pytest.mark.parametrize("splits", [2, pytest.param(20, marks=[pytest.mark.full, pytest.mark.timeout(900)])])
async def test_it_is_more_often_right_than_the_first_two_that_agree_in_less_time(splits: int) -> None:
    table, whole = rows(SET), observations(SET)
    taken: list[Taken] = []
    for seed in range(splits):
        first, second = halves(len(whole), seed)
        seen = [whole[place] for place in first]
        weights, calibrators = fit_vote(seen, seed=seed)
        threshold = choose_waiting(judge_waiting(seen, weights, calibrators, levels=LEVELS), most_seconds=5.4).sure_at
        lessons = Learned(panel=weights, calibrated=calibrators)
        taken += [await played(table[place], lessons, threshold) for place in second]
    seconds = sum(one.seconds for one in taken) / len(taken)
    accuracy = sum(one.right for one in taken) / len(taken)
    print(f"{splits} splits: {accuracy:.1%} right after {seconds:.1f} s; first two that agree: 59.5 % after 5.7 s")
    assert seconds <= 5.7
    assert accuracy > 0.595
