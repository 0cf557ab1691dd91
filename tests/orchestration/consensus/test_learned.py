"""consensus: what was learned of the members says how sure an outcome is, whatever decides who wins."""

from __future__ import annotations

import pytest

from app.core.runs import Consensus
from app.orchestration.evidence.weights import PanelWeights
from tests.orchestration.consensus.paneled import saying
from tests.orchestration.known import asked, engine
from tests.orchestration.lessons import Learned

YES_NO = {"type": "choice", "choices": ["yes", "no"]}
ABLE = PanelWeights({"a": 3.0, "b": 0.2, "c": 0.2}, reliability={"a": 0.95, "b": 0.55, "c": 0.55}, learned=True)


async def outcome(*said: str, lessons: Learned, **options: object) -> Consensus:
    models = saying(*said)
    request = asked("consensus", tuple(model.name for model in models), options={"extract": YES_NO, **options})
    run = engine(*models).begin(request)
    run.context.lessons = lessons
    *_, last = [event async for event in run.events()]
    return last.result.consensus  # type: ignore[attr-defined]


@pytest.mark.parametrize("weights", ["uniform", {"b": 2.0}])
async def test_a_majority_of_those_who_are_seldom_right_wins_and_is_not_called_sure(weights: object) -> None:
    found = await outcome("yes", "no", "no", lessons=Learned(panel=ABLE), weights=weights)
    assert found.winner == "no"
    assert found.confidence < 0.2
    assert found.dissent[0]["probability"] > 0.8
    agreed = await outcome("yes", "yes", "yes", lessons=Learned(panel=ABLE), weights=weights)
    learned = await outcome("yes", "yes", "yes", lessons=Learned(panel=ABLE))
    assert agreed.confidence == learned.confidence


async def test_before_anything_was_learned_the_vote_is_taken_at_its_word() -> None:
    found = await outcome("yes", "no", "no", lessons=Learned(), weights="uniform")
    assert (found.winner, found.confidence > 0.5) == ("no", True)
