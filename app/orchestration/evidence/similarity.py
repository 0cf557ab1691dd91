"""How far apart texts are: by their words, or by embeddings that a provider made. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import mul
from typing import Final

from app.orchestration.evidence.numbers import plain

Distances = tuple[tuple[float, ...], ...]
"""A symmetric matrix, 0 (the same) to 1 (nothing in common), with 0 on its diagonal."""

READ_CHARACTERS: Final = 8_000
"""How much of a text is compared, from its start and from its end each half: a panel of twenty stays within milliseconds."""
_PIECE = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+|[^\s\w]", re.UNICODE)
_COMMON: Final = frozenset(
    {"a", "also", "an", "and", "are", "as", "at", "be", "been", "by", "can", "for", "from", "he", "i", "in", "is", "it", "its"}
    | {"of", "on", "or", "she", "so", "than", "that", "the", "then", "there", "these", "they", "this", "those", "to", "was"}
    | {"we", "were", "what", "which", "who", "will", "with", "would", "you"}
)
_SHORT: Final = 40
_NUMBER_WEIGHT: Final = 3
"""A number counts as three words: two answers that differ in one are about different results."""


def lexical_distances(texts: Sequence[str]) -> Distances:
    """One less the weighted Jaccard similarity of the words, numbers and word pairs of each two texts.

    Words that carry no content and case do not count. Two empty texts are the same, an empty and another one have nothing in
    common.
    """
    pieces = [frozenset(_pieces(text)) for text in texts]
    numbers = [frozenset(piece for piece in own if piece[0].isdigit() and " " not in piece) for own in pieces]
    more = _NUMBER_WEIGHT - 1
    weights = [len(own) + more * len(digits) for own, digits in zip(pieces, numbers, strict=True)]

    def apart(one: int, other: int) -> float:
        shared = len(pieces[one] & pieces[other])
        if numbers[one] and numbers[other]:
            shared += more * len(numbers[one] & numbers[other])
        whole = weights[one] + weights[other] - shared
        return 1 - shared / whole if whole else 0.0

    return _matrix(len(texts), apart)


def cosine_distances(vectors: Sequence[Sequence[float]]) -> Distances:
    """One less the cosine of each two vectors, from 0 to 1: opposite ones have no more in common than those at right angles.

    Raises:
        ValueError: the vectors are not of one length.
    """
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("embeddings of one model have one length; these do not")
    lengths = [math.hypot(*vector) for vector in vectors]

    def apart(one: int, other: int) -> float:
        if not lengths[one] or not lengths[other]:
            return 0.0 if lengths[one] == lengths[other] else 1.0
        dot = sum(map(mul, vectors[one], vectors[other]))
        return min(1.0, max(0.0, 1 - dot / (lengths[one] * lengths[other])))

    return _matrix(len(vectors), apart)


def mean_distance(distances: Distances) -> float | None:
    """The mean over all pairs; None with fewer than two."""
    count = len(distances)
    return sum(map(sum, distances)) / (count * (count - 1)) if count > 1 else None


def label_distances(labels: Sequence[str | None]) -> Distances:
    """0 between equal labels, 1 between others; what could not be read differs from everything."""
    return _matrix(len(labels), lambda one, other: 0.0 if labels[one] is not None and labels[one] == labels[other] else 1.0)


def _pieces(text: str) -> list[str]:
    """The words, numbers and word pairs of a text. Signs count only in a short one, where they may be all there is."""
    text = plain(text)
    if len(text) > READ_CHARACTERS:
        text = f"{text[: READ_CHARACTERS // 2]} {text[-READ_CHARACTERS // 2 :]}"
    short = len(text) < _SHORT
    words = [word for word in _PIECE.findall(text.casefold()) if word not in _COMMON and (short or word[0].isalnum())]
    return [*words, *map(" ".join, pairwise(words))]


def _matrix(count: int, apart: Callable[[int, int], float]) -> Distances:
    rows = [[0.0] * count for _ in range(count)]
    for one in range(count):
        for other in range(one):
            rows[one][other] = rows[other][one] = apart(one, other)
    return tuple(map(tuple, rows))
