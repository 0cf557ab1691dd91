"""How figures are put, in the terminal and on the page. Pure."""

from __future__ import annotations

import math

from app.cli.asking.words import cost
from app.cli.eval.figures import Lift, Times
from app.orchestration.evidence.measures import Calibration, Interval

NONE = "–"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{value * 100:.1f} %"


def interval(found: Interval) -> str:
    """A share with its interval: `83.2 % [81.0, 85.2]`."""
    return f"{found.value * 100:.1f} %{_around(found)}"


def points(found: Interval | None) -> str:
    """A difference in percentage points with its interval: `+1.3 [+0.2, +2.4]`."""
    return NONE if found is None else f"{found.value * 100:+.2f}{_around(found, signed=True)}"


def _around(found: Interval, *, signed: bool = False) -> str:
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return ""
    low, high = found.low * 100, found.high * 100
    return f" [{low:+.2f}, {high:+.2f}]" if signed else f" [{low:.1f}, {high:.1f}]"


def area(found: Interval) -> str:
    """An area under a curve with its interval: `0.662 [0.655, 0.669]`."""
    known = math.isfinite(found.low) and math.isfinite(found.high)
    return f"{found.value:.3f}{f' [{found.low:.3f}, {found.high:.3f}]' if known else ''}"


def lift(found: Lift | None) -> str:
    return NONE if found is None else f"{points(found.difference)} on {found.over}"


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def times(found: Times | None) -> str:
    return NONE if found is None else f"{seconds(found.p50)} / {seconds(found.p95)}"


def dollars(value: float | None) -> str:
    return NONE if value is None else cost(value)


def calibrated(found: Calibration | None) -> str:
    """The expected calibration error, and what of it is not chance, in points."""
    return NONE if found is None else f"{found.ece * 100:.1f} ({found.excess * 100:+.1f})"
