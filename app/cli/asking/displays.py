"""Three ways to show a run, by its events alone: on a terminal as it happens, as plain text, as JSON."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Final, Self, TextIO

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.rule import Rule
from rich.text import Text

from app.cli.asking import lanes, words
from app.cli.asking.escaping import escaped, escaped_json
from app.cli.asking.wrapping import WordWrap
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
    RunEvent,
    RunFailed,
    RunFinished,
    ToolReturned,
    Warning,
)
from app.core.run_json import plain
from app.core.runs import Analysis, Candidate, Deltas, OrchestrationOutput
from app.core.tool_runs import ToolRun

_TOOL_CHARACTERS: Final = 160
"""Of a call of a tool and what it said."""
_MARGIN_ROWS: Final = 3
"""Rows of the terminal that lanes leave free: for what follows them and the cursor."""


class Display(ABC):
    """Shows the events of one run, in order, between entering and leaving it."""

    deltas: ClassVar[Deltas]
    """What it wants to see of the answers as they come."""

    def __enter__(self) -> Self:
        return self

    def __exit__(  # noqa: B027 - not every display has something to put back
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was found."""

    @abstractmethod
    def show(self, event: RunEvent) -> None: ...


class Screen(Display):
    """On a terminal: a lane a model while they answer, then one row each, the analysis, the answer as it is written."""

    deltas: ClassVar[Deltas] = "all"

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lanes: dict[str, lanes.Lane] = {}
        self._told = 0
        self._lead: str | None = None
        self._steps = False
        self._phase = "asking"
        self._warning = ""
        self._answer: WordWrap | None = None
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=lanes.FRAMES_PER_S, transient=True, screen=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()
        self._pause_answer()

    def show(self, event: RunEvent) -> None:
        match event:
            case PlanMade():
                self._lead, self._steps = event.plan.lead_model, event.plan.strategy == "tools"
            case CandidateStarted():
                self._start(event)
            case CandidateDelta():
                if lane := self._lanes.get(event.candidate_id):
                    lane.add(event)
            case CandidateFinished() | CandidateFailed():
                self._end_lane(event.candidate)
            case AnalysisFinished():
                self._show_analysis(event.analysis)
            case OutputDelta():
                if event.kind in ("text", "refusal"):
                    self._show_answer(event.text)
            case ToolReturned():
                self._show_tool(event.call)
            case ApprovalRequested() | ApprovalDecided():
                self._settle()
                self._phase = "waiting for a person"
                self._say(Text(f"? {escaped(words.asked(event.approval))}", style="yellow"))
            case OutputReset(aside=True):
                self._pause_answer()
            case OutputReset():
                self._start_over(event.reason)
            case Warning():
                if self._answer is None:
                    self._settle()
                self._warning = escaped(event.message)
                self._say(Text(f"! {self._warning}", style="yellow"))
            case RunFinished() | RunFailed():
                self._end(event)
            case _:
                pass

    def _start(self, event: CandidateStarted) -> None:
        if any(lane.layer < event.layer for lane in self._lanes.values()):
            self._settle()
            if not self._steps:
                self._say(Text(f"layer {event.layer}: the models have read each other's answers", style="dim"))
        colour = lanes.COLOURS[self._told % len(lanes.COLOURS)]
        self._told += 1
        self._lanes[event.candidate_id] = lanes.Lane(event.model, colour, event.layer, self._clock())

    def _end_lane(self, candidate: Candidate) -> None:
        if lane := self._lanes.get(candidate.id):
            lane.candidate = candidate
        if all(lane.candidate for lane in self._lanes.values()):
            self._phase = f"{escaped(self._lead)} works on the answers" if self._lead else "working on the answers"

    def _settle(self) -> None:
        """Print the lanes that have ended for good, if there is more than one model to tell of."""
        over = {key: lane for key, lane in self._lanes.items() if lane.candidate}
        self._lanes = {key: lane for key, lane in self._lanes.items() if not lane.candidate}
        if over and self._told > 1:
            self._say(lanes.ended(tuple(over.values()), self._clock()))

    def _say(self, what: RenderableType) -> None:
        self._pause_answer()
        self._console.print(what)

    def _show_analysis(self, analysis: Analysis) -> None:
        self._settle()
        by = f" by {analysis.model}" if analysis.model else ""
        self._say(Rule(escaped(f"{analysis.kind.replace('_', ' ')} analysis{by}"), align="left", style="dim"))
        text = analysis.error.message if analysis.error else analysis.text
        self._say(Text(escaped(text.strip()), style="red" if analysis.error else "dim"))
        if self._lead:
            self._phase = f"{escaped(self._lead)} writes the answer"

    def _show_tool(self, call: ToolRun) -> None:
        self._settle()
        said = call.error.message if call.error else str(call.result)
        line = escaped(f"{call.name} {call.arguments}: {said}")
        self._say(Text(f"→ {line[:_TOOL_CHARACTERS]}", style="red" if call.error else "dim"))

    def _show_answer(self, text: str) -> None:
        if self._answer is None:
            self._settle()
            self._live.stop()
            if self._told > 1:
                self._say(Rule("answer", align="left", style="dim"))
            self._answer = WordWrap(self._console.width)
        self._print(self._answer.feed(escaped(text)))

    def _pause_answer(self) -> None:
        if self._answer:
            self._print(self._answer.rest() + "\n")
            self._answer = None

    def _print(self, text: str) -> None:
        self._console.print(Text(text), end="", soft_wrap=True)

    def _start_over(self, reason: str) -> None:
        why = "" if reason in self._warning else f": {escaped(reason)}"
        self._say(Text(f"! the answer starts over{why}", style="yellow"))

    def _end(self, end: RunFinished | RunFailed) -> None:
        self._live.stop()
        if self._answer:
            self._say("")
        self._settle()
        if isinstance(end, RunFailed):
            self._say(Text.assemble(("✗ ", "red"), "the run failed: ", words.headline(end)))
        elif end.result:
            self._say(Text(words.summary(end.result), style="dim"))

    def _render(self) -> RenderableType:
        now_s = self._clock()
        active = tuple(self._lanes.values())
        rows = max(3, self._console.height - _MARGIN_ROWS)
        parts = [lanes.running(active, self._console, now_s, rows)] if active else []
        if all(lane.candidate for lane in active):
            parts.append(Text(f"{lanes.spinner(now_s)} {self._phase}", style="dim"))
        return Group(*parts)


class Plain(Display):
    """For pipes and files: the answer on `out` when it is final, all else on `err`."""

    deltas: ClassVar[Deltas] = "none"

    def __init__(self, out: TextIO, err: TextIO) -> None:
        self._out = out
        self._err = err

    def show(self, event: RunEvent) -> None:
        match event:
            case CandidateFinished():
                told = event.candidate
                self._say(f"{told.model}: answered in {words.seconds(told.latency_ms)}, {words.cost(told.cost_usd)}")
            case CandidateFailed():
                self._say(f"{event.candidate.model}: {words.reason(event.candidate)}")
            case ApprovalRequested() | ApprovalDecided():
                self._say(words.asked(event.approval))
            case ToolReturned():
                self._say(f"{event.call.name}: {event.call.error.message if event.call.error else event.call.status}")
            case AnalysisFinished():
                self._say(f"{event.analysis.kind} analysis: {'failed' if event.analysis.error else 'done'}")
            case Warning():
                self._say(f"warning: {event.message}")
            case RunFailed():
                self._say(f"quorum: the run failed: {words.headline(event)}")
                self._failed(event)
            case RunFinished(result=OrchestrationOutput() as result):
                self._succeeded(result)
                self._say(words.summary(result))
            case _:
                pass

    def _succeeded(self, result: OrchestrationOutput) -> None:
        self._out.write(escaped(words.answer(result)).removesuffix("\n") + "\n")

    def _failed(self, end: RunFailed) -> None:
        """There is no answer to print."""

    def _say(self, line: str) -> None:
        self._err.write(escaped(line) + "\n")
        self._err.flush()


class Json(Plain):
    """The whole result on `out`, as the service's JSON answer has it; of a run without one, its error."""

    def _succeeded(self, result: OrchestrationOutput) -> None:
        self._write(result)

    def _failed(self, end: RunFailed) -> None:
        self._write(end.result or {"status": end.status, "error": end.error})

    def _write(self, value: object) -> None:
        shape = orjson.OPT_INDENT_2 if self._out.isatty() else 0
        self._out.write(escaped_json(orjson.dumps(value, default=plain, option=shape).decode()) + "\n")
