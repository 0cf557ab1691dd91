"""Clocks of machines that nobody has set."""

from __future__ import annotations

import time


class SkewedClock:
    """A machine's clocks: that on the wall is `skew_s` ahead of the others', and it has been up for `up_s` longer."""

    def __init__(self, skew_s: float, *, up_s: float = 0.0) -> None:
        self.skew_s, self.up_s = skew_s, up_s

    def now(self) -> float:
        return time.time() + self.skew_s

    def monotonic(self) -> float:
        return time.monotonic() + self.up_s
