"""A run's result and its events are the same thing told twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given

from app.core.errors import ErrorReport
from app.core.run_events import (
    CandidateFinished,
    CandidateScored,
    CandidateStarted,
    Ending,
    OutputDelta,
    OutputReset,
    RunEvent,
    RunFailed,
    RunFinished,
    RunRestarted,
    RunStarted,
    ToolCallHead,
    Warning,
)
from app.core.run_fold import RunFold, parse_json, total_cost, unfold
from app.core.runs import Candidate, HelperCall, OrchestrationOutput
from app.core.usage import Usage
from tests.core.made import results


def fold(events: Iterable[RunEvent]) -> OrchestrationOutput:
    made = RunFold("run_1")
    for event in events:
        made.add(replace(event, result=None) if isinstance(event, (RunFinished, RunFailed)) else event)
    return made.result()


def done(number: int) -> Candidate:
    return Candidate(f"c{number}", "m", "p", status="succeeded", text=str(number))


@given(results())
def test_folding_what_was_unfolded_gives_the_result(result: OrchestrationOutput) -> None:
    assert fold(unfold(result)) == result


@given(results())
def test_a_result_ends_in_exactly_one_end_that_carries_it_if_it_is_over(result: OrchestrationOutput) -> None:
    *before, last = unfold(result)
    assert not any(isinstance(event, (RunFinished, RunFailed)) for event in before)
    if result.status in ("running", "needs_approval"):
        assert not isinstance(last, (RunFinished, RunFailed))
    else:
        assert isinstance(last, RunFailed if result.error else RunFinished)
        assert last.result is result


def test_an_answer_that_starts_over_leaves_nothing_of_what_was_said_before() -> None:
    said = [OutputDelta(0, "text", "wrong"), OutputDelta(0, "tool_call", "{}", ToolCallHead(0, "1", "t"))]
    output = fold([*said, OutputReset("the lead failed"), OutputDelta(0, "text", "right"), RunFinished()]).output
    assert (output.text, output.tool_calls) == ("right", ())


def test_the_choices_that_count_are_those_that_the_end_names() -> None:
    said = [OutputDelta(index, "text", f"answer {index}") for index in (0, 1, 2)]
    result = fold([*said, RunFinished(endings=(Ending(1), Ending(2, "length")))])
    assert result.output.text == "answer 1"
    assert [choice.finish_reason for choice in result.output.choices] == ["stop", "length"]


def test_a_restarted_run_keeps_the_candidates_that_had_finished() -> None:
    before = [RunStarted("s"), CandidateFinished(done(1)), CandidateStarted("c2", "m", "p"), OutputDelta(0, "text", "x")]
    result = fold([*before, Warning("old"), RunRestarted(2), CandidateFinished(done(3))])
    assert [candidate.id for candidate in result.candidates] == ["c1", "c3"]
    assert (result.output.text, result.warnings, result.strategy) == ("", (), "s")


def test_a_candidate_that_was_at_work_when_its_run_ended_is_cancelled() -> None:
    begun = [CandidateStarted("c1", "m", "p"), CandidateFinished(done(2))]
    assert [c.status for c in fold(begun).candidates] == ["running", "succeeded"]
    ended = fold([*begun, RunFailed(ErrorReport("DeadlineExceeded", "deadline_exceeded", "late"))])
    assert [c.status for c in ended.candidates] == ["cancelled", "succeeded"]


def test_a_score_that_comes_later_is_the_candidates() -> None:
    assert fold([CandidateFinished(done(1)), CandidateScored("c1", 0.5)]).candidates[0].score == 0.5


def test_a_cost_is_unknown_as_soon_as_one_paid_call_has_no_price() -> None:
    def call(tokens: int, cost: float | None) -> HelperCall:
        return HelperCall("judge", "m", "p", "succeeded", Usage(tokens), cost)

    assert total_cost([call(5, 0.1), call(0, None)]) == 0.1
    assert total_cost([call(5, 0.1), call(5, None)]) is None
    assert total_cost([]) == 0


def test_text_that_is_no_json_is_none() -> None:
    assert parse_json('{"a": [1]}') == {"a": [1]}
    assert parse_json("so: {") is None
    assert parse_json("[" * 100_000) is None
    assert parse_json("9" * 10_000) is None
