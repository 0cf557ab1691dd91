"""What a run's budget makes of it: the worst case of its plan, what it asks to be admitted with, and its purse."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from app.core.budgets import AMOUNTS, NANO, NOTHING, Amount, Claim, Limit, LimitKind, Reserving, nano_usd
from app.core.errors import BudgetExceeded, InvalidRequest
from app.core.runs import Budget, RunRequest
from app.core.tools import ToolSpec
from app.observability import counting
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.reliability.forecast import Forecast, PlannedCall, forecast, input_bound
from app.reliability.purse import NO_BOUNDS, Bounds, Reserve, RunPurse

_TOKENS = AMOUNTS - {"usd_per_day"}


@dataclass(frozen=True, slots=True)
class Charge:
    """What a run is charged with. `claim` is None where only the request's own budget applies: then nobody else is asked.

    `forecast` is None, and the run has no purse, where neither tokens nor dollars are bounded; `stated` says whether it is
    the strategy's own word.
    """

    claim: Claim | None
    forecast: Forecast | None = None
    stated: bool = False

    def purse(self, request: RunRequest, granted: Amount = NOTHING, reserve: Reserve | None = None) -> RunPurse | None:
        """What the run draws on: its own budget and what it was granted of its caller's, whichever is less.

        `reserve` asks for more of its caller's, for calls that no plan holds.
        """
        if self.forecast is None:
            return None
        own, kinds = _own(request.budget), {limit.kind for limit in self.claim.limits} if self.claim else set[str]()
        partial = request.budget.on_budget == "best_so_far"
        return RunPurse(
            Bounds(
                _least(granted.tokens, own.tokens) if kinds & _TOKENS else own.tokens,
                _least(granted.nano_usd, own.nano_usd) if "usd_per_day" in kinds else own.nano_usd,
            ),
            strict=partial or not self.stated,
            ends_run=not partial,
            known_tokens=input_bound(request.messages, request.tools),
            own=own,
            reserve=reserve if kinds & AMOUNTS else None,
        )


def counts(limits: tuple[Limit, ...], budget: Budget) -> bool:
    """Whether tokens or dollars are bounded, so that a run's worst case matters."""
    return budget.bounded or any(limit.kind in AMOUNTS for limit in limits)


def counts_dollars(limits: tuple[Limit, ...], budget: Budget) -> bool:
    """Whether dollars are bounded, so that the prices of a run's models must be known."""
    return budget.cost_usd is not None or any(limit.kind == "usd_per_day" for limit in limits)


def charge(
    strategy: BaseOrchestrator, request: RunRequest, context: RunContext, limits: tuple[Limit, ...], *, counted: bool = True
) -> Charge:
    """What a run is charged with, checked against the budget of its own request. A refusal shows in the metrics if `counted`.

    Raises:
        InvalidRequest: dollars are bounded and a model has no known price.
        BudgetExceeded: the run's own budget does not hold its plan.
    """
    budget = request.budget
    if not counts(limits, budget):
        return Charge(Claim(context.run_id, request.tenant, limits))
    found, stated = foreseen(strategy, request, context)
    if strategy.loops_in(context):
        found = found.first_stage
    _check_prices(found, limits, budget)
    partial = budget.on_budget == "best_so_far"
    try:
        _check_own(found, budget, partial=partial)
    except BudgetExceeded:
        if counted:
            counting.run_over_own_budget()
        raise
    if not limits:
        return Charge(None, found, stated)
    ask = found.amount
    if partial:
        own = _own(budget)
        ask = Amount(_least(ask.tokens, own.tokens), _least(ask.nano_usd, own.nano_usd))
    return Charge(Claim(context.run_id, request.tenant, limits, ask, found.least if partial else None), found, stated)


def claim_of_call(spec: ToolSpec, tenant: str, limits: tuple[Limit, ...]) -> Claim | None:
    """What a tool that is called by itself asks of its caller's `limits`: its dollars, and to be one request more. None where
    it needs neither. An orchestration is a request as the run that it makes of itself."""
    kinds: set[LimitKind] = set()
    if spec.cost_usd:
        kinds.add("usd_per_day")
    if spec.source != "orchestration":
        kinds.add("requests_per_minute")
    found = tuple(limit for limit in limits if limit.kind in kinds)
    cost = Amount(0, nano_usd(spec.cost_usd))
    return Claim(f"call_{secrets.token_hex(12)}", tenant, found, cost) if found else None


def purse_inside(whole: Reserving | None, own: Budget, request: RunRequest) -> RunPurse | None:
    """What a run draws on that is a part of another: the other's purse (`whole`), within its `own` budget."""
    if whole is None and not own.bounded:
        return None
    known = input_bound(request.messages, request.tools)
    reserve = None if whole is None else whole.reserve
    return RunPurse(NO_BOUNDS, strict=True, ends_run=True, known_tokens=known, own=_own(own), reserve=reserve)


def check_prices(strategy: BaseOrchestrator, request: RunRequest, context: RunContext) -> None:
    """Nothing where the prices of all models that a run may ask are known.

    Raises:
        InvalidRequest: one is not.
    """
    found, _ = foreseen(strategy, request, context)
    if found.unpriced:
        names = ", ".join(repr(name) for name in found.unpriced)
        message = f"a budget in dollars applies, and the price of {names} is not known; state it under `models` in quorum.yaml"
        raise InvalidRequest(message, param="models")


def foreseen(strategy: BaseOrchestrator, request: RunRequest, context: RunContext) -> tuple[Forecast, bool]:
    """The worst case of the plan, and whether the strategy itself states it."""
    stated = strategy.worst_case(request, context)
    return forecast(_assumed(context) if stated is None else stated), stated is not None


def _assumed(context: RunContext) -> tuple[PlannedCall, ...]:
    """Of a strategy that does not say: each model once, and the lead once more about all their answers."""
    models = context.models
    lead = context.lead or models[0]
    asked = tuple(context.planned(model) for model in models)
    return (*asked, context.planned(lead, "synthesis", stage=2, quoting=len(models)))


def _check_prices(found: Forecast, limits: tuple[Limit, ...], budget: Budget) -> None:
    if not found.unpriced:
        return
    names = ", ".join(repr(name) for name in found.unpriced)
    fix = f"state the price of {names} under `models` in quorum.yaml, or choose other models"
    if budget.cost_usd is not None:
        message = f"budget.cost_usd cannot be kept: the price of {names} is not known; {fix}"
        raise InvalidRequest(message, param="budget.cost_usd")
    if any(limit.kind == "usd_per_day" for limit in limits):
        raise InvalidRequest(f"a daily budget in dollars applies, and the price of {names} is not known; {fix}", param="models")


def _check_own(found: Forecast, budget: Budget, *, partial: bool) -> None:
    need = found.least if partial else found.amount
    what = "even its cheapest call" if partial else "the plan"
    hint = "ask for less (max_tokens, fewer models), or raise it"
    if budget.tokens is not None and need.tokens > budget.tokens:
        message = f"{what} may use {need.tokens:,} tokens and budget.tokens is {budget.tokens:,}; {hint}"
        raise BudgetExceeded(message, param="budget.tokens")
    if budget.cost_usd is not None and need.nano_usd > nano_usd(budget.cost_usd):
        message = f"{what} may cost ${need.nano_usd / NANO:.6f} and budget.cost_usd is {budget.cost_usd:g}; {hint}"
        raise BudgetExceeded(message, param="budget.cost_usd")


def _least(value: int, bound: int | None) -> int:
    return value if bound is None else min(value, bound)


def _own(budget: Budget) -> Bounds:
    return Bounds(budget.tokens, None if budget.cost_usd is None else nano_usd(budget.cost_usd))
