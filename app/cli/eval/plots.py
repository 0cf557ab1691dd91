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

from app.cli.eval.routing import CurvePoint, RoutePoint
from app.orchestration.evidence.measures import Bin, Interval, Point

WIDTH: Final = 640
_ROW: Final = 26
_LEFT: Final = 210
_RIGHT: Final = 70
_FRAME: Final = 66
_FOOT: Final = 44
_HEIGHT: Final = 320
_NAME_CHARACTERS: Final = 30
_CHARACTER: Final = 6.2
"""The width of a character of a point's name, about."""
_LINE: Final = 13
_TICKS: Final = 6
_STEPS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Between the ticks of shares; the last makes five of the whole. Where there is more than the whole, ticks are whole ones."""


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
    scale = _shares(low, high, _LEFT, WIDTH - _RIGHT)
    height = _ROW * len(bars) + 40
    parts = [_grid_x(scale, height - 30)]
    for row, one in enumerate(bars):
        y, kind = 16 + row * _ROW, "s" if one.strong else "m"
        from_, to = scale.at(max(0.0, one.value.low)), scale.at(min(1.0, one.value.high))
        parts.append(_text(_LEFT - 10, y + 4, _short(one.name), "end", title=one.name))
        parts.append(f'<line class="{kind}" x1="{from_:.1f}" x2="{to:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="{kind}" cx="{scale.at(one.value.value):.1f}" cy="{y}" r="4.5"/>')
        parts.append(_text(WIDTH - _RIGHT + 8, y + 4, percent(one.value.value), "start"))
    return _svg("Accuracy with its 95 % interval", height, parts)


def reliability(name: str, bins: Sequence[Bin]) -> str:
    """How often answers are right against how sure they were, with the diagonal where both are one."""
    x = _shares(0.0, 1.0, _FRAME, _HEIGHT - 20)
    y = _shares(0.0, 1.0, _HEIGHT - _FOOT, 10)
    parts = [_axes(x, y, "stated confidence", "right")]
    parts.append(_line([(0.0, 0.0), (1.0, 1.0)], x, y, "d"))
    parts.append(_line([(one.confidence, one.accuracy) for one in bins], x, y, "s"))
    for one in bins:
        told = f"{one.count} answers, {percent(one.confidence)} sure, {percent(one.accuracy)} right"
        parts.append(_dot(x.at(one.confidence), y.at(one.accuracy), told, strong=True))
    return _svg(f"Reliability diagram of {name}: accuracy by stated confidence", _HEIGHT, parts, width=_HEIGHT)


def frontier(points: Sequence[tuple[Point, bool]], best: Sequence[Point], unit: str) -> str:
    """Accuracy against what a question costs, on a logarithmic scale where costs differ tenfold; a line through the `best`.

    Parameters:
        points: everybody, and whether each is a contestant.
        best: those whom nobody beats in both.
    """
    costs, qualities = [one.cost for one, _ in points], [one.quality for one, _ in points]
    x = _costs(min(costs), max(costs), _FRAME, WIDTH - 20)
    y = _shares(min(qualities), max(qualities), _HEIGHT - _FOOT, 14)
    parts = [_axes(x, y, unit, "accuracy"), _line([(one.cost, one.quality) for one in best], x, y, "s")]
    labels = _Labels()
    for one, strong in sorted(points, key=lambda found: (-found[0].quality, found[0].cost)):
        told = f"{one.name}: {_amount(one.cost)} {unit}, {percent(one.quality)}"
        parts.append(_dot(x.at(one.cost), y.at(one.quality), told, strong=strong))
        parts.append(labels.beside(x.at(one.cost), y.at(one.quality), _short(one.name)))
    return _svg(f"Accuracy against {unit}", _HEIGHT, parts)


def recovery(weak: str, strong: str, curve: Sequence[CurvePoint], points: Sequence[RoutePoint]) -> str:
    """The share of the gap that is recovered by the share of strong calls, with the diagonal of chance."""
    reached = [one.recovered for one in (*curve, *points)]
    x = _shares(0.0, 1.0, _FRAME, WIDTH - 20)
    y = _shares(min(reached), max(reached), _HEIGHT - _FOOT, 14)
    parts = [_axes(x, y, f"questions for {_short(strong)}", "of the gap")]
    parts.append(_line([(0.0, 0.0), (1.0, 1.0)], x, y, "d"))
    parts.append(_line([(one.share, one.recovered) for one in curve], x, y, "s"))
    labels = _Labels()
    for one in points:
        told = f"{one.name}: {percent(one.share)} strong calls, {percent(one.recovered)} of the gap"
        parts.append(_dot(x.at(one.share), y.at(one.recovered), told, strong=True))
        parts.append(labels.beside(x.at(one.share), y.at(one.recovered), _short(one.name)))
    return _svg(f"Share of the gap from {weak} to {strong} by the share of strong calls", _HEIGHT, parts)


def percent(value: float) -> str:
    return f"{value * 100:.1f} %"


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to places between `start` and `end`; `ticks` are the values that are written, as `told`."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    told: Callable[[float], str]
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = (math.log10(one) if self.log else one for one in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


def _shares(low: float, high: float, start: float, end: float) -> _Scale:
    """A scale of shares that holds both, at least 4 points wide, with ticks at round ones."""
    spread = max(high - low, 0.04)
    step = next((one for one in _STEPS if spread / one <= _TICKS), float(math.ceil(spread / _TICKS)))
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    high = max(high, low + step)
    ticks = tuple(low + step * place for place in range(round((high - low) / step) + 1))
    return _Scale(low, high, start, end, ticks, lambda share: f"{share * 100:g} %" if step < 0.01 else f"{share * 100:.0f} %")


def _costs(low: float, high: float, start: float, end: float) -> _Scale:
    """A scale of costs that holds both: from 0, or logarithmic where they differ tenfold."""
    if low > 0 and high / low >= 10:
        low, high = low / 1.4, high * 1.4
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        rounds = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return _Scale(low, high, start, end, tuple(one for one in rounds if low <= one <= high), _amount, log=True)
    size = 10.0 ** math.floor(math.log10(high))
    step = next(size * one for one in (0.1, 0.2, 0.5, 1, 2) if high / (size * one) <= _TICKS)
    ticks = tuple(step * place for place in range(math.ceil(high / step) + 1))
    return _Scale(0.0, ticks[-1], start, end, ticks, _amount)


class _Labels:
    """Writes names beside points, each where it hides none of those before."""

    def __init__(self) -> None:
        self._taken: list[tuple[float, float, float]] = []

    def beside(self, x: float, y: float, text: str) -> str:
        width = len(text) * _CHARACTER
        left = x - 8 - width if x + 8 + width > WIDTH else x + 8
        heights = (y + 4 + turn * _LINE * sign for turn in range(8) for sign in (1, -1))
        free = next((height for height in heights if self._free(left, width, height)), y + 4)
        self._taken.append((left, width, free))
        return _text(left, free, text, "start", small=True)

    def _free(self, left: float, width: float, y: float) -> bool:
        return all(
            abs(y - other) >= _LINE or left >= start + size or start >= left + width for start, size, other in self._taken
        )


def _amount(value: float) -> str:
    return f"{value:.3g}"


def _short(name: str) -> str:
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def _dot(x: float, y: float, told: str, *, strong: bool) -> str:
    kind = "s" if strong else "m"
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(told)}</title></circle>'


def _text(x: float, y: float, text: str, anchor: str, *, small: bool = False, title: str = "") -> str:
    kind = ' class="n"' if small else ""
    told = f"<title>{escape(title)}</title>" if title else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{told}{escape(text)}</text>'


def _grid_x(scale: _Scale, bottom: float) -> str:
    parts: list[str] = []
    for tick in scale.ticks:
        x = scale.at(tick)
        parts.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.1f}"/>')
        parts.append(_text(x, bottom + 18, scale.told(tick), "middle"))
    return "".join(parts)


def _axes(x: _Scale, y: _Scale, name_x: str, name_y: str) -> str:
    parts = [_grid_x(x, y.start)]
    for tick in y.ticks:
        at = y.at(tick)
        parts.append(f'<line class="g" x1="{x.start:.1f}" x2="{x.end:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(_text(x.start - 6, at + 4, y.told(tick), "end"))
    parts.append(_text((x.start + x.end) / 2, _HEIGHT - 6, name_x, "middle"))
    parts.append(f'<text transform="rotate(-90)" x="{-(y.start + y.end) / 2:.1f}" y="12" text-anchor="middle">{name_y}</text>')
    return "".join(parts)


def _line(points: Sequence[tuple[float, float]], x: _Scale, y: _Scale, kind: str) -> str:
    path = " ".join(f"{x.at(one):.1f},{y.at(other):.1f}" for one, other in points)
    return f'<polyline class="{kind}" points="{path}"/>'


def _svg(title: str, height: float, parts: Sequence[str], *, width: float = WIDTH) -> str:
    head = f'<svg viewBox="0 0 {width} {height:.0f}" width="{width}" role="img" aria-label="{escape(title)}">'
    return f"{head}<title>{escape(title)}</title>{''.join(parts)}</svg>"
