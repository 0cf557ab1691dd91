"""Clocks, dice and waits that a test turns by hand."""

from __future__ import annotations

from random import Random


class TurnedClock:
    """`monotonic` stands still until a test turns `time`. `ahead_s` is how wrong the clock on the wall is."""

    def __init__(self, time: float = 1000.0, *, ahead_s: float = 0.0) -> None:
        self.time = time
        self.ahead_s = ahead_s

    def now(self) -> float:
        return self.time + 1e9 + self.ahead_s

    def monotonic(self) -> float:
        return self.time


class Waits:
    """A sleep that turns the clock instead, and keeps what was waited."""

    def __init__(self, clock: TurnedClock) -> None:
        self.made: list[float] = []
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        self.made.append(seconds)
        self._clock.time += seconds


class Highest(Random):
    """Dice that always fall on the highest number."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def random(self) -> float:
        return 0.999
