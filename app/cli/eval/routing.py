"""How well those who choose between two models choose: which share of the gap between the weak and the strong one they recover,
for which share of calls to the strong one. Pure.

Ong et al., "RouteLLM: Learning to Route LLMs with Preference Data" (2024, https://arxiv.org/abs/2406.18665), section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from app.cli.eval.results import Contestant, Result
from app.orchestration.evidence.measures import Interval, area, mean_interval, recovery

SHOWN: Final = 100
"""Steps of a curve that are kept."""

Scores = Mapping[str, float]
"""By question."""


@dataclass(frozen=True, slots=True)
class RoutePoint:
    """A contestant that chose: the `share` of questions for which it asked the strong model, its accuracy, and the share of the
    gap that it `recovered`: 0 is the weak model, 1 the strong one."""

    name: str
    share: float
    accuracy: float
    recovered: float


@dataclass(frozen=True, slots=True)
class CurvePoint:
    share: float
    recovered: float


@dataclass(frozen=True, slots=True)
class Routing:
    """The choice between two models over the reported questions. The `curve` gives questions to the strong model in the order
    of what `ranked_by` expected it to gain; `apgr` is the area under it, 0.5 by chance. `chosen_on` is the part that told
    which of the two is the strong one."""

    weak: str
    strong: str
    chosen_on: Literal["train", "report"]
    questions: int
    weak_accuracy: float
    strong_accuracy: float
    ranked_by: str
    apgr: float
    curve: tuple[CurvePoint, ...]
    points: tuple[RoutePoint, ...]


@dataclass(frozen=True, slots=True)
class RoutingOverSplits:
    """The same over several splits: the means, and of `apgr` the normal interval over the splits."""

    weak: str
    strong: str
    splits: int
    apgr: Interval
    points: tuple[RoutePoint, ...]


def routing(
    contestants: Sequence[Contestant],
    by_contestant: Mapping[str, Sequence[Result]],
    train: set[str],
    alone: Mapping[str, Scores],
) -> tuple[Routing, ...]:
    """For each two models that contestants chose between, saying what they expected of each. Two that are equally good, or
    whose own answers are not known, are left out.

    Parameters:
        train: the questions set aside.
        alone: by model, how good its own answers were.
    """
    pairs: dict[frozenset[str], list[Contestant]] = {}
    for one in contestants:
        pair = frozenset(model for result in by_contestant[one.name] for model, _ in result.prospects)
        if len(pair) == 2 and pair <= alone.keys():
            pairs.setdefault(pair, []).append(one)
    found = [_between(pair, chosen, by_contestant, train, alone) for pair, chosen in pairs.items()]
    return tuple(one for one in found if one is not None)


def _between(
    pair: frozenset[str],
    chosen: Sequence[Contestant],
    by_contestant: Mapping[str, Sequence[Result]],
    train: set[str],
    alone: Mapping[str, Scores],
) -> Routing | None:
    one, other = sorted(pair)
    both = alone[one].keys() & alone[other].keys()
    aside = both & train
    weak, strong = sorted((one, other), key=lambda model: sum(alone[model][question] for question in aside or both))
    ranked_by = chosen[0].name
    expected = {result.question: dict(result.prospects) for result in by_contestant[ranked_by]}
    questions = sorted(question for question in both - train if len(expected.get(question, ())) == len(pair))
    right = {model: [alone[model][question] for question in questions] for model in (weak, strong)}
    if sum(right[strong]) <= sum(right[weak]):
        return None
    gains = [expected[question][strong] - expected[question][weak] for question in questions]
    curve = recovery(gains, right[strong], right[weak])
    low, high = (sum(right[model]) / len(questions) for model in (weak, strong))
    points = [_point(one.name, by_contestant[one.name], set(questions), strong, (low, high)) for one in chosen]
    return Routing(
        weak,
        strong,
        "train" if aside else "report",
        len(questions),
        low,
        high,
        ranked_by,
        area(curve),
        _thinned(curve),
        tuple(point for point in points if point is not None),
    )


def _point(
    name: str, results: Sequence[Result], questions: set[str], strong: str, ends: tuple[float, float]
) -> RoutePoint | None:
    """None where it was not asked all `questions`."""
    told = [one for one in results if one.question in questions]
    if len(told) < len(questions):
        return None
    share = sum(any(member.model == strong for member in one.members) for one in told) / len(told)
    accuracy = sum(one.score for one in told) / len(told)
    return RoutePoint(name, share, accuracy, (accuracy - ends[0]) / (ends[1] - ends[0]))


def _thinned(curve: Sequence[tuple[float, float]]) -> tuple[CurvePoint, ...]:
    """The curve where it enters each hundredth, and its end."""
    kept = [curve[0], *(now for before, now in pairwise(curve) if int(now[0] * SHOWN) > int(before[0] * SHOWN))]
    return tuple(CurvePoint(share, recovered) for share, recovered in kept)


def routing_over_splits(found: Sequence[Sequence[Routing]]) -> tuple[RoutingOverSplits, ...]:
    """What the splits say together of each weak and strong model.

    Parameters:
        found: of each split.
    """
    by_pair: dict[tuple[str, str], list[Routing]] = {}
    for of_split in found:
        for one in of_split:
            by_pair.setdefault((one.weak, one.strong), []).append(one)
    return tuple(
        RoutingOverSplits(weak, strong, len(of_pair), mean_interval([one.apgr for one in of_pair]), _mean_points(of_pair))
        for (weak, strong), of_pair in by_pair.items()
    )


def _mean_points(found: Sequence[Routing]) -> tuple[RoutePoint, ...]:
    by_name: dict[str, list[RoutePoint]] = {}
    for one in found:
        for point in one.points:
            by_name.setdefault(point.name, []).append(point)
    return tuple(
        RoutePoint(
            name,
            sum(point.share for point in points) / len(points),
            sum(point.accuracy for point in points) / len(points),
            sum(point.recovered for point in points) / len(points),
        )
        for name, points in by_name.items()
    )
