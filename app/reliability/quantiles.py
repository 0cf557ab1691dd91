"""What is usual, of a stream of times: a histogram whose buckets grow by a tenth and whose past fades."""

from __future__ import annotations

import math
from typing import Final

_GROWTH: Final = math.log(1.1)
_SMALLEST_S: Final = 0.001
_FADE: Final = 0.999
"""The weight of the past with each new time: the last thousand or so count."""


class Quantiles:
    """Times in seconds, to a tenth of their length."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, float] = {}
        self._weight = 1.0
        self._total = 0.0

    def add(self, seconds: float) -> None:
        self.count += 1
        self._weight /= _FADE
        bucket = round(math.log(max(seconds, _SMALLEST_S) / _SMALLEST_S) / _GROWTH)
        self._buckets[bucket] = self._buckets.get(bucket, 0.0) + self._weight
        self._total += self._weight
        if self._weight > 1e100:
            self._shrink()

    def at(self, quantile: float) -> float:
        """The time that a share `quantile` of them does not exceed; 0 where there is none."""
        wanted, seen = quantile * self._total, 0.0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return _SMALLEST_S * math.exp((bucket + 0.5) * _GROWTH)
        return 0.0

    def _shrink(self) -> None:
        self._buckets = {bucket: weight / self._weight for bucket, weight in self._buckets.items()}
        self._total /= self._weight
        self._weight = 1.0
