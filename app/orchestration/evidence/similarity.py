"""How far apart texts are: by their words, or by embeddings that a provider made. Pure."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul
from typing import Final

from app.orchestration.evidence.asked import SHORT
from app.orchestration.evidence.numbers import plain
from app.orchestration.evidence.stance import UNSPACED, Stance, agreed, elaborated, opposed, stance

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
_AGREED: Final = 0.5
"""The most that two texts are apart that state one answer: well within a cluster, however differently they explain it."""
_BRIEF_FACTOR: Final = 1.5
"""How much further apart two texts of a line are than their words: one word in four may be the one that matters."""
_NUMBER_WEIGHT: Final = 3
"""A number counts as three words: two answers that differ in one are about different results."""


@dataclass(frozen=True, slots=True)
class Words:
    """What of a text is compared: words, numbers and pairs, what they weigh together; what it states; whether it is short."""

    pieces: frozenset[str]
    numbers: frozenset[str]
    weight: int
    stance: Stance
    brief: bool


def words_of(text: str) -> Words:
    """See `lexical_distances`."""
    text = unicodedata.normalize("NFKC", text)
    found = _pieces(text)
    pieces = frozenset(found) | frozenset(map(" ".join, pairwise(found)))
    numbers = frozenset(piece for piece in found if piece[0].isdigit())
    weight = len(pieces) + (_NUMBER_WEIGHT - 1) * len(numbers)
    return Words(pieces, numbers, weight, stance(text), len(text) <= SHORT)


def words_apart(one: Words, other: Words) -> float:
    """See `lexical_distances`."""
    if opposed(one.stance, other.stance):
        return 1.0
    shared = len(one.pieces & other.pieces)
    if one.numbers and other.numbers:
        shared += (_NUMBER_WEIGHT - 1) * len(one.numbers & other.numbers)
    whole = one.weight + other.weight - shared
    by_words = 1 - shared / whole if whole else 0.0
    if agreed(one.stance, other.stance):
        return min(by_words, _AGREED)
    brief = one.brief and other.brief
    return min(1.0, by_words * _BRIEF_FACTOR) if brief and not elaborated(one.stance, other.stance) else by_words


def lexical_distances(texts: Sequence[str]) -> Distances:
    """One less the weighted Jaccard similarity of the words, numbers and word pairs of each two texts, and of the pairs of
    characters in scripts without spaces.

    Words that carry no content and case do not count. Two empty texts are the same, an empty and another one have nothing in
    common. Where `stance` shows that two state opposite things, they have nothing in common either; where both set off one
    answer, they are near. In short texts each word that differs counts for more.
    """
    words = [words_of(text) for text in texts]
    return _matrix(len(texts), lambda one, other: words_apart(words[one], words[other]))


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
    """The words and numbers of a text, and pairs of characters in place of words where those are not told apart.

    Signs count only in a short text, where they may be all there is.
    """
    text = plain(text)
    if len(text) > READ_CHARACTERS:
        text = f"{text[: READ_CHARACTERS // 2]} {text[-READ_CHARACTERS // 2 :]}"
    short = len(text) < _SHORT
    words = [word for word in _PIECE.findall(text.casefold()) if word not in _COMMON and (short or word[0].isalnum())]
    if text.isascii() or not UNSPACED.search(text):
        return words
    return [part for word in words for part in (map("".join, pairwise(word)) if UNSPACED.fullmatch(word) else (word,))]


def _matrix(count: int, apart: Callable[[int, int], float]) -> Distances:
    rows = [[0.0] * count for _ in range(count)]
    for one in range(count):
        for other in range(one):
            rows[one][other] = rows[other][one] = apart(one, other)
    return tuple(map(tuple, rows))
