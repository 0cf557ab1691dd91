"""What a run looks like on a terminal of 80 columns, and in pipes."""

import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

from app.cli.asking import lanes
from app.cli.asking.displays import Json, Plain, Screen
from app.cli.asking.words import cost, seconds
from app.core.errors import ErrorReport
from app.core.run_events import (
    AnalysisFinished,
    CandidateDelta,
    CandidateFailed,
    CandidateFinished,
    CandidateStarted,
    OutputDelta,
    OutputReset,
    PlanMade,
    RunFailed,
    RunFinished,
    Warning,
)
from app.core.runs import Analysis, Candidate, OrchestrationOutput, Output, PlanDecision, Timing
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


def screen(width=80, height=24):
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, height=height, highlight=False)
    return Screen(console, clock=lambda: 10.0), console


def shown(events, **size):
    """What stands in the scrollback after `events`: the live part, which is erased, left out."""
    display, console = screen(**size)
    display._live.auto_refresh = False  # the live part is drawn by a thread; here nobody looks
    display._live.start = lambda refresh=False: None
    with display:
        for event in events:
            display.show(event)
    return console.file.getvalue().splitlines()
