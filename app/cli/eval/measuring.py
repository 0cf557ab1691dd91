"""The figures of an evaluation from its results. Pure.

A failed run counts as a wrong answer, and is told beside the accuracy. All figures are of the reported part; where there is a
part to learn from, the best single member is chosen on that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.cli.eval.figures import Category, Figures, Lift, MemberFigures, SetReport, Share, Times, Tradeoff
from app.cli.eval.parts import Split
from app.cli.eval.results import Contestant, Result
from app.cli.eval.routing import routing
from app.orchestration.evidence.measures import (
    Calibration,
    Interval,
    Point,
    calibration,
    frontier,
    mean_interval,
    proportion,
)

RIGHT: Final = 0.5
"""The score from which an answer counts as right where only right and wrong count: in calibration."""

Scores = Mapping[str, float]
"""By question."""


def set_report(
    files: Sequence[str],
    digest: str,
    contestants: Sequence[Contestant],
    results: Sequence[Result],
    split: Split,
    *,
    baseline: str | None = None,
    redraws: int = 100,
) -> SetReport:
    """The report on one data set.

    Parameters:
        results: of all contestants, one a question each.
        baseline: the contestant that all others are compared with as well.
        redraws: how often labels are redrawn, to know what of a calibration error is chance.
    """
    train = {one.question for one in results if split.trains(one.question)}
    reported = sorted({one.question for one in results} - train)
    by_contestant: dict[str, list[Result]] = {one.name: [] for one in contestants}
    for result in results:
        by_contestant[result.contestant].append(result)
    alone = _alone(contestants, results)
    base = _scores(by_contestant.get(baseline or "", []))
    figures = tuple(
        _figures(
            one,
            by_contestant[one.name],
            train,
            alone,
            (baseline, base) if baseline and baseline != one.name else None,
            redraws,
        )
        for one in contestants
        if any(result.question not in train for result in by_contestant[one.name])
    )
    members = _member_figures(alone, set(reported))
    missing = {one.name: len(reported) - one.questions for one in figures if one.questions < len(reported)}
    return SetReport(
        tuple(files),
        digest,
        split,
        len(train),
        len(reported),
        missing,
        figures,
        members,
        _member_figures(alone, train),
        _tradeoffs(figures, members),
        routing(
            contestants,
            by_contestant,
            train,
            {model: {question: one.score for question, one in own.items()} for model, own in alone.items()},
        ),
    )


@dataclass(frozen=True, slots=True)
class _Alone:
    """A model's own answer to a question."""

    score: float
    cost_usd: float | None
    latency_ms: float


def _alone(contestants: Sequence[Contestant], results: Iterable[Result]) -> dict[str, dict[str, _Alone]]:
    """Each model's own answers by question: as it was asked alone, else as the first contestant that asked it had it."""
    single = {one.name for one in contestants if one.kind == "model"}
    found: dict[str, dict[str, _Alone]] = {}
    for result in sorted(results, key=lambda one: one.contestant not in single):
        if result.contestant in single:
            own = _Alone(result.score, result.cost_usd, result.latency_ms or 0.0)
            found.setdefault(result.contestant, {})[result.question] = own
            continue
        for member in result.members:
            if member.score is not None:
                own = _Alone(member.score, member.cost_usd, member.latency_ms)
                found.setdefault(member.model, {}).setdefault(result.question, own)
    return found


def _scores(results: Iterable[Result]) -> dict[str, float]:
    return {one.question: one.score for one in results}


def _figures(
    contestant: Contestant,
    results: Sequence[Result],
    train: set[str],
    alone: Mapping[str, Mapping[str, _Alone]],
    base: tuple[str, Scores] | None,
    redraws: int,
) -> Figures:
    told = [one for one in results if one.question not in train]
    scores = _scores(told)
    answered = [one for one in told if one.error is None]
    sure = [one for one in answered if one.status != "needs_review"]
    costs = [one.cost_usd for one in told if one.cost_usd is not None]
    cost = sum(costs) if len(costs) == len([one for one in told if one.asked or one.error is None]) and told else None
    most = sum(one.most for one in told)
    calls = sum(one.asked for one in told)
    return Figures(
        name=contestant.name,
        kind=contestant.kind,
        questions=len(told),
        failed=len(told) - len(answered),
        errors=dict(Counter(one.error for one in told if one.error is not None).most_common()),
        unread=sum(one.said is None for one in answered),
        accuracy=accuracy(list(scores.values())),
        categories=_categories(told),
        lift=None if contestant.kind == "model" else _best_lift(contestant, results, scores, train, alone),
        against=None if base is None else paired(scores, base[1], base[0], None),
        cost_usd=cost,
        cost_per_question_usd=None if cost is None else cost / len(told),
        input_tokens=sum(one.input_tokens for one in told),
        output_tokens=sum(one.output_tokens for one in told),
        calls=calls,
        calls_saved=1 - calls / most if most else 0.0,
        times=_times(answered),
        calibration=_calibration(answered, redraws),
        sure=len(sure) / len(told) if told else 0.0,
        sure_accuracy=accuracy([one.score for one in sure]),
        shares=() if contestant.kind == "model" else _shares(answered),
    )


def accuracy(scores: Sequence[float]) -> Interval:
    """The mean score: of right and wrong with Wilson's interval, of scores between with the normal one."""
    if all(one in (0.0, 1.0) for one in scores):
        return proportion(int(sum(scores)), len(scores))
    return mean_interval(scores)


def paired(scores: Scores, other: Scores, name: str, chosen_on: Literal["train", "report"] | None) -> Lift | None:
    """The lift over `other` on the questions of both; None where there are none."""
    both = [question for question in scores if question in other]
    if not both:
        return None
    return Lift(name, chosen_on, mean_interval([scores[one] - other[one] for one in both]))


def _best_lift(
    contestant: Contestant,
    results: Sequence[Result],
    scores: Scores,
    train: set[str],
    alone: Mapping[str, Mapping[str, _Alone]],
) -> Lift | None:
    """The lift over the best of the members that answered every question, the training part's where there is one. Members are
    those of the recipe, also such as it never chose."""
    panel = dict.fromkeys((*contestant.models, *(model for one in results for model in one.panel)))
    whole = {model: own for model in panel if (own := alone.get(model)) is not None and all(one in own for one in scores)}
    if not whole:
        return None
    part: Literal["train", "report"] = "train" if train else "report"
    questions = [one for one in (train or scores) if all(one in own for own in whole.values())]
    if not questions:
        part, questions = "report", list(scores)
    best = max(whole, key=lambda model: sum(whole[model][one].score for one in questions))
    return paired(scores, {one: own.score for one, own in whole[best].items()}, best, part)


def _categories(results: Sequence[Result]) -> tuple[Category, ...]:
    names = sorted({one.category for one in results if one.category is not None})
    found: list[Category] = []
    for name in names:
        scores = [one.score for one in results if one.category == name]
        found.append(Category(name, len(scores), accuracy(scores)))
    return tuple(found)


def _times(answered: Sequence[Result]) -> Times | None:
    whole = sorted(one.latency_ms / 1000 for one in answered if one.latency_ms is not None)
    first = sorted(one.first_ms / 1000 for one in answered if one.first_ms is not None)
    if not whole:
        return None
    ends = (quantile(first, 0.5), quantile(first, 0.95)) if first else (None, None)
    return Times(sum(whole) / len(whole), quantile(whole, 0.5), quantile(whole, 0.95), *ends)


def quantile(ordered: Sequence[float], share: float) -> float:
    """The quantile of sorted values, between two of them in proportion (type 7 of Hyndman and Fan, 1996)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _calibration(answered: Sequence[Result], redraws: int) -> Calibration | None:
    stated = [(one.confidence, one.score >= RIGHT) for one in answered if one.confidence is not None]
    if not stated:
        return None
    return calibration([confidence for confidence, _ in stated], [right for _, right in stated], redraws=redraws)


def _shares(answered: Sequence[Result]) -> tuple[Share, ...]:
    if not answered:
        return ()
    asked = Counter(model for one in answered for model in {member.model for member in one.members})
    given = Counter(one.source for one in answered)
    models = dict.fromkeys(model for one in answered for model in (*one.panel, *(member.model for member in one.members)))
    return tuple(Share(model, asked[model] / len(answered), given[model] / len(answered)) for model in models)


def _member_figures(alone: Mapping[str, Mapping[str, _Alone]], part: set[str]) -> tuple[MemberFigures, ...]:
    """The models that answered every question of `part`, the best first."""
    found: list[MemberFigures] = []
    for model, own in alone.items():
        told = [own[one] for one in part if one in own]
        if not told or len(told) < len(part):
            continue
        costs = [one.cost_usd for one in told if one.cost_usd is not None]
        cost = sum(costs) / len(told) if len(costs) == len(told) else None
        mean_s = sum(one.latency_ms for one in told) / len(told) / 1000
        found.append(MemberFigures(model, len(told), accuracy([one.score for one in told]), cost, mean_s))
    return tuple(sorted(found, key=lambda one: -one.accuracy.value))


def _tradeoffs(figures: Sequence[Figures], members: Sequence[MemberFigures]) -> tuple[Tradeoff, ...]:
    """By dollars, by seconds and by calls, of those of whom they are known."""
    named = {one.name for one in figures}
    others = [one for one in members if one.model not in named]
    dollars = [(one.name, one.cost_per_question_usd, one.accuracy) for one in figures]
    dollars += [(one.model, one.cost_per_question_usd, one.accuracy) for one in others]
    seconds = [(one.name, one.times.mean if one.times else None, one.accuracy) for one in figures]
    seconds += [(one.model, one.mean_s, one.accuracy) for one in others]
    calls = [(one.name, one.calls / one.questions, one.accuracy) for one in figures]
    calls += [(one.model, 1.0, one.accuracy) for one in others]
    units = {"dollars a question": dollars, "seconds a question": seconds, "calls a question": calls}
    found: list[Tradeoff] = []
    for unit, placed in units.items():
        points = tuple(Point(name, cost, reached.value) for name, cost, reached in placed if cost)
        if len(points) > 1:
            found.append(Tradeoff(unit, points, frontier(points)))
    return tuple(found)
