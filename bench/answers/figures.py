"""The figures of all splits of a set together, from what `quorum eval --report` makes of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.orchestration.evidence.measures import Interval, mean_interval
from bench.answers.sets import MAJORITY, PANEL, AnswerSet
from bench.answers.splitting import ROOT, SplitRun, rows

REPORT = "report.json"


@dataclass(frozen=True, slots=True)
class SetFigures:
    """`across` has what `quorum eval` says of each recipe over the splits, by name, compared with the majority; `over_panel`
    the same compared with the panel that asks everybody."""

    one: AnswerSet
    splits: int
    questions: float
    across: Mapping[str, Mapping[str, Any]]
    over_panel: Mapping[str, Mapping[str, Any]]
    cascades: Mapping[str, int]
    waiting: Waiting | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """Seconds and accuracy, over the splits: of the level `chosen` on the part set aside, of the `first_two` that agree, and of
    the single `members`; `levels` says how often each was chosen."""

    chosen: tuple[Interval, Interval]
    first_two: tuple[Interval, Interval]
    members: Mapping[str, tuple[Interval, Interval]]
    levels: Mapping[str, int]


def figures(runs: Sequence[SplitRun], directory: Path) -> SetFigures:
    """Of all `runs` of one set, which are done. Reports go to `directory`."""
    across = _reported(runs, directory / "on-majority", MAJORITY)
    over_panel = _reported(runs, directory / "on-panel", PANEL)
    told = [run.told or {} for run in runs]
    questions = sum(len(run.reported) for run in runs) / len(runs)
    cascades = _counted([", ".join(one["cheap"]) for one in told if one["cheap"]])
    waited = _waiting(runs, told) if runs[0].one.waits else None
    return SetFigures(runs[0].one, len(runs), questions, across, over_panel, cascades, waited)


def _reported(runs: Sequence[SplitRun], out: Path, baseline: str) -> dict[str, Mapping[str, Any]]:
    asked = [option for run in runs for option in ("--report", str(run.results))]
    command = [sys.executable, "-m", "bench.command", "eval", *asked, "--baseline", baseline, "--out", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (found,) = orjson.loads((out / REPORT).read_bytes())["sets"]
    return {one["name"]: one for one in found["across"]}


def _waiting(runs: Sequence[SplitRun], told: Sequence[Mapping[str, Any]]) -> Waiting:
    recorded = {row["id"]: row["answers"] for row in rows(runs[0].file)}
    chosen: list[tuple[float, float]] = []
    first: list[tuple[float, float]] = []
    members: dict[str, list[tuple[float, float]]] = {}
    for run, of_split in zip(runs, told, strict=True):
        (found,) = orjson.loads((run.results / REPORT).read_bytes())["sets"]
        own = next(one for one in found["report"]["contestants"] if one["name"] == of_split["wait"])
        chosen.append((own["times"]["mean"], own["accuracy"]["value"]))
        new = [recorded[name] for name in run.reported]
        first.append(_mean([first_two(answers) for answers in new]))
        for model in new[0]:
            alone = [(answers[model]["latency_s"], float(answers[model]["correct"])) for answers in new]
            members.setdefault(model, []).append(_mean(alone))
    single = {model: _over(found) for model, found in members.items()}
    return Waiting(_over(chosen), _over(first), single, _counted([one["wait"] for one in told]))


def first_two(answers: Mapping[str, Mapping[str, Any]]) -> tuple[float, float]:
    """When the first two answers that say the same have come, and whether that is right; the last one where none do."""
    seen: set[str] = set()
    ordered = sorted(answers.values(), key=lambda given: given["latency_s"])
    for given in ordered:
        if given["answer"] in seen:
            return given["latency_s"], float(given["correct"])
        if given["answer"] is not None:
            seen.add(given["answer"])
    return ordered[-1]["latency_s"], float(ordered[-1]["correct"])


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(one for one, _ in pairs) / len(pairs), sum(other for _, other in pairs) / len(pairs)


def _over(pairs: Sequence[tuple[float, float]]) -> tuple[Interval, Interval]:
    return mean_interval([one for one, _ in pairs]), mean_interval([other for _, other in pairs])


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in dict.fromkeys(names)}
