"""The consensus of numbers: a median or trimmed mean, its confidence interval, and which answers are outliers. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Estimator = Literal["median", "trimmed_mean"]
TRIM: Final = 0.2
"""The share cut off at each end: 20 % (Wilcox, "Introduction to Robust Estimation and Hypothesis Testing")."""
OUTLIER: Final = 3.5
"""The modified z-score from which a value is an outlier (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993)."""
_MAD_TO_SIGMA: Final = 0.6745
_MEAN_DEVIATION_TO_SIGMA: Final = 0.7979
_LEAST_FOR_RANKS: Final = 6
"""The fewest values whose extremes hold the median 95 % of the time: 2 * 0.5^6 = 0.03."""
_STUDENT_95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NumericConsensus:
    """`value` with the 95 % interval `low` to `high`; `outliers` are places in the values, and are not counted in the mean.

    `agreement` is the share of the weight that lies within `tolerance` of the value. One value has no interval: it is as wide
    as the line.
    """

    value: float
    low: float
    high: float
    spread: float
    agreement: float
    outliers: tuple[int, ...]

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def numeric_consensus(
    values: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    estimator: Estimator = "median",
    tolerance: float = 0.01,
) -> NumericConsensus:
    """What `values` say together.

    Args:
        values: The answers, at least one, all finite.
        weights: How much each counts for the median and the agreement; alike where None. The interval and the trimmed mean
            count
            answers, for an interval speaks of how many there are.
        estimator: `median`, or `trimmed_mean` without the outliers.
        tolerance: Relative to the value, how near an answer agrees.

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError("a numeric consensus needs at least one value, and finite ones")
    shares = _shares(weights, len(values))
    outliers = outlying(values)
    kept = [value for place, value in enumerate(values) if place not in outliers]
    if estimator == "median":
        value = weighted_median(values, shares)
        low, high = _median_interval(sorted(values))
    else:
        value, low, high = _trimmed(sorted(kept))
    reach = tolerance * max(abs(value), 1e-12)
    agreement = sum(share for share, one in zip(shares, values, strict=True) if abs(one - value) <= reach)
    return NumericConsensus(value, min(low, value), max(high, value), _deviation(values), agreement, outliers)


def settled(consensus: NumericConsensus, epsilon: float) -> bool:
    """Whether the interval is within `epsilon` of the value, relative to it (to one, below that)."""
    return consensus.half_width <= epsilon * max(1.0, abs(consensus.value))


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value with half of the weight on either side; the mean of two where the half falls between them."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    half, passed = sum(weights) / 2, 0.0
    for at, place in enumerate(order):
        passed += weights[place]
        if math.isclose(passed, half, rel_tol=1e-9) and at + 1 < len(order):
            return _middle(values[place], values[order[at + 1]])
        if passed > half:
            return values[place]
    return values[order[-1]]


def outlying(values: Sequence[float]) -> tuple[int, ...]:
    """The places of the values whose modified z-score is beyond `OUTLIER`; none among fewer than three."""
    if len(values) < 3:
        return ()
    middle = _plain_median(values)
    distances = [abs(value - middle) for value in values]
    scale = _plain_median(distances) / _MAD_TO_SIGMA or sum(distances) / len(distances) / _MEAN_DEVIATION_TO_SIGMA
    return tuple(place for place, distance in enumerate(distances) if scale and distance / scale > OUTLIER)


def _shares(weights: Sequence[float] | None, count: int) -> list[float]:
    positive = [max(0.0, weight) for weight in weights] if weights is not None else [1.0] * count
    whole = sum(positive)
    return [weight / whole for weight in positive] if whole > 0 else [1 / count] * count


def _middle(one: float, other: float) -> float:
    return one / 2 + other / 2


def _plain_median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else _middle(ordered[half - 1], ordered[half])


def _deviation(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = math.fsum(value / len(values) for value in values)
    return math.hypot(*(value - mean for value in values)) / math.sqrt(len(values) - 1)


def _median_interval(ordered: Sequence[float]) -> tuple[float, float]:
    """The two order statistics that hold the median at least 95 % of the time, by the binomial distribution."""
    count = len(ordered)
    if count == 1:
        return -math.inf, math.inf
    if count < _LEAST_FOR_RANKS:
        return ordered[0], ordered[-1]
    outside, rank = 0.0, 0
    while True:
        outside += math.comb(count, rank) * 0.5**count
        if 2 * outside > 0.05:
            break
        rank += 1
    return ordered[rank - 1], ordered[count - rank]


def _trimmed(ordered: Sequence[float]) -> tuple[float, float, float]:
    """The trimmed mean with its interval by Tukey and McLaughlin (1963), from the winsorised variance."""
    count = len(ordered)
    cut = int(TRIM * count)
    inner = ordered[cut : count - cut]
    mean = math.fsum(value / len(inner) for value in inner)
    if len(inner) < 2:
        return (mean, -math.inf, math.inf) if count == 1 else (mean, ordered[0], ordered[-1])
    pulled = [min(max(value, inner[0]), inner[-1]) for value in ordered]
    freedom = len(inner) - 1
    student = _STUDENT_95[freedom - 1] if freedom <= len(_STUDENT_95) else 1.96 + 2.5 / freedom
    reach = student * _deviation(pulled) / ((1 - 2 * cut / count) * math.sqrt(count))
    return mean, mean - reach, mean + reach
