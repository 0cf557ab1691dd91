"""Fits a `SuccessPredictor` with scikit-learn: one logistic regression a model, over the same features."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from statistics import fmean, pstdev
from typing import Any, Final

from app.orchestration.learning.observations import folds
from app.orchestration.learning.text_model import SCALE, SuccessPredictor, log_size, terms
from app.orchestration.learning.threads import one_thread

STRENGTHS: Final = (0.1, 0.3, 1.0)
"""scikit-learn's `C`, the inverse of the regularisation: the one with the least loss in cross-validation is taken."""
PARTS: Final = 3
LEAST_PROMPTS: Final = 2
"""A term counts that stands in as many prompts."""
MOST_NUMBERS: Final = 120_000
"""How many coefficients an artefact holds at most, and ..."""
MOST_TERMS: Final = 16_000
"""... how many terms, so that it stays under 1 MB of JSON."""
LEAST_SPREAD: Final = 0.01
"""Of the logarithm of lengths: prompts that differ by less are all of one length."""
LEAST_ROWS: Final = 40
"""A model with fewer scored prompts than that is told by its mean alone."""


@dataclass(frozen=True)
class Scored:
    """A prompt and how well each model answered it, 0 to 1. Models need not have answered all.

    Where `found` is given it stands for the text and the tags: terms, and how often each was found.
    """

    text: str
    scores: Mapping[str, float]
    tags: tuple[str, ...] = field(default=())
    found: Mapping[str, int] | None = None

    @cached_property
    def terms(self) -> Mapping[str, int]:
        return Counter(terms(self.text, self.tags)) if self.found is None else self.found


def fit_text(rows: Sequence[Scored]) -> SuccessPredictor:
    """The predictor that `rows` teach. A score between 0 and 1 counts as that much of a success."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        for model, score in row.scores.items():
            sums.setdefault(model, []).append(score)
    mean = {model: (sum(scores) + 0.5) / (len(scores) + 1) for model, scores in sums.items()}
    fitted = [model for model, scores in sums.items() if len(scores) >= LEAST_ROWS and 0 < sum(scores) < len(scores)]
    names = _vocabulary(rows, min(MOST_TERMS, MOST_NUMBERS // max(1, len(fitted))))
    if not fitted or not names:
        return SuccessPredictor(mean=mean, rows=len(rows))
    idf = _rarity(rows, names)
    size = _size(rows)
    width = len(names) + (size is not None)
    blank = SuccessPredictor(names, idf, size=size)
    features = [blank.features_of(row.terms) for row in rows]
    targets = {model: [row.scores.get(model) for row in rows] for model in fitted}
    strength = _strength(features, targets, width)
    found = {model: _regression(features, target, width, strength) for model, target in targets.items()}
    return SuccessPredictor(
        names,
        idf,
        {model: tuple(round(value * SCALE) for value in own) for model, (own, _) in found.items()},
        {model: round(intercept, 6) for model, (_, intercept) in found.items()},
        mean,
        len(rows),
        size,
    )


def _size(rows: Sequence[Scored]) -> tuple[float, float] | None:
    """The mean and the spread of the logarithm of how many terms a prompt has; None where all are of one length."""
    sizes = [log_size(row.terms) for row in rows]
    spread = pstdev(sizes)
    return (round(fmean(sizes), 6), round(spread, 6)) if spread > LEAST_SPREAD else None


def _vocabulary(rows: Sequence[Scored], most: int) -> tuple[str, ...]:
    """The terms of at least `LEAST_PROMPTS` prompts, the most frequent `most` of them, in alphabetical order."""
    prompts = Counter(term for row in rows for term in row.terms)
    common = sorted(
        (term for term, count in prompts.items() if count >= LEAST_PROMPTS), key=lambda term: (-prompts[term], term)
    )
    return tuple(sorted(common[:most]))


def _rarity(rows: Sequence[Scored], names: Sequence[str]) -> tuple[float, ...]:
    """The smoothed inverse document frequency of each term, as scikit-learn's TfidfTransformer has it."""
    numpy = import_module("numpy")
    prompts = Counter(term for row in rows for term in row.terms)
    counts = numpy.array([prompts[name] for name in names])
    return tuple(round(float(value), 4) for value in numpy.log((1 + len(rows)) / (1 + counts)) + 1)


def _strength(features: Sequence[Mapping[int, float]], targets: Mapping[str, Sequence[float | None]], width: int) -> float:
    """The strength that predicts rows best which it was not fitted to, by log loss over all models."""
    losses = dict.fromkeys(STRENGTHS, 0.0)
    for fitted, left_out in folds(len(features), PARTS):
        inner = [features[place] for place in fitted]
        for target in targets.values():
            known = [target[place] for place in fitted]
            if not 0 < sum(score or 0.0 for score in known) < sum(score is not None for score in known):
                continue
            for strength in STRENGTHS:
                coefficients, intercept = _regression(inner, known, width, strength)
                losses[strength] += sum(
                    _loss(intercept + sum(coefficients[at] * value for at, value in features[place].items()), score)
                    for place in left_out
                    if (score := target[place]) is not None
                )
    return min(STRENGTHS, key=lambda strength: losses[strength])


def _loss(score: float, target: float) -> float:
    return max(score, 0.0) + math.log1p(math.exp(-abs(score))) - target * score


def _regression(
    features: Sequence[Mapping[int, float]], scores: Sequence[float | None], width: int, strength: float
) -> tuple[list[float], float]:
    """The coefficients and the intercept. A partial score stands as a success and a failure, each with its share."""
    numpy, sparse = import_module("numpy"), import_module("scipy.sparse")
    at_row: list[int] = []
    at_column: list[int] = []
    values: list[float] = []
    target: list[int] = []
    importance: list[float] = []
    for own, score in zip(features, scores, strict=True):
        if score is None:
            continue
        for outcome, share in ((1, score), (0, 1 - score)):
            if share > 0:
                at_row += [len(target)] * len(own)
                at_column += own.keys()
                values += own.values()
                target.append(outcome)
                importance.append(share)
    matrix = sparse.csr_matrix((values, (at_row, at_column)), shape=(len(target), width))
    regression: Any = import_module("sklearn.linear_model").LogisticRegression(C=strength, max_iter=300)
    with one_thread():
        regression.fit(matrix, numpy.array(target), sample_weight=numpy.array(importance))
    return [float(value) for value in regression.coef_[0]], float(regression.intercept_[0])
