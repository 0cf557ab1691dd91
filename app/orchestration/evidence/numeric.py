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
COVERAGE: Final = 0.95
"""How likely an interval holds what it is of, where there are numbers enough."""
_STUDENT_95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NumericConsensus:
    """`value` with the interval `low` to `high`; `outliers` are places in the values, and are not counted in the mean.

    `coverage` is how likely such an interval holds what it is of, the median of what models like these say: no interval between
    fewer than six numbers can do so 95 % of the time, and the least to the greatest of three does 75 % of the time. `agreement`
    is the share of the weight that lies within `tolerance` of the value. One model's numbers have no interval: it is as wide as
    the line.
    """

    value: float
    low: float
    high: float
    coverage: float
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
    members: Sequence[str] | None = None,
    estimator: Estimator = "median",
    tolerance: float = 0.01,
) -> NumericConsensus:
    """What `values` say together.

    Args:
        values: The answers, at least one, all finite.
        weights: How much each counts for the median and the agreement; alike where None. The interval, the outliers and the
            trimmed mean count members, each by the median of its values, for they speak of how many there are.
        members: Whose each value is; each its own where None.
        estimator: `median`, or `trimmed_mean` without the outliers.
        tolerance: Relative to the value, how near an answer agrees.

    Raises:
        ValueError: there are no values, or one is not finite.
    """
    if not values or not all(math.isfinite(value) for value in values):
        raise ValueError("a numeric consensus needs at least one value, and finite ones")
    weighed = _shares(weights, len(values))
    own = _by_member(values, members)
    outliers = outlying(values, among=own)
    if estimator == "median":
        value = weighted_median(values, weighed)
        low, high, coverage = _median_interval(sorted(own))
    else:
        apart = set(outlying(own))
        value, low, high, coverage = _trimmed(sorted(one for place, one in enumerate(own) if place not in apart))
    reach = tolerance * max(abs(value), 1e-12)
    agreement = sum(share for share, one in zip(weighed, values, strict=True) if abs(one - value) <= reach)
    return NumericConsensus(value, min(low, value), max(high, value), coverage, _deviation(values), agreement, outliers)


def settled(consensus: NumericConsensus, epsilon: float) -> bool:
    """Whether the interval is within `epsilon` of the value, relative to it. About 0 it has to be 0 itself."""
    return consensus.half_width <= epsilon * abs(consensus.value)


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


def outlying(values: Sequence[float], *, among: Sequence[float] | None = None) -> tuple[int, ...]:
    """The places of the values whose modified z-score is beyond `OUTLIER`, by the middle and the spread of `among` (of the
    values where None); none among fewer than three."""
    known = values if among is None else among
    if len(known) < 3:
        return ()
    middle = _plain_median(known)
    distances = [abs(value - middle) for value in known]
    scale = _plain_median(distances) / _MAD_TO_SIGMA or sum(distances) / len(distances) / _MEAN_DEVIATION_TO_SIGMA
    return tuple(place for place, value in enumerate(values) if scale and abs(value - middle) / scale > OUTLIER)


def _by_member(values: Sequence[float], members: Sequence[str] | None) -> list[float]:
    """One number a member: the median of its own."""
    if members is None:
        return list(values)
    own: dict[str, list[float]] = {}
    for member, value in zip(members, values, strict=True):
        own.setdefault(member, []).append(value)
    return [_plain_median(said) for said in own.values()]


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


def _median_interval(ordered: Sequence[float]) -> tuple[float, float, float]:
    """The two order statistics that hold the median at least 95 % of the time, by the binomial distribution, and how often they
    do; of fewer than six the least and the greatest, which hold it less often."""
    count = len(ordered)
    if count == 1:
        return -math.inf, math.inf, 1.0
    outside, rank = 0.5**count, 1
    while (more := outside + math.comb(count, rank) * 0.5**count) <= (1 - COVERAGE) / 2:
        outside, rank = more, rank + 1
    return ordered[rank - 1], ordered[count - rank], 1 - 2 * outside


def _trimmed(ordered: Sequence[float]) -> tuple[float, float, float, float]:
    """The trimmed mean with its interval by Tukey and McLaughlin (1963), from the winsorised variance, and how often that holds
    it: of fewer than four as much as Student's table says where errors are normal."""
    count = len(ordered)
    if count == 1:
        return ordered[0], -math.inf, math.inf, 1.0
    cut = int(TRIM * count)
    inner = ordered[cut : count - cut]
    mean = math.fsum(value / len(inner) for value in inner)
    pulled = [min(max(value, inner[0]), inner[-1]) for value in ordered]
    freedom = len(inner) - 1
    student = _STUDENT_95[freedom - 1] if freedom <= len(_STUDENT_95) else 1.96 + 2.5 / freedom
    reach = student * _deviation(pulled) / ((1 - 2 * cut / count) * math.sqrt(count))
    return mean, mean - reach, mean + reach, COVERAGE
