"""What a request would run, cost and take, and whether it would be admitted now."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from app.core.budgets import NANO, Limit, Quota
from app.core.errors import BudgetExceeded, ErrorReport, LimitExceeded, StateUnavailable, report
from app.core.runs import PlanDecision, RunRequest
from app.core.usage import NO_USAGE, Usage
from app.observability.model_counts import usual_seconds
from app.orchestration.admission import Admission, refusal
from app.orchestration.base import BaseOrchestrator, Foreseen
from app.orchestration.charging import charge, foreseen
from app.orchestration.context import RunContext
from app.reliability.forecast import Forecast, PlannedCall, forecast


@dataclass(frozen=True, slots=True)
class CallEstimate:
    """A call that the plan may make, so many `times`, each at its worst. Calls of one `stage` run at once."""

    model: str
    provider: str
    role: str
    stage: int
    input_tokens: int
    output_tokens: int
    cost_usd: float | None
    times: int = 1


@dataclass(frozen=True, slots=True)
class Totals:
    """Over all calls. Dollars are None where a price is unknown, seconds where nothing was measured."""

    input_tokens: int
    output_tokens: int
    tokens: int
    cost_usd: float | None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Remaining:
    """How a limit of the caller stands; dollars in dollars. `resets_s` is None where no time makes it whole."""

    scope: str
    limit: str
    size: float
    remaining: float
    resets_s: float | None


@dataclass(frozen=True, slots=True)
class AdmissionEstimate:
    """Whether the run would be admitted now, else why not, and when it may be."""

    admitted: bool
    error: ErrorReport | None = None
    limits: tuple[Remaining, ...] = ()


@dataclass(frozen=True, slots=True)
class Estimate:
    """The forecast of a request. `worst_case` is what a budget reserves, `expected` what such a run usually takes."""

    plan: PlanDecision
    calls: tuple[CallEstimate, ...]
    worst_case: Totals
    expected: Totals
    admission: AdmissionEstimate
    object: str = "estimate"


async def estimated(
    strategy: BaseOrchestrator,
    request: RunRequest,
    context: RunContext,
    limits: tuple[Limit, ...],
    admission: Admission | None,
) -> Estimate:
    """The forecast of `request`.

    Raises:
        InvalidRequest: a bound in dollars applies and the price of a model is not known.
    """
    whole = strategy.at_most(request, context)
    found = foreseen(strategy, request, context)[0] if whole is None else forecast(whole.calls)
    told, plan = expected(found), strategy.plan(request, context)
    if whole is not None:
        return replace(
            _of_whole(whole, found, told, plan), admission=await _admitted(strategy, request, context, limits, admission)
        )
    if found.calls:
        plan = replace(plan, estimated_cost_usd=told.cost_usd, estimated_seconds=told.seconds)
    else:  # a tool alone: the plan knows what it takes
        told = replace(told, cost_usd=plan.estimated_cost_usd, seconds=plan.estimated_seconds)
    worst = Totals(
        sum(call.times * call.input_tokens for call in found.calls),
        sum(call.times * call.output_tokens for call in found.calls),
        found.tokens,
        None if found.nano_usd is None else found.nano_usd / NANO if found.calls else told.cost_usd,
    )
    return Estimate(
        plan,
        tuple(_call(call) for call in found.calls),
        worst,
        told,
        await _admitted(strategy, request, context, limits, admission),
    )


def _of_whole(whole: Foreseen, found: Forecast, told: Totals, plan: PlanDecision) -> Estimate:
    """The forecast of a run whose calls are reserved one by one. Where something cannot be foreseen it has no cost."""
    unforeseen = bool(whole.unknown)
    cost = None if found.nano_usd is None or unforeseen else found.nano_usd / NANO + whole.tools_usd
    usual = None if told.cost_usd is None or unforeseen else told.cost_usd + whole.tools_usd
    told = replace(told, cost_usd=usual)
    if unforeseen:
        plan = replace(plan, reason=f"{plan.reason}; not foreseen: {', '.join(whole.unknown)}")
    input_tokens = sum(call.times * call.input_tokens for call in found.calls)
    return Estimate(
        replace(plan, estimated_cost_usd=usual, estimated_seconds=told.seconds),
        tuple(_call(call) for call in found.calls),
        Totals(input_tokens, found.tokens - input_tokens, found.tokens, cost),
        told,
        AdmissionEstimate(admitted=True),
    )


async def _admitted(
    strategy: BaseOrchestrator,
    request: RunRequest,
    context: RunContext,
    limits: tuple[Limit, ...],
    admission: Admission | None,
) -> AdmissionEstimate:
    try:
        charged = charge(strategy, request, context, limits, counted=False) if limits or request.budget.bounded else None
        if admission is None or charged is None or charged.claim is None:
            return AdmissionEstimate(admitted=True)
        verdict = await admission.would(charged.claim)
    except (BudgetExceeded, StateUnavailable) as error:
        return AdmissionEstimate(admitted=False, error=report(error))
    stand = tuple(_remaining(quota) for quota in verdict.quotas)
    if verdict.refused_by is None:
        return AdmissionEstimate(admitted=True, limits=stand)
    refused: BudgetExceeded | LimitExceeded = refusal(verdict, charged.claim)
    return AdmissionEstimate(admitted=False, error=report(refused), limits=stand)


def expected(found: Forecast) -> Totals:
    """What the calls of `found` usually take."""
    usage, cost = NO_USAGE, 0.0
    slowest: dict[int, float] = defaultdict(float)
    timed = True
    for call in found.calls:
        usage += call.expected
        cost += call.model.price.cost(call.expected) if call.model.price else 0.0
        seconds = usual_seconds(call.model.name)
        timed = timed and seconds is not None and call.times == 1
        slowest[call.stage] = max(slowest[call.stage], seconds or 0.0)
    return _totals(usage, None if found.unpriced else cost, sum(slowest.values()) if timed else None)


def _totals(usage: Usage, cost_usd: float | None, seconds: float | None) -> Totals:
    return Totals(usage.input_tokens, usage.output_tokens, usage.total_tokens, cost_usd, seconds)


def _call(call: PlannedCall) -> CallEstimate:
    cost = None if call.nano_usd is None else call.nano_usd / NANO
    profile = call.model
    return CallEstimate(
        profile.name, profile.provider, call.role, call.stage, call.input_tokens, call.output_tokens, cost, call.times
    )


def _remaining(quota: Quota) -> Remaining:
    limit, unit = quota.limit, NANO if quota.limit.kind == "usd_per_day" else 1
    scope = limit.scope.partition(":")[0]
    return Remaining(scope, limit.kind, limit.size / unit, quota.remaining / unit, quota.resets_s)
