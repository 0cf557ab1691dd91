"""Predicts from a prompt's text how likely each model is to answer it well: TF-IDF, how long the prompt is, and a logistic
regression. Pure.

What is fitted with scikit-learn by `text_fit` is evaluated here without it; the two agree to rounding.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Final

from app.orchestration.evidence.confidence import sigmoid

READ_CHARACTERS: Final = 20_000
"""How much of a prompt is read: half from its start, half from its end."""
SCALE: Final = 1_000
"""Coefficients are whole thousandths: three digits are more than they are known to, and a third of the bytes."""
SIZE_WEIGHT: Final = 0.3
"""What a prompt's length counts for beside its terms, which together are of length 1. On recorded answers to school problems,
where the words tell little of how hard one is, it tripled what prompts tell (0.3, 0.6 and 1 did alike)."""
FARTHEST: Final = 3.0
"""Spreads from the usual length, beyond which a prompt is just long, or short."""
_WORD = re.compile(r"\w{1,40}")


@dataclass(frozen=True)
class SuccessPredictor:
    """`terms` with their inverse document frequencies; per model its coefficients, in thousandths, and its intercept.

    `size` is the mean and the spread of the logarithm of how many terms a prompt has; then there is a last coefficient for it.
    `mean` is each model's success over all that was learned from, which is what is said of a model without coefficients.
    """

    terms: tuple[str, ...] = ()
    idf: tuple[float, ...] = ()
    coefficients: Mapping[str, Sequence[int]] = field(default_factory=dict[str, Sequence[int]])
    intercepts: Mapping[str, float] = field(default_factory=dict[str, float])
    mean: Mapping[str, float] = field(default_factory=dict[str, float])
    rows: int = 0
    size: tuple[float, float] | None = None

    @cached_property
    def _places(self) -> dict[str, int]:
        return {term: place for place, term in enumerate(self.terms)}

    def features(self, text: str, tags: Sequence[str] = ()) -> dict[int, float]:
        """The weight of each known term in `text`: (1 + ln count) * idf, to unit length; and behind them that of its size."""
        return self.features_of(Counter(terms(text, tags)))

    def features_of(self, found: Mapping[str, int]) -> dict[int, float]:
        """The same from terms and how often each was found."""
        counts = {place: count for term, count in found.items() if (place := self._places.get(term)) is not None}
        weights = {place: (1 + math.log(count)) * self.idf[place] for place, count in counts.items()}
        length = math.sqrt(sum(weight**2 for weight in weights.values()))
        unit = {place: weight / length for place, weight in weights.items()} if length else {}
        if self.size is not None:
            usual, spread = self.size
            off = (log_size(found) - usual) / spread
            unit[len(self.terms)] = SIZE_WEIGHT * min(max(off, -FARTHEST), FARTHEST)
        return unit

    def success(self, text: str, tags: Sequence[str] = ()) -> dict[str, float]:
        """By model: the probability that it answers `text` well. `tags` are as when it was fitted."""
        return self._said(self.features(text, tags))

    def success_of(self, found: Mapping[str, int]) -> dict[str, float]:
        """The same from terms and how often each was found."""
        return self._said(self.features_of(found))

    def _said(self, weights: Mapping[int, float]) -> dict[str, float]:
        known = {
            model: sigmoid(self.intercepts[model] + sum(own[place] * weight for place, weight in weights.items()) / SCALE)
            for model, own in self.coefficients.items()
        }
        return {**self.mean, **known}


def log_size(found: Mapping[str, int]) -> float:
    """The logarithm of how many terms there are."""
    return math.log1p(sum(found.values()))


def terms(text: str, tags: Sequence[str] = ()) -> Iterator[str]:
    """The words of `text` in lower case, each two that follow each other, and the tags."""
    if len(text) > READ_CHARACTERS:
        text = f"{text[: READ_CHARACTERS // 2]} {text[-READ_CHARACTERS // 2 :]}"
    words = _WORD.findall(text.lower())
    yield from words
    for first, second in pairwise(words):
        yield f"{first} {second}"
    for tag in tags:
        yield f"#{tag}"
