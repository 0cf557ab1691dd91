"""What is kept of each answer: one `Result` for a question and a contestant, read from the run's JSON and graded. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from app.cli.eval.grading import Graded, graded
from app.cli.eval.parts import Split
from app.cli.eval.questions import Question

ContestantKind = Literal["model", "recipe", "strategy"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Who is evaluated: a model, a recipe or a strategy of the service. `fingerprint` changes with what it is made of,
    `learned` with what the service has learned."""

    name: str
    kind: ContestantKind
    fingerprint: str
    models: tuple[str, ...] = ()
    learned: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One candidate of a run. `score` is None where it gave no answer because it was cancelled."""

    model: str
    score: float | None
    latency_ms: float
    cost_usd: float | None
    tokens: int


@dataclass(frozen=True, slots=True)
class Result:
    """An answer, graded; or why there is none (`error`, a code, and `reason`). Times are those that were recorded, where
    answers are replayed faster. `asked` calls were made of the `most` that asking everybody would have made. `prospects`
    are models, each with how likely its answer was expected to be good. `counted` says whether answers were counted against
    each other."""

    contestant: str
    question: str
    fingerprint: str
    digest: str
    category: str | None
    status: str
    score: float
    run_id: str | None = None
    said: str | None = None
    source: str | None = None
    confidence: float | None = None
    latency_ms: float | None = None
    first_ms: float | None = None
    cost_usd: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    asked: int = 0
    most: int = 0
    panel: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    prospects: tuple[tuple[str, float], ...] = ()
    counted: bool = False
    error: str | None = None
    reason: str | None = None
    learned: str = ""


def holds(result: Result, contestant: Contestant, split: Split) -> bool:
    """Whether a result is of the recipe as it is now, with what is in force of what was learned. What was set aside to learn
    from was answered before that, and stays."""
    learned = split.trains(result.question) or result.learned == contestant.learned
    return learned and result.fingerprint == contestant.fingerprint


def result_of(run: Mapping[str, Any], contestant: Contestant, question: Question, *, speed: float = 1.0) -> Result:
    """The result of a run that ended, from its JSON. `speed` is how many times as fast as recorded its answers came."""
    output, consensus = run["output"], _part(run, "consensus")
    candidates: list[Mapping[str, Any]] = run["candidates"]
    told = graded(output["text"] or output["refusal"], question.gold, question.grading)
    panel = _panel(run, candidates)
    first = [one["latency_ms"] for one in candidates if one["status"] == "succeeded"]
    asked = len(candidates) + len(run["calls"])
    usage = run["usage"]
    return Result(
        contestant.name,
        question.id,
        contestant.fingerprint,
        question.digest,
        question.category,
        run["status"],
        told.score,
        run["id"],
        told.said,
        output["source_model"],
        consensus.get("confidence"),
        run["timing"]["total_ms"] * speed,
        min(first) * speed if first else None,
        run["cost_usd"],
        usage["input_tokens"],
        usage["output_tokens"],
        asked,
        max(asked, len(panel) * _replicates(run)),
        panel,
        tuple(_member(one, question, speed) for one in candidates if one["layer"] == 1 and one["replicate"] == 0),
        tuple((model, told["quality"]) for model, told in _part(_part(run, "plan"), "prospects").items()),
        bool(consensus),
        learned=contestant.learned,
    )


def failed(contestant: Contestant, question: Question, error: str, reason: str, run: Mapping[str, Any] | None = None) -> Result:
    """The result of a question that got no answer; `run` is what came of its run, where there was one."""
    candidates: list[Mapping[str, Any]] = run["candidates"] if run else []
    usage: Mapping[str, int] = run["usage"] if run else {"input_tokens": 0, "output_tokens": 0}
    asked = len(candidates) + (len(run["calls"]) if run else 0)
    panel = _panel(run, candidates) if run else ()
    return Result(
        contestant.name,
        question.id,
        contestant.fingerprint,
        question.digest,
        question.category,
        "failed",
        0.0,
        run_id=run["id"] if run else None,
        cost_usd=run["cost_usd"] if run else None,
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        asked=asked,
        most=max(asked, len(panel)),
        panel=panel,
        error=error,
        reason=reason,
        learned=contestant.learned,
    )


def _panel(run: Mapping[str, Any], candidates: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """The models that the run might have asked: those of its plan, and who was asked beside them to check another's answer."""
    planned: Sequence[str] = _part(run, "plan").get("models") or ()
    return tuple(dict.fromkeys((*planned, *(one["model"] for one in candidates))))


def _replicates(run: Mapping[str, Any]) -> int:
    return _part(_part(run, "evidence"), "meta").get("k", 1)


def _part(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A member that is an object; without it, an empty one."""
    return value.get(name) or cast("Mapping[str, Any]", {})


def _member(candidate: Mapping[str, Any], question: Question, speed: float) -> Member:
    usage = candidate["usage"]
    tokens = usage["input_tokens"] + usage["output_tokens"]
    score: float | None = None
    if candidate["status"] != "cancelled":
        said = candidate["text"] or candidate["refusal"]
        told = graded(said, question.gold, question.grading) if candidate["status"] == "succeeded" else Graded(0.0, None)
        score = told.score
    return Member(candidate["model"], score, candidate["latency_ms"] * speed, candidate["cost_usd"], tokens)
