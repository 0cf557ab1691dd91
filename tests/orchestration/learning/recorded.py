"""Recorded answers of several models with gold labels, read from the directory `shared/answers` beside the repository."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.orchestration.evidence.extraction import AnswerKind, Choices, NumberAnswer, extract
from app.orchestration.evidence.numbers import number
from app.orchestration.learning.observations import Answer, Observation
from app.orchestration.learning.text_fit import Scored

DIRECTORY = Path(__file__).resolve().parents[3].parent / "shared" / "answers"


def rows(name: str) -> list[dict[str, Any]]:
    """The questions of a set; skips the test where the recordings are not there."""
    path = DIRECTORY / f"{name}.jsonl"
    if not path.exists():
        pytest.skip(f"no recorded answers: {path} is not there")
    with path.open() as lines:
        return [json.loads(line) for line in lines]


def kind_of(name: str) -> AnswerKind:
    """What the questions of a set ask for, where its answers are texts."""
    return Choices(("yes", "no")) if "yesno" in name else NumberAnswer()


@cache
def observations(name: str) -> list[Observation]:
    """A set as the fits take it. Labels are read from the raw texts, where there are any, and judged by the gold answer."""
    found: list[Observation] = []
    for row in rows(name):
        answers = {model: _answer(given, kind_of(name)) for model, given in row["answers"].items()}
        numeric = name.startswith("gsm8k") or name.endswith("numbers")
        gold = number(row["gold"]).label if numeric else row["gold"]
        found.append(Observation(answers, frozenset({gold}), category=row.get("category")))
    return found


def _answer(given: Any, kind: AnswerKind) -> Answer:
    if not isinstance(given, dict):
        return Answer(given)
    return Answer(extract(given["text"], kind).label, (), given.get("latency_s"), given.get("cost_usd"))


def scored(name: str) -> list[Scored]:
    """The prompts of a set, and how well each model answered them."""
    found: list[Scored] = []
    for row in rows(name):
        told = row.get("scores") or row.get("correct")
        scores = told or {model: given["correct"] for model, given in row["answers"].items()}
        found.append(Scored(row["question"], {model: float(score) for model, score in scores.items()}))
    return found
