"""The ways that a run could go: which strategy over which models, what it promises, and what that is worth. Pure.

| way       | is considered                                               | promises                                |
|-----------|-------------------------------------------------------------|-----------------------------------------|
| direct    | for each model                                              | what the model does                     |
| fallback  | for the best three, with the best other one behind          | that somebody answers                   |
| cascade   | (fallback) where answers can be counted and two are cheap   | the strong one's answer where they differ |
| parallel  | for the two that are quickest                               | the time of the quicker one             |
| consensus | for the best of many families, where answers can be counted | that a panel is right more often        |

What a panel gains is told by the log-odds of its members, of which only as many count as their errors are independent.
How alike the errors of two are is what was measured of them, else an assumption by who made them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from typing import Final

from app.orchestration.adaptive.prospects import Prospect
from app.orchestration.base import StrategyOptions
from app.orchestration.consensus.options import ConsensusOptions
from app.orchestration.direct import DirectOrchestrator
from app.orchestration.evidence.ballots import effective
from app.orchestration.evidence.confidence import sigmoid
from app.orchestration.evidence.diversity import diverse, panel_diversity
from app.orchestration.evidence.weights import PanelWeights
from app.orchestration.extracting import Extract
from app.orchestration.fallback.options import FallbackOptions
from app.orchestration.outlook import Preference, doublings, merit
from app.orchestration.parallel.options import ParallelOptions
from app.orchestration.tasks import TaskProfile, panel_size

ALIKE: Final = 0.6
"""How alike the errors of models of different makers are taken to be: Kim et al., "Correlated Errors in Large Language Models"
(2025, https://arxiv.org/abs/2506.07962), find that two agree in 60 % of the cases in which both err."""
MORE_ALIKE: Final = 0.2
"""What is added to that for a panel of one family and provider."""
SAME_MISTAKE: Final = 0.6
"""How often two that err say the same, by the same paper."""
CHEAP: Final = 0.34
"""The share of the strong one's price up to which two models together cost less than it."""
LEAST_PANEL: Final = 3
BACKED: Final = 3
_DIRECT: Final = DirectOrchestrator.Options()
_FALLBACK: Final = FallbackOptions()
_QUICKEST: Final = ParallelOptions(select="first")


@dataclass(frozen=True, slots=True)
class Way:
    """`quality` is how likely it gives a good answer; `cost_usd` and `seconds` are what it is expected to take, None where that
    is not known. `score` is what it is worth."""

    strategy: str
    members: tuple[Prospect, ...]
    options: StrategyOptions
    quality: float
    cost_usd: float | None
    seconds: float | None
    score: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)

    @property
    def diversity(self) -> float:
        """How diverse its models are by family and provider, 0 to 1."""
        return panel_diversity([one.family for one in self.members], [one.provider for one in self.members])


def ways(
    prospects: Sequence[Prospect],
    task: TaskProfile,
    preference: Preference,
    *,
    extract: Extract | None,
    single: bool,
    weights: PanelWeights,
) -> list[Way]:
    """All ways to go, unscored.

    Parameters:
        prospects: at least one.
        extract: how answers to this request are read and counted; None where they cannot be.
        single: whether more than one answer is of no use, as where tools are offered.
        weights: what is known of the models together.
    """
    found = [_direct(one) for one in prospects]
    first = scored(found, preference)[:BACKED]
    found += [_fallback(way.members[0], second) for way in first if (second := _behind(way.members[0], prospects))]
    if single or len(prospects) < 2:
        return found
    quick = sorted((one for one in prospects if one.seconds is not None), key=lambda one: one.seconds or 0.0)[:2]
    if len(quick) == 2:
        found.append(_parallel(quick))
    if extract is not None:
        found += [*_cascades(prospects, extract, weights), *_panels(prospects, task, extract, weights)]
    return found


def scored(found: Sequence[Way], preference: Preference) -> list[Way]:
    """`found` with what each is worth, the best first; of equals the one with fewer models, then the earlier.

    A price or a time that is not known is taken to be that of the dearest or slowest known one.
    """
    costs = [way.cost_usd for way in found if way.cost_usd is not None]
    times = [way.seconds for way in found if way.seconds is not None]
    least_cost, most_cost = min((one for one in costs if one > 0), default=None), max(costs, default=None)
    least_time, most_time = min((one for one in times if one > 0), default=None), max(times, default=None)

    def worth(way: Way) -> float:
        cost = doublings(most_cost if way.cost_usd is None else way.cost_usd, least_cost)
        time = doublings(most_time if way.seconds is None else way.seconds, least_time)
        return round(merit(way.quality, cost, time, preference), 4)

    ranked = [Way(way.strategy, way.members, way.options, way.quality, way.cost_usd, way.seconds, worth(way)) for way in found]
    return sorted(ranked, key=lambda way: (-way.score, len(way.members)))


def alike(one: Prospect, other: Prospect, weights: PanelWeights) -> float:
    """How alike the errors of two models are, 0 (independent) to 1."""
    measured = weights.alike(one.name, other.name)
    if measured is not None:
        return max(0.0, measured)
    return ALIKE + MORE_ALIKE * (1 - panel_diversity((one.family, other.family), (one.provider, other.provider)))


def pooled(members: Sequence[Prospect], weights: PanelWeights) -> float:
    """How likely the vote of `members` is right: at least as likely as the best of them."""
    best = max(one.outlook.quality for one in members)
    mean = fmean(alike(one, other, weights) for one, other in combinations(members, 2))
    odds = [_log_odds(one.outlook.quality) for one in members]
    return max(best, sigmoid(sum(odds) / len(odds) * effective(len(odds), mean)))


def _direct(one: Prospect) -> Way:
    return Way("direct", (one,), _DIRECT, one.good, one.cost_usd, one.seconds)


def _behind(first: Prospect, prospects: Sequence[Prospect]) -> Prospect | None:
    """Who is asked where `first` fails: the best other one, of another provider if there is one as good."""
    others = [one for one in prospects if one is not first]
    return max(others, key=lambda one: (round(one.good, 2), one.provider != first.provider), default=None)


def _fallback(first: Prospect, second: Prospect) -> Way:
    fails = 1 - first.outlook.success
    return Way(
        "fallback",
        (first, second),
        _FALLBACK,
        first.good + fails * second.good,
        _sum((first.cost_usd, second.cost_usd), (1.0, fails)),
        _sum((first.seconds, second.seconds), (1.0, fails)),
    )


def _cascades(prospects: Sequence[Prospect], extract: Extract, weights: PanelWeights) -> Iterator[Way]:
    """Two cheap models that must agree, before the best one: how often they do follows from how often both are right, and how
    often both make the same mistake."""
    strong = max(prospects, key=lambda one: one.good)
    bound = None if strong.cost_usd is None else CHEAP * strong.cost_usd
    cheap = [one for one in prospects if one.cost_usd is not None and bound is not None and one.cost_usd <= bound]
    if len(cheap) < 2:
        return
    first, second = sorted(cheap, key=lambda one: -one.good)[:2]
    qualities = (first.outlook.quality, second.outlook.quality)
    together = alike(first, second, weights) * math.sqrt(math.prod(one * (1 - one) for one in qualities))
    right = min(*qualities, math.prod(qualities) + together)
    wrong = max(0.0, 1 - sum(qualities) + right)
    answered = first.outlook.success * second.outlook.success
    on = 1 - answered * (right + SAME_MISTAKE * wrong)
    times = [one.seconds for one in (first, second)]
    slower = None if None in times else max(one for one in times if one is not None)
    agree = {"agree": {"model": second.name, "extract": extract}}
    yield Way(
        "fallback",
        (first, second, strong),
        FallbackOptions.model_validate({"chain": [{"model": first.name, "check": agree}, {"model": strong.name}]}),
        answered * right + on * strong.good,
        _sum((first.cost_usd, second.cost_usd, strong.cost_usd), (1.0, 1.0, on)),
        _sum((slower, strong.seconds), (1.0, on)),
    )


def _parallel(quick: Sequence[Prospect]) -> Way:
    """Whoever answers first: as good as they are on average, and as quick as the quicker one."""
    fails = math.prod(1 - one.outlook.success for one in quick)
    quality = sum(one.outlook.quality for one in quick) / len(quick)
    seconds = min(one.seconds for one in quick if one.seconds is not None)
    return Way("parallel", tuple(quick), _QUICKEST, (1 - fails) * quality, _sum([one.cost_usd for one in quick]), seconds)


def _panels(prospects: Sequence[Prospect], task: TaskProfile, extract: Extract, weights: PanelWeights) -> Iterator[Way]:
    """The best of as many families as there are, as many as the task deserves."""
    if len(prospects) < LEAST_PANEL:
        return
    best = sorted(prospects, key=lambda one: -one.good)
    families = {one.name: one.family for one in prospects}
    providers = {one.name: one.provider for one in prospects}
    for size in sorted({LEAST_PANEL, panel_size(task.complexity, len(prospects))}):
        chosen = diverse([one.name for one in best], families, size, providers=providers)
        members = [one for one in prospects if one.name in chosen]
        fails = math.prod(1 - one.outlook.success for one in members)
        times = [one.seconds for one in members]
        known = [one for one in times if one is not None]
        yield Way(
            "consensus",
            tuple(members),
            ConsensusOptions(extract=extract),
            (1 - fails) * pooled(members, weights),
            _sum([one.cost_usd for one in members]),
            max(known) if len(known) == len(times) else None,
        )


def _sum(values: Sequence[float | None], shares: Sequence[float] | None = None) -> float | None:
    """The sum, each with its share; None where any of them is not known."""
    total = 0.0
    for value, share in zip(values, shares or [1.0] * len(values), strict=True):
        if value is None:
            return None
        total += share * value
    return total


def _log_odds(quality: float) -> float:
    clipped = min(max(quality, 0.01), 0.99)
    return math.log(clipped / (1 - clipped))
