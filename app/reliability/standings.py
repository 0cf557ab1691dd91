"""How models have been doing in this process: a decayed count of answers and failures, and the state of their breakers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from app.core.clock import Clock
from app.core.models import ModelProfile
from app.core.standing import Standing
from app.reliability.breakers import Breakers
from app.reliability.load import Loads

HALF_LIFE_S: Final = 300.0
"""After so long what was seen counts half: trouble lasts minutes, and who is no longer asked must get a new chance."""
PRIOR: Final = 0.9
PRIOR_CALLS: Final = 5.0
"""A model that nothing is known of is taken to answer nine calls of ten, with the weight of five calls."""
_MOST: Final = 4_096
"""Models remembered; those not heard of for longest are forgotten."""


@dataclass(slots=True)
class Record:
    """Calls and answers, worth what they were worth at `at` (monotonic seconds)."""

    calls: float = 0.0
    answered: float = 0.0
    at: float = 0.0

    def add(self, now: float, *, ok: bool) -> None:
        share = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S)
        self.calls = self.calls * share + 1
        self.answered = self.answered * share + ok
        self.at = now

    def success(self, now: float) -> float:
        """The share of calls expected to be answered, by what was seen and the prior."""
        share = 0.5 ** (max(0.0, now - self.at) / HALF_LIFE_S)
        return (self.answered * share + PRIOR * PRIOR_CALLS) / (self.calls * share + PRIOR_CALLS)


class LocalStandings:
    """The standings of one process.

    Parameters:
        breakers: whose states are told too; without them no breaker is taken to be open.
        loads: how many calls are under way; without them none are taken to be.
    """

    def __init__(self, clock: Clock, breakers: Breakers | None = None, loads: Loads | None = None) -> None:
        self._clock = clock
        self._breakers = breakers
        self._loads = loads
        self._records: OrderedDict[tuple[str, str], Record] = OrderedDict()

    def of(self, profile: ModelProfile) -> Standing:
        record = self._records.get((profile.provider, profile.model))
        success = record.success(self._clock.monotonic()) if record else PRIOR
        load = self._loads.seen(profile.provider, profile.model) if self._loads else None
        if load is None:
            return Standing(success, self._open_s(profile))
        return Standing(success, self._open_s(profile), load.under_way, load.full)

    def record(self, profile: ModelProfile, *, ok: bool) -> None:
        key = (profile.provider, profile.model)
        record = self._records.pop(key, None) or Record(at=self._clock.monotonic())
        record.add(self._clock.monotonic(), ok=ok)
        self._records[key] = record
        if len(self._records) > _MOST:
            self._records.popitem(last=False)

    def _open_s(self, profile: ModelProfile) -> float:
        if self._breakers is None:
            return 0.0
        found = self._breakers.opened()
        return max((b.open_s() for b in found if (b.provider, b.model) == (profile.provider, profile.model)), default=0.0)
