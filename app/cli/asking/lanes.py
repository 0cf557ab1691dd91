"""What each model of a run is doing, and how that looks: a lane a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from app.cli.asking import words
from app.cli.asking.escaping import escaped
from app.core.run_events import CandidateDelta
from app.core.runs import Candidate

COLOURS: Final = ("cyan", "magenta", "yellow", "green", "blue", "red")
SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAMES_PER_S: Final = 10
_TAIL_CHARS: Final = 2_000
"""How much of a running text is kept; more than any lane shows."""
_MOST_LINES: Final = 3
_NAME_CELLS: Final = 24
_EXCERPT_CHARS: Final = 500


@dataclass(slots=True)
class Lane:
    """One candidate. `candidate` is there when it has ended; `began_s` is on the monotonic clock."""

    model: str
    colour: str
    layer: int
    began_s: float
    tail: str = ""
    thinking: bool = False
    candidate: Candidate | None = None

    def add(self, delta: CandidateDelta) -> None:
        thinking = delta.kind == "reasoning"
        if thinking != self.thinking:
            self.thinking, self.tail = thinking, ""
        self.tail = (self.tail + delta.text)[-_TAIL_CHARS:]


def spinner(now_s: float) -> str:
    return SPINNER[int(now_s * FRAMES_PER_S) % len(SPINNER)]


def running(lanes: Sequence[Lane], console: Console, now_s: float, rows: int) -> RenderableType:
    """The lanes as they are, in at most `rows` rows: a header and a few lines of text each while there is room."""
    lines = min(_MOST_LINES, rows // len(lanes) - 1) if lanes else 0
    if lines >= 1:
        return Group(*(_block(lane, console, now_s, lines) for lane in lanes))
    shown, hidden = (lanes, 0) if len(lanes) <= rows else (lanes[: rows - 1], len(lanes) - rows + 1)
    more = [Text(f"and {hidden} more", style="dim")] if hidden else []
    return Group(ended(shown, now_s), *more)


def ended(lanes: Sequence[Lane], now_s: float) -> RenderableType:
    """One row a lane: its outcome, time, cost, and how its answer begins, or in full why it has none."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=True)
    table.add_column(no_wrap=True, max_width=_NAME_CELLS)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right")
    table.add_column(ratio=1)
    for lane in lanes:
        mark, style = _mark(lane, now_s)
        name = Text.assemble((mark, style), (f" {escaped(lane.model)}", f"bold {lane.colour}"), overflow="ellipsis")
        table.add_row(name, Text(_time(lane, now_s)), Text(_cost(lane)), _excerpt(lane))
    return table


def _block(lane: Lane, console: Console, now_s: float, lines: int) -> RenderableType:
    mark, style = _mark(lane, now_s)
    state = "  ".join(part for part in (_time(lane, now_s), _cost(lane)) if part)
    header = Table.grid(expand=True, padding=(0, 1, 0, 0))
    header.add_column(no_wrap=True, ratio=1)
    header.add_column(no_wrap=True, justify="right")
    name = Text.assemble(("▌", lane.colour), (f" {escaped(lane.model)}", f"bold {lane.colour}"), overflow="ellipsis")
    header.add_row(name, Text.assemble(state, " ", (mark, style)))
    return Group(header, *_last_lines(lane, console, lines))


def _last_lines(lane: Lane, console: Console, lines: int) -> list[Text]:
    """The end of the text in exactly `lines` lines, so that lanes do not jump while they fill."""
    failed = lane.candidate is not None and lane.candidate.status != "succeeded"
    said = words.reason(lane.candidate) if failed and lane.candidate else escaped(lane.tail)
    style = "red" if failed else "dim italic" if lane.thinking else ""
    wrapped = Text(" ".join(said.split()), style=style).wrap(console, max(20, console.width - 3))
    kept = list(wrapped)[-lines:] if said else [Text("waiting for its first word", style="dim")]
    for line in kept:
        line.rstrip()
    padded = [*kept, *(Text() for _ in range(lines - len(kept)))]
    return [Text.assemble(("▌ ", lane.colour), line, no_wrap=True, overflow="crop") for line in padded]


def _mark(lane: Lane, now_s: float) -> tuple[str, str]:
    status: Literal["running", "succeeded", "failed", "cancelled"] = lane.candidate.status if lane.candidate else "running"
    match status:
        case "succeeded":
            return "✓", "green"
        case "failed":
            return "✗", "red"
        case "cancelled":
            return "–", "dim"
        case "running":
            return spinner(now_s), "dim"


def _time(lane: Lane, now_s: float) -> str:
    return words.seconds(lane.candidate.latency_ms if lane.candidate else (now_s - lane.began_s) * 1000)


def _cost(lane: Lane) -> str:
    if lane.candidate is None or lane.candidate.status != "succeeded":
        return ""
    return "$ ?" if lane.candidate.cost_usd is None else words.cost(lane.candidate.cost_usd)


def _excerpt(lane: Lane) -> Text:
    candidate = lane.candidate
    if candidate is None:
        text = " ".join(escaped(lane.tail).split())
        return Text(text[-_EXCERPT_CHARS:], style="dim", no_wrap=True, overflow="ellipsis")
    if candidate.status != "succeeded":
        return Text(words.reason(candidate), style="red", overflow="fold")
    said = candidate.text or candidate.refusal or ", ".join(f"calls {call.name}" for call in candidate.tool_calls)
    return Text(" ".join(escaped(said[:_EXCERPT_CHARS]).split()), style="dim", no_wrap=True, overflow="ellipsis")
