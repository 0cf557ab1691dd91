"""Plots as inline SVG: accuracies with their intervals, the reliability diagram, and what quality costs. Pure.

Colours come from the page's CSS, so that they are right in light and in dark. Each plot has a title for those who do not see
it, and its figures stand in a table of the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from app.orchestration.evidence.measures import Bin, Interval, Point

WIDTH: Final = 640
_ROW: Final = 26
_LEFT: Final = 210
_RIGHT: Final = 70
_FRAME: Final = 56
_HEIGHT: Final = 320
_NAME_CHARACTERS: Final = 30
_TICKS: Final = 5

Written = Callable[[float], str]
"""How the value of a tick is written."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of the plot of accuracies. `strong` ones are contestants, the others members."""

    name: str
    value: Interval
    strong: bool


def accuracies(bars: Sequence[Bar]) -> str:
    """A dot with its interval for each row, on one scale."""
    low = min(max(0.0, one.value.low) for one in bars)
    high = max(min(1.0, one.value.high) for one in bars)
    scale = _scale(low, high, _LEFT, WIDTH - _RIGHT, least=0.02)
    height = _ROW * len(bars) + 40
    parts = [_grid_x(scale, height - 30, percent)]
    for row, one in enumerate(bars):
        y, kind = 16 + row * _ROW, "s" if one.strong else "m"
        from_, to = scale.at(max(0.0, one.value.low)), scale.at(min(1.0, one.value.high))
        parts.append(_text(_LEFT - 10, y + 4, _short(one.name), "end", title=one.name))
        parts.append(f'<line class="{kind}" x1="{from_:.1f}" x2="{to:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="{kind}" cx="{scale.at(one.value.value):.1f}" cy="{y}" r="4.5"/>')
        parts.append(_text(WIDTH - _RIGHT + 8, y + 4, percent(one.value.value), "start"))
    return _svg("Accuracy with its 95 % interval", height, parts)


def reliability(bins: Sequence[Bin]) -> str:
    """How often answers are right against how sure they were, with the diagonal where both are one."""
    size = _HEIGHT
    scale_x = _Scale(0.0, 1.0, _FRAME, size - 14)
    scale_y = _Scale(0.0, 1.0, size - _FRAME + 14, 10)
    parts = [_axes(scale_x, scale_y, percent, percent, "stated confidence", "right", size)]
    parts.append(_line([(0.0, 0.0), (1.0, 1.0)], scale_x, scale_y, "d"))
    parts.append(_line([(one.confidence, one.accuracy) for one in bins], scale_x, scale_y, "s"))
    for one in bins:
        told = f"{one.count} answers, {percent(one.confidence)} sure, {percent(one.accuracy)} right"
        x, y = scale_x.at(one.confidence), scale_y.at(one.accuracy)
        parts.append(f'<circle class="s" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{told}</title></circle>')
    return _svg("Reliability diagram: accuracy by stated confidence", size, parts, width=size)


def frontier(points: Sequence[tuple[Point, bool]], best: Sequence[Point], unit: str) -> str:
    """Accuracy against what a question costs, on a logarithmic scale where costs differ tenfold; a line through the `best`.

    Parameters:
        points: everybody, and whether each is a contestant.
        best: those whom nobody beats in both.
    """
    costs = [one.cost for one, _ in points]
    log = min(costs) > 0 and max(costs) / min(costs) >= 10
    shown = math.log10 if log else float
    scale_x = _scale(shown(min(costs)), shown(max(costs)), _FRAME, WIDTH - 20, margin=0.08)
    qualities = [one.quality for one, _ in points]
    scale_y = _scale(min(qualities), max(qualities), _HEIGHT - _FRAME + 14, 14, least=0.02, margin=0.1)
    parts = [_axes(scale_x, scale_y, lambda x: _amount(10**x if log else x), percent, unit, "accuracy", _HEIGHT)]
    parts.append(_line([(shown(one.cost), one.quality) for one in best], scale_x, scale_y, "s"))
    for one, strong in points:
        x, y = scale_x.at(shown(one.cost)), scale_y.at(one.quality)
        told = escape(f"{one.name}: {_amount(one.cost)} {unit}, {percent(one.quality)}")
        parts.append(
            f'<circle class="{"s" if strong else "m"}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{told}</title></circle>'
        )
        anchor, step = ("end", -8) if x > WIDTH * 0.7 else ("start", 8)
        parts.append(_text(x + step, y - 6, _short(one.name), anchor, small=True))
    return _svg(f"Accuracy against {unit}", _HEIGHT, parts)


def percent(value: float) -> str:
    return f"{value * 100:.1f} %"


@dataclass(frozen=True, slots=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * step / (_TICKS - 1) for step in range(_TICKS)]


def _scale(low: float, high: float, start: float, end: float, *, least: float = 0.0, margin: float = 0.05) -> _Scale:
    """A scale that holds both, with a margin, at least `least` wide."""
    spread = max(high - low, least) or abs(high) or 1.0
    middle = (low + high) / 2
    return _Scale(middle - spread * (0.5 + margin), middle + spread * (0.5 + margin), start, end)


def _amount(value: float) -> str:
    return f"{value:.3g}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def _text(x: float, y: float, text: str, anchor: str, *, small: bool = False, title: str = "") -> str:
    kind = ' class="n"' if small else ""
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{told}{escape(text)}</text>'


def _grid_x(scale: _Scale, bottom: float, told: Written) -> str:
    parts: list[str] = []
    for tick in scale.ticks():
        x = scale.at(tick)
        parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>')
        parts.append(_text(x, bottom + 18, told(tick), "middle"))
    return "".join(parts)


def _axes(x: _Scale, y: _Scale, told_x: Written, told_y: Written, name_x: str, name_y: str, height: float) -> str:
    parts = [_grid_x(x, y.start, told_x)]
    for tick in y.ticks():
        at = y.at(tick)
        parts.append(f'<line class="g" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(x.start - 6, at + 4, told_y(tick), "end"))
    parts.append(_text((x.start + x.end) / 2, height - 6, name_x, "middle"))
    parts.append(f'<text transform="rotate(-90)" x="{-(y.start + y.end) / 2:.1f}" y="10" text-anchor="middle">{name_y}</text>')
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], x: _Scale, y: _Scale, kind: str) -> str:
    path = " ".join(f"{x.at(one):.1f},{y.at(other):.1f}" for one, other in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def _svg(title: str, height: float, parts: Sequence[str], *, width: float = WIDTH) -> str:
    head = f'<svg viewBox="0 0 {width} {height:.0f}" width="{width}" role="img" aria-label="{escape(title)}">'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"
