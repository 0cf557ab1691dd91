"""What is to be expected of a model before it is asked, and how much that is worth under a preference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from app.core.models import ModelProfile
from app.observability.model_counts import usual_seconds
from app.orchestration.context import RunContext
from app.orchestration.learning.lessons import Performance

PRIOR_JUDGED: Final = 20.0
"""The weight, in judged answers, of what was taken to be true of a model before any was judged."""

Policy = Literal["quality", "balanced", "cheap", "fast"]


@dataclass(frozen=True, slots=True)
class Preference:
    """What counts how much: the chance of a good answer, its cost, its time. A thousandfold cost or time weighs as much as the
    whole chance."""

    quality: float = 1.0
    cost: float = 0.0
    latency: float = 0.0


POLICIES: Final[Mapping[Policy, Preference]] = {
    "quality": Preference(1.0, 0.05, 0.05),
    "balanced": Preference(1.0, 0.3, 0.2),
    "cheap": Preference(1.0, 1.2, 0.1),
    "fast": Preference(1.0, 0.1, 1.2),
}
"""`balanced`: a model that costs ten times as much (3.3 doublings) must be right ten times more in a hundred."""
DOUBLING: Final = 0.1
"""What a doubling of cost or time takes off under a weight of 1."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of a model: `quality`, how likely an answer of it is good, and `success`, how likely it answers, 0 to 1.
    Seconds are None where nothing was measured. `measured` is how many calls, and `judged` how many answers, tell it."""

    quality: float
    success: float
    latency_s: float | None = None
    p95_s: float | None = None
    measured_cost_usd: float | None = None
    measured: float = 0.0
    judged: float = 0.0


def outlook(context: RunContext, profile: ModelProfile, learned: Mapping[str, float] | None = None) -> Outlook:
    """What is known of `profile` for the task of `context`: what was learned of such prompts, else what was judged, else its
    `quality` in the configuration, else the prior there (`learning.priors.quality`).

    Parameters:
        learned: what `Lessons.success` says of the prompt, by model.
    """
    done = context.lessons.performance(profile, context.category)
    standing = context.standings.of(profile).success if context.standings else 1.0
    usual = usual_seconds(profile.name)
    quality = (learned or {}).get(profile.name)
    if quality is None:
        quality = _judged(done, context.lessons.prior(profile))
    if done is None:
        return Outlook(quality, standing, usual)
    latency_s = usual if done.latency_p50_ms is None else done.latency_p50_ms / 1000
    p95_s = None if done.latency_p95_ms is None else done.latency_p95_ms / 1000
    success = done.success if done.calls else standing
    return Outlook(quality, min(success, standing), latency_s, p95_s, done.cost_usd, done.calls, done.judged)


def merit(expected: float, doublings_of_cost: float, doublings_of_time: float, preference: Preference) -> float:
    """What an answer is worth: how likely it is good, less what its cost and its time take off."""
    off = preference.cost * doublings_of_cost + preference.latency * doublings_of_time
    return preference.quality * expected - DOUBLING * off


def doublings(value: float | None, least: float | None) -> float:
    """How often `least` doubles to make `value`: 0 where either is not known or there is nothing to compare."""
    if value is None or least is None or value <= 0 or least <= 0:
        return 0.0
    return max(0.0, math.log2(value / least))


def _judged(done: Performance | None, prior: float) -> float:
    if done is None or done.quality is None:
        return prior
    return (done.quality * done.judged + prior * PRIOR_JUDGED) / (done.judged + PRIOR_JUDGED)
