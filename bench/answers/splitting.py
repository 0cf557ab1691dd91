"""One split of a set, through `quorum eval` and `quorum train` over HTTP.

ask      the half set aside, with feedback
train    on it
choose   a cascade's cheap models, on the same half
report   the other half, with everything that was learned
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import yaml

from app.cli.eval import storing
from app.cli.eval.parts import Split
from app.orchestration.evidence.extraction import NumberAnswer, extract
from app.orchestration.evidence.numbers import number
from app.orchestration.learning.choosing import choose_cascade
from app.orchestration.learning.observations import Answer, Observation
from bench.answers.sets import (
    CASCADE,
    CONFIDENT,
    DECIDED,
    LEVELS,
    MAJORITY,
    MOST_REACHED,
    MOST_SECONDS,
    PANEL,
    AnswerSet,
    configuration,
    waiting,
)

ROOT = Path(__file__).parents[2]
SHARE = 0.5
TOLD = "split.json"
LONGEST_S = 1_800
STEPS = 3


class SplitFailed(Exception):
    """A command of a split did not succeed; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class SplitRun:
    """A split of `one` by `seed`, kept in `directory`."""

    one: AnswerSet
    file: Path
    seed: int
    directory: Path

    @property
    def results(self) -> Path:
        """Where `quorum eval` keeps it."""
        return self.directory / "eval"

    @property
    def told(self) -> dict[str, Any] | None:
        """What came of training and choosing; None while the split is not done."""
        path = self.directory / TOLD
        return orjson.loads(path.read_bytes()) if path.exists() else None

    @property
    def reported(self) -> tuple[str, ...]:
        """The ids of the questions that are reported."""
        split = Split(SHARE, self.seed)
        return tuple(row["id"] for row in rows(self.file) if not split.trains(row["id"]))

    def run(self, done: Callable[[], object] = lambda: None) -> None:
        """All of it, unless that was done before.

        Parameters:
            done: called after each of `STEPS` steps.

        Raises:
            SplitFailed: a command did not succeed.
        """
        if self.told is not None:
            for _ in range(STEPS):
                done()
            return
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._configure(())
        self._eval("train", PANEL, more=("--feedback",))
        done()
        trained = orjson.loads(self._quorum("train", "--json", "--config", self._config, "--data-dir", self._data))
        done()
        cheap = self._cheap()
        self._configure(cheap)
        waits = [waiting(level) for level in LEVELS] if self.one.waits else []
        if waits:
            self._eval("train", *waits)
        self._eval("report", PANEL, MAJORITY, DECIDED, CONFIDENT, *waits, *([CASCADE] if cheap else []))
        told = {"seed": self.seed, "trained": trained, "cheap": cheap, "wait": self._wait() if waits else None}
        shutil.rmtree(self._data, ignore_errors=True)
        storing.write(self.directory / TOLD, told)
        done()

    @property
    def _config(self) -> Path:
        return self.directory / "quorum.yaml"

    @property
    def _data(self) -> Path:
        return self.directory / "state"

    def _configure(self, cheap: Sequence[str]) -> None:
        self._config.write_text(yaml.safe_dump(configuration(self.one, self.file, cheap), sort_keys=False))

    def _eval(self, part: str, *recipes: str, more: Sequence[str] = ()) -> None:
        asked = [option for recipe in recipes for option in ("-r", recipe)]
        split = ("--split", str(SHARE), "--seed", str(self.seed), "--part", part, "--concurrency", str(self.one.concurrency))
        where = ("--config", self._config, "--data-dir", self._data, "--out", self.results, "--resume")
        self._quorum("eval", self.file, *asked, *split, *where, *more)

    def _quorum(self, *arguments: str | Path) -> bytes:
        command = [sys.executable, "-m", "bench.command", *map(str, arguments)]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QUORUM_", "PROMETHEUS_"))}
        ran = subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, timeout=LONGEST_S)
        if ran.returncode:
            said = "\n".join(ran.stderr.decode(errors="replace").splitlines()[-15:])
            raise SplitFailed(f"{self.one.name}, seed {self.seed}: quorum {arguments[0]} ended with {ran.returncode}:\n{said}")
        return ran.stdout

    def _cheap(self) -> tuple[str, ...]:
        """The two cheap models whose cascade did best on the questions set aside."""
        if self.one.strong is None:
            return ()
        split = Split(SHARE, self.seed)
        seen = [observed(row) for row in rows(self.file) if split.trains(row["id"])]
        for share in MOST_REACHED:
            found = choose_cascade(seen, cheap=self.one.cheap, strong=(self.one.strong,), most_reached=share)
            if found is not None:
                return found.cheap
        raise SplitFailed(f"{self.one.name}, seed {self.seed}: no two cheap models agree often enough")

    def _wait(self) -> str:
        """The recipe that was right most often on the questions set aside, of those that took no longer than `MOST_SECONDS`."""
        stored, split = storing.read(self.results), Split(SHARE, self.seed)
        tried: dict[str, list[tuple[float, float]]] = {}
        for result in stored.results:
            if result.latency_ms is not None and split.trains(result.question):
                tried.setdefault(result.contestant, []).append((result.score, result.latency_ms / 1000))
        means = {name: tuple(sum(side) / len(found) for side in zip(*found, strict=True)) for name, found in tried.items()}
        waits = [waiting(level) for level in LEVELS]
        within = [name for name in waits if means[name][1] <= MOST_SECONDS] or [min(waits, key=lambda name: means[name][1])]
        return max(within, key=lambda name: means[name][0])


@cache
def rows(file: Path) -> list[Mapping[str, Any]]:
    """A recording."""
    with file.open("rb") as lines:
        return [orjson.loads(line) for line in lines]


def observed(row: Mapping[str, Any]) -> Observation:
    """A recorded question with numbers for answers, as `quorum eval` reads and grades it."""
    gold = number(row["gold"])
    answers = {model: Answer(extract(given["text"], NumberAnswer()).label) for model, given in row["answers"].items()}
    return Observation(answers, frozenset({gold.label} if gold else ()))
