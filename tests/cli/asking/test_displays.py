"""What a run looks like on a terminal of 80 columns, and in pipes."""

import io
import json
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from app.cli.asking import lanes
from app.cli.asking.displays import Json, Plain, Screen
from app.cli.asking.words import cost, seconds
from app.core.approvals import Approval
from app.core.errors import ErrorReport
from app.core.run_events import (
    AnalysisFinished,
    ApprovalDecided,
    ApprovalRequested,
    CandidateDelta,
    CandidateFailed,
    CandidateFinished,
    CandidateStarted,
    OutputDelta,
    OutputReset,
    PlanMade,
    RunFailed,
    RunFinished,
    ToolReturned,
    Warning,
)
from app.core.runs import Analysis, Candidate, OrchestrationOutput, Output, PlanDecision, Timing
from app.core.tool_runs import ToolRun
from app.core.usage import Usage

SAD = ErrorReport("ProviderError", "overloaded", "provider 'v' (two): try later")
ONE = Candidate("c1", "one", "v", status="succeeded", text="Tea is\ngood.", cost_usd=0.00012, latency_ms=1234)
TWO = Candidate("c2", "two", "v", status="failed", error=SAD, latency_ms=300)
RESULT = OrchestrationOutput(
    "run_1",
    "succeeded",
    "simple",
    Output(text="Tea \x1b[31mis\nfine.", source_model="one", is_synthesized=True, finish_reason="stop"),
    candidates=(ONE, TWO),
    usage=Usage(1000, 234),
    cost_usd=0.0123,
    timing=Timing(2100.0),
)
BEGINNING = [
    PlanMade(PlanDecision("simple", ("one", "two"), "one")),
    CandidateStarted("c1", "one", "v"),
    CandidateStarted("c2", "two", "v"),
    CandidateDelta("c1", "one", 0, "text", "Tea is\ngood."),
    CandidateFailed(TWO),
    CandidateFinished(ONE),
]


def shown(events, width=80):
    """What stays on the screen: rich draws no live part where there is no terminal."""
    console = Console(file=io.StringIO(), force_terminal=False, color_system=None, width=width, highlight=False)
    with Screen(console, clock=lambda: 10.0) as display:
        for event in events:
            display.show(event)
    return console.file.getvalue().splitlines()


def test_a_run_leaves_a_row_a_model_the_analysis_the_answer_and_a_line_with_what_it_took():
    ending = [OutputDelta(0, "text", "Tea \x1b[31m"), OutputDelta(0, "text", "is\nfine."), RunFinished(result=RESULT)]
    lines = shown([*BEGINNING, AnalysisFinished(Analysis("comparative", "one", "They\x07 differ.")), *ending])

    assert [line.rstrip(" ─") for line in lines] == [
        "✓ one  1.2 s  $0.000120  Tea is good.",
        "✗ two  0.3 s             overloaded: provider 'v' (two): try later",
        "comparative analysis by one",
        "They\\x07 differ.",
        "answer",
        "Tea \\x1b[31mis",
        "fine.",
        "",
        "one, made of 1 answer · $0.0123 · 2.1 s · 1,234 tokens",
    ]


def test_of_a_single_model_there_is_the_answer_and_the_summary_alone():
    lines = shown([BEGINNING[1], OutputDelta(0, "text", "Tea is good."), CandidateFinished(ONE), RunFinished(result=RESULT)])

    assert lines[:2] == ["Tea is good.", ""]
    assert len(lines) == 3


def test_an_answer_that_starts_over_says_so_once():
    failed = "the synthesis by 'one' failed (overloaded)"
    again = [OutputDelta(0, "text", "Te"), Warning(f"{failed}; 'two' is asked"), OutputReset(failed)]
    lines = shown([*BEGINNING, *again, OutputDelta(0, "text", "Tea."), RunFinished(result=RESULT)])

    start = next(number for number, line in enumerate(lines) if line.startswith("answer"))
    assert lines[start + 1 : start + 4] == ["Te", f"! {failed}; 'two' is asked", "! the answer starts over"]
    assert lines[start + 5] == "Tea."


def test_a_failed_run_says_why_each_model_failed():
    error = ErrorReport("AllCandidatesFailed", "all_candidates_failed", "long", causes=(SAD,))
    result = OrchestrationOutput("run_1", "failed", "simple", candidates=(ONE, TWO), error=error)
    lines = shown([*BEGINNING, RunFailed(error, result=result)])

    assert lines[1].rstrip() == "✗ two  0.3 s             overloaded: provider 'v' (two): try later"
    assert lines[-1] == "✗ the run failed: too few models answered: 1 of 2"


def test_of_a_model_with_tools_there_are_its_calls_before_the_answer():
    called = ToolRun("t1", 1, "calculator", '{"expression": "17 * 23"}', status="succeeded", result=391)
    failed = replace(called, name="order\x07", status="failed", result=None, error=ErrorReport("E", "e", "no shop"))
    steps = [ToolReturned(called), ToolReturned(failed), CandidateStarted("c2", "one", "v", layer=2)]
    answer = [OutputDelta(0, "text", "391."), RunFinished(result=RESULT)]
    plan = PlanMade(PlanDecision("tools", ("one",)))
    lines = shown([plan, BEGINNING[1], OutputDelta(0, "text", "I see."), OutputReset("tools", aside=True), *steps, *answer])
    assert lines[:3] == [
        "I see.",
        '→ calculator {"expression": "17 * 23"}: 391',
        '→ order\\x07 {"expression": "17 * 23"}: no shop',
    ]
    assert "391." in lines
    assert not any("layer" in line for line in lines)


def test_what_waits_for_a_person_is_said_with_how_to_decide_it():
    asked = Approval("apr_1", "run_1", "t1", 1, "order", "1.0.0", "write", "00", {"title": "Emma\x07"})
    decided = replace(asked, status="denied", by="ann", comment="too dear")
    events = [BEGINNING[1], ApprovalRequested(asked), ApprovalDecided(decided)]
    said = [
        'order@1.0.0 {"title":"Emma\\u0007"} needs a person: decide it with POST /v1/approvals/apr_1',
        'order@1.0.0 {"title":"Emma\\u0007"}: denied by ann: too dear',
    ]
    assert shown(events, 120)[:2] == [f"? {line}" for line in said]
    err = io.StringIO()
    for event in events:
        Plain(io.StringIO(), err).show(event)
    assert err.getvalue().splitlines() == said


def test_a_new_layer_begins_below_the_one_before():
    lines = shown([*BEGINNING, CandidateStarted("c3", "one", "v", layer=2)])
    assert lines[2] == "layer 2: the models have read each other's answers"


@pytest.mark.parametrize(("height", "count"), [(24, 6), (24, 1), (24, 12), (24, 40), (10, 6), (50, 6)])
@pytest.mark.parametrize("width", [80, 40, 132])
def test_running_lanes_fit_the_screen(width, height, count):
    console = Console(file=io.StringIO(), force_terminal=False, color_system=None, width=width, height=height)
    text = "Tides move the food of birds, 世界 and so the birds. " * 20
    running = [lanes.Lane(f"vendor/a-model-with-a-long-name-{n}", "cyan", 1, 0.0, text) for n in range(count)]

    console.print(lanes.running(running, console, 3.2, height - 3))

    lines = console.file.getvalue().splitlines()
    assert len(lines) <= height - 3
    assert all(cell_len(line) <= width for line in lines)
    assert "vendor/a-mod" in lines[0]
    assert "3.2 s" in lines[0]
    if count == 6 and height == 24:
        assert len(lines) == 18
        assert lines[2].rstrip().endswith("and so the birds.")


def test_a_lane_shows_reasoning_until_the_answer_begins():
    lane = lanes.Lane("one", "cyan", 1, 0.0)
    lane.add(CandidateDelta("c1", "one", 0, "reasoning", "Hm."))
    assert (lane.tail, lane.thinking) == ("Hm.", True)
    lane.add(CandidateDelta("c1", "one", 0, "text", "Tea."))
    assert (lane.tail, lane.thinking) == ("Tea.", False)


def piped(kind, events):
    out, err = io.StringIO(), io.StringIO()
    with kind(out, err) as display:
        for event in events:
            display.show(event)
    return out.getvalue(), err.getvalue()


def test_plain_is_the_final_answer_alone_and_the_rest_on_stderr():
    out, err = piped(Plain, [*BEGINNING, OutputDelta(0, "text", "given up"), RunFinished(result=RESULT)])

    assert out == "Tea \\x1b[31mis\nfine.\n"
    assert err.splitlines() == [
        "two: overloaded: provider 'v' (two): try later",
        "one: answered in 1.2 s, $0.000120",
        "one, made of 1 answer · $0.0123 · 2.1 s · 1,234 tokens",
    ]


def test_json_is_the_result_on_one_line():
    out, _ = piped(Json, [*BEGINNING, RunFinished(result=RESULT)])

    assert out.count("\n") == 1
    assert json.loads(out)["output"]["text"] == "Tea \x1b[31mis\nfine."
    assert json.loads(out)["candidates"][1]["error"]["code"] == "overloaded"


def test_json_of_a_run_that_failed_without_a_result_is_its_error():
    out, err = piped(Json, [RunFailed(SAD)])
    assert json.loads(out)["error"]["message"] == SAD.message
    assert err == f"quorum: the run failed: {SAD.message}\n"


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(None, "cost unknown"), (0, "$0.00"), (0.000045, "$0.000045"), (0.0312, "$0.0312"), (1234.5, "$1,234.50")],
)
def test_costs_have_the_places_that_say_something(dollars, text):
    assert cost(dollars) == text


def test_long_times_are_in_minutes():
    assert (seconds(1234), seconds(99_949), seconds(150_000)) == ("1.2 s", "99.9 s", "2.5 min")
