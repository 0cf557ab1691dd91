"""Routing on recorded answers, through `quorum eval` and `quorum train` over HTTP, over seeded splits.

    python -m bench.routing --set routellm_mmlu --answers ../answers --splits 20 --out eval/routing

One split: each model is asked the half set aside, with feedback; `quorum train` learns of it; the other half is reported. The
recipes that route are `adaptive` over the models. Of two, there is one for each of `STEPS`: it asks the strong model where that
is expected to gain more than so many times what it gained on the half set aside. Of more, it asks whom it expects to be best.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import yaml

ROOT = Path(__file__).parents[1]
SHARE = 0.5
CONCURRENCY = 16
STEPS = (0.6, 1.0, 1.4)
PRICES = {"gpt-4-1106-preview": 24.7, "mistralai/Mixtral-8x7B-Instruct-v0.1": 0.24}
"""Dollars a million tokens, by Ong et al., "RouteLLM" (2024), section 4."""
DOUBLING = 0.1
"""What a doubling of the cost takes off under a weight of 1, as `adaptive` weighs it."""
LONGEST_S = 1_800


class RoutingError(Exception):
    """A command did not succeed; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class RoutedSet:
    """A set: the file, how the provider `replay` reads it (`fields`) and `quorum eval` grades it, and what of it is said of a
    question (`category`, a member of its rows)."""

    file: str
    models: tuple[str, ...]
    fields: Mapping[str, str] = field(default_factory=dict[str, str])
    grade: str = "score"
    category: str | None = None


_PAIR = ("mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
_NINE = (
    "qwen2.5-7b-instruct",
    "llama3-chatqa-1.5-8b",
    "llama-3.1-nemotron-51b-instruct",
    "llama3-chatqa-1.5-70b",
    "gemma-2-9b-it",
    "mistral-7b-instruct-v0.3",
    "llama-3.1-8b-instruct",
    "codegemma-7b",
    "llama-3.3-nemotron-super-49b-v1",
)
SETS = {
    "mmlu": RoutedSet("routellm_mmlu.jsonl", _PAIR, {"answers": "correct"}),
    "mmlu-subjects": RoutedSet("routellm_mmlu.jsonl", _PAIR, {"answers": "correct"}, category="subject"),
    "gsm8k": RoutedSet("routellm_gsm8k.jsonl", _PAIR, {"text": "correct"}),
    "gsm8k-texts": RoutedSet("routellm_gsm8k.jsonl", _PAIR, grade="number"),
    "nine": RoutedSet("routerdc_nine_models.jsonl", _NINE, {"answers": "scores"}),
}


@dataclass(frozen=True, slots=True)
class Split:
    """One split of `of`, kept in `directory`."""

    of: RoutedSet
    answers: Path
    seed: int
    directory: Path

    @property
    def results(self) -> Path:
        """Where `quorum eval` keeps it."""
        return self.directory / "eval"

    def run(self) -> None:
        """All of it, unless it was done before.

        Raises:
            RoutingError: a command did not succeed.
        """
        done = self.directory / "done"
        if done.exists():
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        self._configure({})
        self._eval("train", self.of.models, "--feedback")
        quorum("train", "--config", self._config, "--data-dir", self._state)
        recipes = self._recipes()
        self._configure(recipes)
        self._eval("report", (*recipes, *self.of.models))
        done.touch()

    @property
    def _config(self) -> Path:
        return self.directory / "quorum.yaml"

    @property
    def _state(self) -> Path:
        return self.directory / "state"

    def _configure(self, recipes: Mapping[str, Any]) -> None:
        file = str((self.answers / self.of.file).resolve())
        options = {"file": file, "latency": "none", **({"fields": dict(self.of.fields)} if self.of.fields else {})}
        price = {name: {"price": {"input": PRICES[name], "output": PRICES[name]}} for name in self.of.models if name in PRICES}
        spec = {
            "providers": {"recorded": {"kind": "replay", "options": options}},
            "models": {name: {"provider": "recorded", "model": name, **price.get(name, {})} for name in self.of.models},
            "learning": {"observe": "all", "keep_runs": 100_000, "train": {"enabled": False}},
            "recipes": dict(recipes),
        }
        self._config.write_text(yaml.safe_dump(spec, sort_keys=False))

    def _recipes(self) -> dict[str, Any]:
        """Those that route, by what was seen of the half set aside."""

        def adaptive(cost: float) -> dict[str, Any]:
            options = {"strategies": ["direct"], "explore": 0, "weights": {"quality": 1, "cost": round(cost, 4)}}
            return {"strategy": "adaptive", "models": list(self.of.models), "options": options}

        if len(self.of.models) > 2:
            return {"routed": adaptive(0.0)}
        weak, strong = _PAIR
        seen = orjson.loads((self.results / "report.json").read_bytes())["sets"][0]["report"]["set_aside"]
        right = {one["model"]: one["accuracy"]["value"] for one in seen}
        dearer = DOUBLING * math.log2(PRICES[strong] / PRICES[weak])
        return {f"gain-{step:g}": adaptive(step * (right[strong] - right[weak]) / dearer) for step in STEPS}

    def _eval(self, part: str, asked: Sequence[str], *more: str) -> None:
        named = [option for one in asked for option in ("-r", one)]
        split = ("--split", str(SHARE), "--seed", str(self.seed), "--part", part)
        where = ("--config", self._config, "--data-dir", self._state, "--out", self.results, "--resume")
        graded = ("--grade", self.of.grade, *(("--field", f"category={self.of.category}") if self.of.category else ()))
        file = self.answers / self.of.file
        quorum("eval", file, *named, *split, *where, *graded, "--concurrency", str(CONCURRENCY), *more)


def quorum(*arguments: str | Path) -> str:
    """What the command said on standard output.

    Raises:
        RoutingError: it did not succeed.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QUORUM_", "PROMETHEUS_"))}
    command = [sys.executable, "-m", "bench.command", *map(str, arguments)]
    ran = subprocess.run(command, cwd=ROOT, env=inherited, capture_output=True, timeout=LONGEST_S)
    if ran.returncode:
        said = "\n".join(ran.stderr.decode(errors="replace").splitlines()[-15:])
        raise RoutingError(f"quorum {arguments[0]} ended with {ran.returncode}:\n{said}")
    return ran.stdout.decode()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the splits that are not there yet, and report on all of them together."""
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description="Routing on recorded answers.")
    parser.add_argument("--set", required=True, choices=SETS)
    parser.add_argument("--answers", required=True, type=Path, help="the directory of the recordings")
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("eval/routing"))
    given = parser.parse_args(arguments)
    out = (given.out / given.set).resolve()
    splits = [Split(SETS[given.set], given.answers.resolve(), seed, out / str(seed)) for seed in range(given.splits)]
    try:
        for split in splits:
            split.run()
            print(f"{given.set}: seed {split.seed} is done", file=sys.stderr)
        stored = [option for split in splits for option in ("--report", split.results)]
        print(quorum("eval", *stored, "--out", out))
    except RoutingError as error:
        print(f"python -m bench.routing: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
