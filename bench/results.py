"""What a benchmark found: the figures of every round, and what they say against the budgets."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

from bench.scenes import SCENES, Measure, Scene

_PACKAGES = ("fastapi", "uvicorn", "uvloop", "httpx", "aiohttp", "pydantic")


def machine() -> str:
    """The machine and the versions, in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{_processor()}, {os.cpu_count()} cores, {system}, {python}, {packages}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@dataclass(slots=True)
class Results:
    """`rounds[scene][contestant]` is a list of one `Values` per round. `failed` says why a scene could not run."""

    seconds: float
    machine: str = field(default_factory=machine)
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d"))
    rounds: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, scene: str, contestant: str, values: dict[str, float]) -> None:
        self.rounds.setdefault(scene, {}).setdefault(contestant, []).append(values)


@dataclass(frozen=True, slots=True)
class Row:
    """One figure as a reader sees it. Texts are medians with the lowest and highest round in brackets."""

    scene: str
    unit: str
    quorum: str
    floor: str
    ratio: str
    before: str
    budget: str
    verdict: str


def rows(results: Results) -> Iterator[Row]:
    """A row for each measure that was taken."""
    for name, contestants in results.rounds.items():
        scene = SCENES[name]
        for measure in scene.measures:
            row = _row(scene, measure, contestants)
            if row is not None:
                yield row


def missed(results: Results) -> bool:
    return any(row.verdict == "missed" for row in rows(results))


def _row(scene: Scene, measure: Measure, contestants: dict[str, list[dict[str, float]]]) -> Row | None:
    taken = {
        contestant: [values[measure.name] for values in rounds if measure.name in values]
        for contestant, rounds in contestants.items()
    }
    ours = taken.get("quorum")
    if not ours:
        return None
    ratio = _ratio(ours, taken.get("floor"))
    budget = measure.budget
    judged = ratio if budget and budget.of_floor else median(ours)
    verdict = "" if budget is None or judged is None else "met" if budget.met(judged) else "missed"
    before = _ratio(ours, taken.get("before"))
    return Row(
        scene.title,
        measure.unit,
        _shown(ours, measure),
        _shown(taken.get("floor"), measure),
        "" if ratio is None or not measure.compares else f"{ratio:.2f}",
        "" if before is None else f"{before:.3f}",
        str(budget or ""),
        verdict,
    )


def _ratio(ours: Sequence[float], others: Sequence[float] | None) -> float | None:
    """The median over the rounds of ours to the other, each to the one measured beside it."""
    if not others or not all(others):
        return None
    return median(our / other for our, other in zip(ours, others, strict=False))


def _shown(values: Sequence[float] | None, measure: Measure) -> str:
    if not values:
        return ""
    low, middle, high = (f"{value:,.{measure.digits}f}" for value in (min(values), median(values), max(values)))
    return f"{middle} ({low}-{high})" if len(values) > 1 else middle
