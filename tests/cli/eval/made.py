"""Questions, contestants and results made for a test."""

from __future__ import annotations

from typing import Any

from app.cli.eval.grading import Grading
from app.cli.eval.questions import Question
from app.cli.eval.results import Contestant, Member, Result

PANEL = Contestant("panel", "recipe", "f1", ("a", "b"))
SINGLE = Contestant("a", "model", "f2", ("a",))


def question(name: str, gold: Any = "4", *, category: str | None = None, digest: str = "d") -> Question:
    return Question(name, f"{name}?", (gold,), Grading("number"), category, {}, digest)


def result(
    name: str,
    score: float,
    *,
    of: Contestant = PANEL,
    members: dict[str, float | None] | None = None,
    **more: Any,
) -> Result:
    """A result of `of` on the question `name`; `members` are its candidates' scores."""
    told = tuple(Member(model, one, 100.0, 0.001, 10) for model, one in (members or {}).items())
    values: dict[str, Any] = {"latency_ms": 200.0, "first_ms": 100.0, "cost_usd": 0.002, "said": "x", "run_id": f"run_{name}"}
    values |= {"asked": len(told) or 1, "most": len(told) or 1, "panel": of.models, "status": "succeeded", "category": None}
    values |= {"fingerprint": of.fingerprint, "digest": "d"}
    return Result(contestant=of.name, question=name, score=score, members=told, **values | more)
