"""How sure an outcome is: a calibrated probability with its interval, from what a vote shows. Pure.

A calibrator is a Bayesian logistic regression over four features of a decision (Platt scaling with room for panels that lack
members): see `learning.calibrator_fit`, which fits it. Before there is feedback it is its own prior: the vote's probability
taken at its word, with an interval as wide as that word is untried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.orchestration.evidence.vote import Decision

Vector = tuple[float, ...]

PRIOR_COEFFICIENTS: Final[Vector] = (0.0, 1.0, 0.0, 0.0)
PRIOR_PRECISIONS: Final[Vector] = (1.0, 10.0, 1.0, 10.0)
"""One over the variance of each coefficient: an offset of one in log-odds is no surprise, a slope of two would be."""
FLOOR: Final = 1e-3
"""A vote's probability is taken between this and one less this: a softmax far out says nothing about how far."""
SPREAD: Final = 2.0
"""How much wider than the calibrator's own covariance the uncertainty is taken: the weights beneath it were fitted from the
same answers, and that uncertainty, which its covariance does not know, is taken to be as large."""
UNEARNED: Final = 0.95
"""No outcome is called surer than this before as sure ones were judged and found right, see `learning.calibrator_fit`."""
_NORMAL_95: Final = 1.959964


@dataclass(frozen=True, slots=True)
class Confidence:
    """The probability that the outcome is right, with the 95 % interval of that probability."""

    probability: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibrator:
    """`coefficients` of `features` with their `covariance`. No probability is above `ceiling`; `rows` is how many outcomes it
    was fitted to."""

    coefficients: Vector = PRIOR_COEFFICIENTS
    covariance: tuple[Vector, ...] = tuple(
        tuple(1 / precision if row == column else 0.0 for column in range(len(PRIOR_PRECISIONS)))
        for row, precision in enumerate(PRIOR_PRECISIONS)
    )
    ceiling: float = UNEARNED
    rows: int = 0

    def confidence(self, values: Sequence[float]) -> Confidence:
        """The probability for these features, averaged over what is not known of the coefficients.

        The average uses MacKay's approximation ("The evidence framework applied to classification networks", 1992, eq. 10).
        """
        mean = sum(one * other for one, other in zip(self.coefficients, values, strict=True))
        variance = SPREAD * sum(
            values[row] * self.covariance[row][column] * values[column]
            for row in range(len(values))
            for column in range(len(values))
        )
        reach = _NORMAL_95 * math.sqrt(variance)
        probability = min(self.ceiling, sigmoid(mean / math.sqrt(1 + math.pi * variance / 8)))
        return Confidence(probability, min(probability, sigmoid(mean - reach)), max(probability, sigmoid(mean + reach)))


@dataclass(frozen=True, slots=True)
class Calibrators:
    """One for all tasks, and one for each category that has outcomes enough of its own."""

    overall: Calibrator = field(default_factory=Calibrator)
    by_category: Mapping[str, Calibrator] = field(default_factory=dict[str, Calibrator])

    def confidence(self, decision: Decision, panel: int, category: str | None = None) -> Confidence:
        """How sure `decision` is. `panel` is how many members were to answer, whether or not they did.

        Without a winner it is certain to be no answer: 0.
        """
        if decision.winner is None:
            return Confidence(0.0, 0.0, 0.0)
        chosen = self.by_category.get(category, self.overall) if category is not None else self.overall
        return chosen.confidence(features(decision.probability, len(decision.present), panel))


def features(probability: float, present: int, panel: int) -> Vector:
    """One, the log-odds of the vote's probability, the share of the panel that is missing, and the product of the last two."""
    clipped = min(max(probability, FLOOR), 1 - FLOOR)
    odds = math.log(clipped / (1 - clipped))
    missing = max(0.0, 1 - present / panel) if panel else 0.0
    return (1.0, odds, missing, missing * odds)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
