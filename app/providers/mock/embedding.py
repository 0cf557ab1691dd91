"""Vectors of mock models: texts with words in common point in like directions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

DIMENSIONS = 64
_WORD = re.compile(r"\w+")


def embedded(text: str, dimensions: int = DIMENSIONS) -> tuple[float, ...]:
    """The sum of the directions of its words, of length 1; a text without words points along the first axis."""
    total = [0.0] * dimensions
    for word in _WORD.findall(text.casefold()):
        for place, value in enumerate(_direction(word, dimensions)):
            total[place] += value
    length = math.sqrt(sum(value * value for value in total))
    return tuple(value / length for value in total) if length else (1.0, *[0.0] * (dimensions - 1))


@lru_cache(maxsize=4_096)
def _direction(word: str, dimensions: int) -> Sequence[float]:
    """Plus or minus one on each axis, by the word's digest."""
    bits = b"".join(sha256(f"{word} {block}".encode()).digest() for block in range(-(-dimensions // 256)))
    return [1.0 if bits[place // 8] >> place % 8 & 1 else -1.0 for place in range(dimensions)]
