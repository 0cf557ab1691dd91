"""How good answers, probabilities and choices were: accuracy with its interval, calibration, paired lift, frontiers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from random import Random
from typing import Final

NORMAL_95: Final = 1.959964
BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with the 95 % interval around it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: how many answers, their mean confidence, and how many of them were right."""

    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """`ece` is the expected calibration error, `excess` what of it is not chance: `ece` less its mean under labels redrawn from
    the probabilities. `sure` answers had more than 0.95, and `sure_right` of them were right."""

    rows: int
    ece: float
    excess: float
    brier: float
    bins: tuple[Bin, ...]
    sure: int
    sure_right: int


@dataclass(frozen=True, slots=True)
class Point:
    """A way to answer: what it costs (calls, dollars, seconds) and how good it is."""

    name: str
    cost: float
    quality: float


def proportion(right: int, rows: int) -> Interval:
    """A share with Wilson's score interval (1927)."""
    if rows == 0:
        return Interval(0.0, 0.0, 1.0)
    share, square = right / rows, NORMAL_95**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    reach = NORMAL_95 / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return Interval(share, max(0.0, middle - reach), min(1.0, middle + reach))


def mean_interval(values: Sequence[float]) -> Interval:
    """A mean with its normal interval: for paired lifts, the differences row by row, or split by split."""
    if not values:
        return Interval(0.0, -math.inf, math.inf)
    mean = sum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, -math.inf, math.inf)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    reach = NORMAL_95 * deviation / math.sqrt(len(values))
    return Interval(mean, mean - reach, mean + reach)


def reliability_bins(probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS) -> tuple[Bin, ...]:
    """The answers in `bins` bins of equal count, the least sure first.

    Of answers with the same probability each counts as right as they are on average: where a bin's edge falls among them, the
    order in which they were asked must not decide which bin has those that were right.
    """
    order = sorted(range(len(probabilities)), key=lambda place: probabilities[place])
    shares: list[float] = []
    for _, same in groupby(order, key=lambda place: probabilities[place]):
        of = [right[place] for place in same]
        shares += [sum(of) / len(of)] * len(of)
    edges = [len(order) * edge // bins for edge in range(bins + 1)]
    result: list[Bin] = []
    for start, end in pairwise(edges):
        if count := end - start:
            mean = sum(probabilities[place] for place in order[start:end]) / count
            result.append(Bin(count, mean, sum(shares[start:end]) / count))
    return tuple(result)


def calibration_error(probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS) -> float:
    """Expected calibration error over bins of equal count: the mean distance of confidence and accuracy, by answers."""
    found = reliability_bins(probabilities, right, bins)
    rows = sum(bin_.count for bin_ in found)
    return sum(bin_.count * abs(bin_.confidence - bin_.accuracy) for bin_ in found) / rows if rows else 0.0


def calibration(probabilities: Sequence[float], right: Sequence[bool], *, redraws: int = 100, seed: int = 0) -> Calibration:
    """How far the probabilities can be believed; see `Calibration`."""
    random = Random(seed)  # noqa: S311 - repeatable, not secret
    ece = calibration_error(probabilities, right)
    ordered = sorted(probabilities)
    chance = [calibration_error(ordered, [random.random() < one for one in ordered]) for _ in range(redraws)]
    rows = len(probabilities)
    brier = sum((one - was) ** 2 for one, was in zip(probabilities, right, strict=True)) / rows if rows else 0.0
    sure = [was for one, was in zip(probabilities, right, strict=True) if one > 0.95]
    excess = ece - sum(chance) / len(chance) if chance else ece
    return Calibration(rows, ece, excess, brier, reliability_bins(probabilities, right), len(sure), sum(sure))


def recovery(gains: Sequence[float], strong: Sequence[float], weak: Sequence[float]) -> tuple[tuple[float, float], ...]:
    """What share of the gap between a weak and a strong model is recovered, by the share of calls to the strong one.

    From (0, 0) to (1, 1), straight among rows of one gain, and straight altogether where there is no gap.

    The rows of highest `gains` go to the strong model first. Source: Ong et al., "RouteLLM" (2024),
    https://arxiv.org/abs/2406.18665, section 3.

    Parameters:
        gains: what the strong model is expected to gain on each row.
        strong, weak: how good the two were there.
    """
    order = sorted(range(len(gains)), key=lambda place: -gains[place])
    gap = sum(strong) - sum(weak)
    if gap == 0:
        return (0.0, 0.0), (1.0, 1.0)
    curve, recovered = [(0.0, 0.0)], 0.0
    for count, place in enumerate(order, 1):
        recovered += strong[place] - weak[place]
        if count == len(order) or gains[order[count]] != gains[place]:
            curve.append((count / len(order), recovered / gap))
    return tuple(curve)


def area(curve: Sequence[tuple[float, float]]) -> float:
    """The area under a curve from 0 to 1."""
    return sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(curve))


def gap_recovered(gains: Sequence[float], strong: Sequence[float], weak: Sequence[float]) -> float:
    """APGR: the mean share of the gap that is recovered (`recovery`), over all shares of strong calls. 0.5 is chance."""
    return area(recovery(gains, strong, weak))


def frontier(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other beats on cost and quality at once, the cheapest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (one.cost, -one.quality)):
        if not kept or point.quality > kept[-1].quality:
            kept.append(point)
    return tuple(kept)
