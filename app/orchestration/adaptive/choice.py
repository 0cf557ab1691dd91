"""The choice of a run: all ways in the order of their worth, and the one that is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Final

from pydantic import ValidationError

from app.core.budgets import nano_usd
from app.core.errors import InvalidRequest
from app.core.runs import Alternative, PlanDecision, Prospect, RunRequest
from app.orchestration.adaptive.options import AdaptiveOptions
from app.orchestration.adaptive.prospects import Field, field_of
from app.orchestration.adaptive.ways import Way, scored, ways
from app.orchestration.base import BaseOrchestrator
from app.orchestration.consensus.orchestrator import ConsensusOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.direct import DirectOrchestrator
from app.orchestration.evidence.asked import asked_kind
from app.orchestration.extracting import Extract, ExtractChoice, ExtractJson, ExtractNumber
from app.orchestration.fallback.options import FallbackOptions
from app.orchestration.fallback.orchestrator import FallbackOrchestrator
from app.orchestration.learning.hashing import asked_text
from app.orchestration.outlook import PRIOR_JUDGED, Preference
from app.orchestration.parallel.orchestrator import ParallelOrchestrator
from app.reliability.forecast import forecast

MARGIN: Final = 0.01
"""Ways that are worth so little less than the best are as good: the one with the fewest models is gone."""
SHOWN: Final = 8
"""Alternatives that a plan shows."""
STRATEGIES: Final[Mapping[str, BaseOrchestrator]] = {
    strategy.name: strategy
    for strategy in (DirectOrchestrator(), FallbackOrchestrator(), ParallelOrchestrator(), ConsensusOrchestrator())
}


@dataclass(frozen=True, slots=True)
class Ranking:
    """What may be done, the best first. `explores` is the way that is tried for what it may teach, if one is."""

    ways: tuple[Way, ...]
    field: Field
    explores: Way | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The way that is gone, and the plan that says so. `inner` are the surroundings of its strategy, `behind` those of a chain
    of all other models, None where there are none."""

    way: Way
    plan: PlanDecision
    inner: RunContext
    behind: RunContext | None = None

    @property
    def strategy(self) -> BaseOrchestrator:
        return STRATEGIES[self.way.strategy]


def rank(context: RunContext) -> Ranking:
    """All ways that may be gone.

    Raises:
        CapabilityMissing: no model can do what is asked.
        InvalidRequest: a name that none of the models has, or nothing is left of them.
    """
    options: AdaptiveOptions = context.options
    _check_names(context, options)
    field = field_of(context)
    if not field.prospects:
        if field.lack is not None:
            raise field.lack
        reasons = "; ".join(f"{name!r}: {reason}" for name, reason in field.set_aside.items())
        raise InvalidRequest(f"no model is left to choose from. {reasons}", param="options")
    request, preference = context.request, options.preference
    single = bool(request.tools) or request.generation.n > 1 or request.generation.logprobs
    extract = None if single else _countable(request, context.category)
    weights = context.lessons.weights([one.model.profile for one in field.prospects])
    found = ways(field.prospects, context.task, preference, extract=extract, single=single, weights=weights)
    ranked = _affordable(scored(_wanted(found, options.strategies), preference), options.max_cost_usd)
    return Ranking(tuple(ranked), field, _explored(context, ranked, preference))


def chosen(context: RunContext) -> Chosen:
    """The way of this run. It is chosen once: its plan, its worst case and the run agree on it."""
    settled = context.settled
    if isinstance(settled, Chosen):
        return settled
    ranking = settled if isinstance(settled, Ranking) else rank(context)
    way, why = _within(context, ranking)
    behind = _behind(context, ranking, way)
    made = Chosen(way, _plan(context, ranking, way, why, behind), _inner(context, way), behind)
    context.settled = made
    return made


def _behind(context: RunContext, ranking: Ranking, way: Way) -> RunContext | None:
    """The surroundings of a chain of the models that `way` leaves out, the best first: they cost nothing unless all of its own
    fail."""
    most_usd = context.options.max_cost_usd
    left = [one for one in ranking.field.prospects if one not in way.members]
    if context.spending.needs_prices:
        left = [one for one in left if one.model.profile.price is not None]
    if most_usd is not None:
        left = [one for one in left if one.cost_usd is not None and one.cost_usd <= most_usd]
    if not left:
        return None
    models = tuple(one.model for one in sorted(left, key=lambda one: -one.good))
    return replace(context, models=models, options=FallbackOptions(), named={}, settled=None)


def _inner(context: RunContext, way: Way) -> RunContext:
    """The surroundings of the way's strategy. Models that its options name are put where the engine would put them."""
    by_name = {member.name: member.model for member in way.members}
    named = STRATEGIES[way.strategy].models_of(way.options)
    models = tuple(by_name[one.name] for one in named if not one.helps) if named else tuple(by_name.values())
    return replace(context, models=models, options=way.options, named=by_name if named else {}, settled=None)


def _check_names(context: RunContext, options: AdaptiveOptions) -> None:
    names = {model.profile.name for model in context.models}
    for member, given in (("pin", options.pin), ("exclude", options.exclude)):
        for name in given:
            if name not in names:
                message = f"{name!r} is none of the models that may be chosen: {', '.join(sorted(names))}"
                raise InvalidRequest(message, param=f"options.{member}")


def _countable(request: RunRequest, category: str) -> Extract | None:
    """How answers to `request` are read, where they can be counted."""
    form = request.generation.response_format
    if form is not None and form.type != "text":
        try:
            return ExtractJson.model_validate({"type": "json", "schema": form.schema})
        except ValidationError:  # a schema that its model understands, and we do not
            return None
    asked = asked_text(request.messages)
    kind = asked_kind(asked)
    if kind is not None:
        return ExtractChoice(type="choice", choices=dict(kind.texts) if kind.texts else kind.labels)
    return ExtractNumber(type="number") if category == "math" else None


def _wanted(found: Sequence[Way], strategies: Sequence[str]) -> Sequence[Way]:
    left = [way for way in found if not strategies or way.strategy in strategies]
    if left:
        return left
    there = ", ".join(dict.fromkeys(way.strategy for way in found))
    message = f"over these models, nothing can be done with {' or '.join(strategies)} for this request; there is {there}"
    raise InvalidRequest(message, param="options.strategies")


def _affordable(ranked: Sequence[Way], most_usd: float | None) -> list[Way]:
    if most_usd is None:
        return list(ranked)
    left = [way for way in ranked if way.cost_usd is not None and way.cost_usd <= most_usd]
    if left:
        return left
    known = [way for way in ranked if way.cost_usd is not None]
    least = min(known, key=lambda way: way.cost_usd or 0.0, default=None)
    cheapest = "no price is known" if least is None else f"the cheapest is {least.names[0]!r} at ${least.cost_usd:.6f}"
    message = f"nothing is expected to cost ${most_usd:g} or less: {cheapest}"
    raise InvalidRequest(message, param="options.max_cost_usd")


def _explored(context: RunContext, ranked: Sequence[Way], preference: Preference) -> Way | None:
    """In a share of the runs, who is best if what is not known of the models is drawn by chance (Thompson, "On the likelihood
    that one unknown probability exceeds another", 1933)."""
    options: AdaptiveOptions = context.options
    seed = context.request.generation.seed
    draw = Random(context.run_id if seed is None else seed)  # noqa: S311 (a choice, not a secret)
    alone = [way for way in ranked if way.strategy == "direct"]
    if len(alone) < 2 or draw.random() >= options.explore:
        return None

    def drawn(way: Way) -> float:
        known = way.members[0].outlook
        weight = PRIOR_JUDGED + known.judged
        quality = draw.betavariate(max(known.quality, 0.01) * weight, max(1 - known.quality, 0.01) * weight)
        return way.score + preference.quality * known.success * (quality - known.quality)

    taken = max(alone, key=drawn)
    return None if taken is max(alone, key=lambda way: way.score) else taken


def _within(context: RunContext, ranking: Ranking) -> tuple[Way, str]:
    """The way to go, and what is to be said of it: the best one whose worst case the run's budget holds."""
    best = ranking.ways[0]
    near = [way for way in ranking.ways if way.score >= best.score - MARGIN]
    order = [min(near, key=lambda way: len(way.members)), *ranking.ways]
    if ranking.explores is not None:
        order.insert(0, ranking.explores)
    if not context.spending.needs_prices and not context.request.budget.bounded:
        return order[0], ""
    for way in order:
        if _holds(context, way):
            return way, "" if way is order[0] else "the budget does not hold the worst case of what is worth more"
    cheapest = min(order, key=lambda way: (way.cost_usd is None, way.cost_usd or 0.0, len(way.members)))
    return cheapest, ""  # which the budget then refuses, and says why


def _holds(context: RunContext, way: Way) -> bool:
    """Whether the budget of the request holds the way's worst case, and its price is known where dollars are counted."""
    budget = context.request.budget
    calls = STRATEGIES[way.strategy].worst_case(context.request, _inner(context, way)) or ()
    found = forecast(calls)
    if found.unpriced and context.spending.needs_prices:
        return False
    if budget.tokens is not None and found.tokens > budget.tokens:
        return False
    return budget.cost_usd is None or (found.nano_usd or 0) <= nano_usd(budget.cost_usd)


def _plan(context: RunContext, ranking: Ranking, way: Way, why: str, behind: RunContext | None) -> PlanDecision:
    shown = list(ranking.ways[:SHOWN])
    if way not in shown:
        shown[-1] = way
    inner = STRATEGIES[way.strategy].plan(context.request, _inner(context, way))
    task = asdict(context.task)
    return PlanDecision(
        way.strategy,
        way.names,
        inner.lead_model,
        (*inner.fallbacks, *(model.profile.name for model in behind.models)) if behind else inner.fallbacks,
        _reason(context, ranking, way, why),
        way.cost_usd,
        way.seconds,
        round(way.quality, 4),
        way.options.model_dump(exclude_defaults=True, by_alias=True, mode="json"),
        {**task, "needs": list(context.task.needs)},
        round(way.diversity, 4),
        tuple(
            Alternative(one.strategy, one.names, one.score, round(one.quality, 4), one.cost_usd, one.seconds) for one in shown
        ),
        ranking.field.set_aside,
        {one.name: Prospect(round(one.good, 4), one.cost_usd, one.seconds) for one in ranking.field.prospects},
    )


def _reason(context: RunContext, ranking: Ranking, way: Way, why: str) -> str:
    options: AdaptiveOptions = context.options
    task = context.task
    wanted = "the given weights" if options.weights is not None else f"the policy {options.policy!r}"
    said = [f"a task of {task.category}, complexity {task.complexity:g}, under {wanted}: {_told(way)}"]
    if way is ranking.explores:
        said.append("it is tried, since little is known of it and it may be better")
    if why:
        said.append(why)
    other = next((one for one in ranking.ways if one is not way), None)
    if other is not None:
        said.append(f"the next is {_told(other)}")
    if ranking.field.set_aside:
        said.append(f"{len(ranking.field.set_aside)} models are set aside")
    return "; ".join(said)


def _told(way: Way) -> str:
    cost = "price unknown" if way.cost_usd is None else f"${way.cost_usd:.2g}"
    time = "time unknown" if way.seconds is None else f"{way.seconds:.2g} s"
    over = ", ".join(repr(name) for name in way.names)
    return f"{way.strategy} over {over}, worth {way.score:.3f} ({way.quality:.0%} good, {cost}, {time})"
