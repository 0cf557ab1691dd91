"""How models, providers and strategies have been doing: what a run adds, and what the sums say. Pure.

Amounts are by name. Of a `model` at a provider, and of a `strategy`: `calls` and `ok`; `in`, `out` and `cost` with `priced`
(how many calls have a known cost); `l<n>` and `t<n>`, latencies and times to the first token in buckets that grow by a tenth
each. Of who was `judged`: `judged` and `right`; `contests` and `wins`, where people said which answer was best.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from app.orchestration.learning.judging import Judgements, contests, credit_of, outcome
from app.orchestration.learning.lessons import Performance
from app.orchestration.learning.taught import Noted

Amounts = dict[str, float]
Kind = Literal["model", "strategy", "judged", "strategy judged", "calibration"]
OF_MODELS: Final = '["model", '
CALIBRATION: Final = '["calibration"]'
"""How well confidences are kept: `n<i>`, `p<i>`, `r<i>` are, of the i-th tenth, outcomes, their confidences, and right ones."""
_GROWTH: Final = 0.1
_SMALLEST_MS: Final = 0.1
_PRIOR: Final = 0.9
_PRIOR_CALLS: Final = 5.0
"""As `reliability.standings` has it: what is little known is taken to answer nine calls of ten."""
ENOUGH_CALLS: Final = 20.0
ENOUGH_JUDGED: Final = 10.0
"""From here on a record is taken by itself; with less, a wider one is asked."""
BINS: Final = 10


@lru_cache(maxsize=4_096)
def record(kind: Kind, *names: str) -> str:
    """The name of a record: its kind; of a model its alias, its provider, and the category it is by; of who was judged the
    model or the strategy, and the category."""
    return json.dumps([kind, *names], ensure_ascii=False)


def names_of(field: str) -> tuple[str, ...]:
    """What `record` put together."""
    return tuple(json.loads(field))


def bucket(ms: float) -> int:
    return round(math.log(max(ms, _SMALLEST_MS) / _SMALLEST_MS) / _GROWTH)


def add(sums: dict[str, Amounts], field: str, amounts: Mapping[str, float]) -> None:
    """Add `amounts` to the record `field` of `sums`."""
    held = sums.get(field)
    if held is None:
        sums[field] = dict(amounts)
        return
    for name, amount in amounts.items():
        held[name] = held.get(name, 0.0) + amount


def of_confidence(confidence: float, *, right: bool, times: int) -> Amounts:
    """What a judged outcome adds `times` to how well confidences are kept, in its tenth of them."""
    tenth = min(BINS - 1, int(confidence * BINS))
    return {f"n{tenth}": float(times), f"p{tenth}": times * confidence, f"r{tenth}": float(times * right)}


def calibration_error(amounts: Mapping[str, float]) -> float | None:
    """The expected calibration error of judged outcomes: how far the share of right ones lies from the confidence.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017, https://arxiv.org/abs/1706.04599), in tenths.
    """
    counts = [max(0.0, amounts.get(f"n{tenth}", 0.0)) for tenth in range(BINS)]
    whole = sum(counts)
    if whole <= 0:
        return None
    apart = [abs(amounts.get(f"p{tenth}", 0.0) - amounts.get(f"r{tenth}", 0.0)) for tenth in range(BINS)]
    return sum(map(min, apart, counts)) / whole  # what is taken back late has faded less than what it takes back


@dataclass(frozen=True, slots=True)
class Sums:
    """What a record says now. Amounts are decayed."""

    amounts: Mapping[str, float]

    @property
    def calls(self) -> float:
        return self._of("calls")

    @property
    def judged(self) -> float:
        return self._of("judged")

    @property
    def success(self) -> float:
        """The share of calls expected to be answered, with little known near the prior."""
        return (self._of("ok") + _PRIOR * _PRIOR_CALLS) / (self.calls + _PRIOR_CALLS)

    @property
    def answered(self) -> float | None:
        """The share of calls that was answered."""
        return min(1.0, self._of("ok") / self.calls) if self.calls > 0 else None

    @property
    def cost_usd(self) -> float | None:
        """Of a call."""
        return self._of("cost") / self._of("priced") if self._of("priced") > 0 else None

    @property
    def quality(self) -> float | None:
        return min(1.0, self._of("right") / self.judged) if self.judged > 0 else None

    @property
    def win_rate(self) -> float | None:
        return min(1.0, self._of("wins") / self._of("contests")) if self._of("contests") > 0 else None

    @property
    def outcomes(self) -> float:
        """Judged outcomes that say how well confidences are kept."""
        return sum(self._of(f"n{tenth}") for tenth in range(BINS))

    def total(self, name: str) -> float:
        """Of the amount `name`."""
        return self._of(name)

    def latency_ms(self, quantile: float) -> float | None:
        return self._quantile("l", quantile)

    def ttft_ms(self, quantile: float) -> float | None:
        return self._quantile("t", quantile)

    def _of(self, name: str) -> float:
        return max(0.0, self.amounts.get(name, 0.0))

    def _quantile(self, prefix: str, quantile: float) -> float | None:
        buckets = sorted(
            (int(name[1:]), amount) for name, amount in self.amounts.items() if name[0] == prefix and name[1:].isdigit()
        )
        wanted, seen = quantile * sum(amount for _, amount in buckets), 0.0
        for place, amount in buckets:
            seen += amount
            if seen >= wanted:
                return _SMALLEST_MS * math.exp(place * _GROWTH)
        return None


def joined(all_of: Iterable[Sums]) -> Sums:
    """All of them together."""
    amounts: Amounts = {}
    for sums in all_of:
        for name, amount in sums.amounts.items():
            amounts[name] = amounts.get(name, 0.0) + amount
    return Sums(amounts)


def faded(amounts: Mapping[str, float], age_s: float, half_life_s: float) -> Sums:
    """What `amounts` are worth after `age_s`."""
    share = 0.5 ** (max(0.0, age_s) / half_life_s)
    return Sums({name: amount * share for name, amount in amounts.items()})


def of_judgement(run: Noted, before: Judgements, after: Judgements) -> dict[str, Amounts]:
    """What changes by record when `after` stands in place of `before`."""
    found: dict[str, Amounts] = {}
    for judgements, sign in ((before, -1.0), (after, 1.0)):
        for member, credit in credit_of(run, judgements).items():
            _judge(found, ("judged", member), run.category, {"judged": sign, "right": sign * credit})
        for member, won in contests(run, judgements).items():
            _judge(found, ("judged", member), run.category, {"contests": sign, "wins": sign * won})
        right = outcome(run, judgements)
        if right is not None:
            _judge(found, ("strategy judged", run.strategy), None, {"judged": sign, "right": sign * right})
    return {
        field: own for field, amounts in found.items() if (own := {name: value for name, value in amounts.items() if value})
    }


def _judge(found: dict[str, Amounts], whose: tuple[Kind, str], category: str | None, own: Amounts) -> None:
    add(found, record(*whose), own)
    if category is not None:
        add(found, record(*whose, category), own)


def performance(
    records: Mapping[str, Sums], shared: Mapping[str, Sums], whose: tuple[str, str], category: str | None
) -> Performance | None:
    """What the records of a tenant, and where they say too little those that all share, tell of a model.

    The narrowest that says enough is taken: the model at tasks of that category, the model, the model with all tenants.

    Parameters:
        whose: the model's alias and its provider.
    """
    narrow = (category,) if category is not None else ()
    called = _nearest(records, shared, "model", whose, narrow)
    if not called:
        return None
    judged = _nearest(records, shared, "judged", whose[:1], narrow)
    calls = next((sums for sums in called if sums.calls >= ENOUGH_CALLS), max(called, key=lambda sums: sums.calls))
    known = next(
        (sums for sums in judged if sums.judged >= ENOUGH_JUDGED), max(judged, key=lambda sums: sums.judged, default=None)
    )
    return Performance(
        calls.calls,
        calls.success,
        calls.latency_ms(0.5),
        calls.latency_ms(0.95),
        calls.ttft_ms(0.5),
        calls.cost_usd,
        known.quality if known else None,
        known.judged if known else 0.0,
    )


def _nearest(
    records: Mapping[str, Sums], shared: Mapping[str, Sums], kind: Kind, whose: tuple[str, ...], narrow: tuple[str, ...]
) -> list[Sums]:
    """The records of a model, the narrowest first."""
    fields = (record(kind, *whose, *narrow), record(kind, *whose)) if narrow else (record(kind, *whose),)
    found = [records[field] for field in fields if field in records]
    return [*found, *([shared[fields[-1]]] if fields[-1] in shared else [])]
