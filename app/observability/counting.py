"""How runs, requests and calls of tools are counted when they end, and what was reserved, refused and learned.

Children are bound once per label set and kept, as in `model_counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

from app.core.budgets import Amount, Limit
from app.core.run_events import RunFailed, RunFinished
from app.core.runs import OrchestrationOutput
from app.observability.metrics import (
    ARTEFACTS,
    CALIBRATION_ERROR,
    CALIBRATION_JUDGED,
    HTTP_REQUESTS,
    HTTP_SECONDS,
    LEARNING_ROWS,
    RESERVED_TOKENS,
    RESERVED_USD,
    RUN_SECONDS,
    RUNS,
    RUNS_REFUSED,
    SETTLED_TOKENS,
    SETTLED_USD,
    TOOL_CALLS,
    TOOL_DECISIONS,
    TOOL_SECONDS,
    WASTED_COST,
)
from app.observability.model_counts import metrics_of
from app.observability.paces import tool_took

_MOST_SCOPES = 64
_SCOPES: set[str] = set()
_ARTEFACTS: dict[str, dict[str, str]] = {}


@lru_cache(maxsize=256)
def _run(strategy: str, status: str) -> Callable[[], None]:
    return RUNS.labels(strategy, status).inc


@lru_cache(maxsize=64)
def _run_seconds(strategy: str) -> Callable[[float], None]:
    return RUN_SECONDS.labels(strategy).observe


@lru_cache(maxsize=1024)
def http_answered(route: str, method: str, status: int) -> tuple[Callable[[], None], Callable[[float], None]]:
    """What counts one answered request, and what observes its seconds. `route` is the template, never the path."""
    return HTTP_REQUESTS.labels(route, method, str(status)).inc, HTTP_SECONDS.labels(route).observe


@lru_cache(maxsize=4096)
def _tool_outcome(tool: str, outcome: str) -> Callable[[], None]:
    return TOOL_CALLS.labels(tool, outcome).inc


@lru_cache(maxsize=1024)
def _tool_seconds(tool: str) -> Callable[[float], None]:
    return TOOL_SECONDS.labels(tool).observe


@lru_cache(maxsize=4096)
def _tool_decision(tool: str, effect: str) -> Callable[[], None]:
    return TOOL_DECISIONS.labels(tool, effect).inc


def tool_ended(tool: str, outcome: str, seconds: float) -> None:
    """Count a call of a tool. `outcome`: `ok`, or the code of its failure."""
    _tool_outcome(tool, outcome)()
    _tool_seconds(tool)(seconds)
    if outcome == "ok":
        tool_took(tool, seconds)


def tool_decided(tool: str, effect: str) -> None:
    """Count a permission that was asked for."""
    _tool_decision(tool, effect)()


def run_ended(end: RunFinished | RunFailed) -> None:
    """Count a run by its last event, with all that its result holds."""
    result = end.result
    if result is None:
        return
    _run(result.strategy, result.status)()
    _run_seconds(result.strategy)(result.timing.total_ms / 1000)
    _book(result)


def run_refused(limit: Limit) -> None:
    """A limit of a tenant or a key stood against a run."""
    RUNS_REFUSED.labels(limit.kind, limit.scope.partition(":")[0]).inc()


def run_over_own_budget() -> None:
    """A run's plan did not fit into the budget that its request gave it."""
    RUNS_REFUSED.labels("budget", "request").inc()


def reserved(amount: Amount) -> None:
    RESERVED_USD.inc(amount.usd)
    RESERVED_TOKENS.inc(amount.tokens)


def settled(held: Amount, used: Amount) -> None:
    """A reservation is over, of which so much was used."""
    RESERVED_USD.dec(held.usd)
    RESERVED_TOKENS.dec(held.tokens)
    SETTLED_USD.inc(used.usd)
    SETTLED_TOKENS.inc(used.tokens)


def learned(scope: str, rows: int, versions: Mapping[str, str]) -> None:
    """These versions, by kind, of what was learned in a scope are in force."""
    scope = _scope(scope)
    LEARNING_ROWS.labels(scope).set(rows)
    held = _ARTEFACTS.setdefault(scope, {})
    for kind, version in {**held, **versions}.items():
        if held.get(kind) not in (None, versions.get(kind)):
            ARTEFACTS.labels(scope, kind, held[kind]).set(0)
        if kind in versions:
            ARTEFACTS.labels(scope, kind, version).set(1)
    _ARTEFACTS[scope] = dict(versions)


def calibration(scope: str, error: float, judged: float) -> None:
    """How well the confidences of a scope are kept, as `judged` outcomes tell."""
    CALIBRATION_ERROR.labels(_scope(scope)).set(error)
    CALIBRATION_JUDGED.labels(_scope(scope)).set(judged)


def _scope(scope: str) -> str:
    """A tenant as a label: the first ones by their name, so that labels stay few."""
    if scope in _SCOPES or len(_SCOPES) < _MOST_SCOPES:
        _SCOPES.add(scope)
        return scope
    return "other"


def _book(result: OrchestrationOutput) -> None:
    for candidate in result.candidates:
        metrics_of(candidate.model).ended(candidate.status)
    for call in (*result.candidates, *result.calls):
        usage, model = call.usage, metrics_of(call.model)
        if usage.input_tokens:
            model.input(usage.input_tokens)
        if usage.output_tokens:
            model.output(usage.output_tokens)
        if usage.cached_input_tokens:
            model.cached(usage.cached_input_tokens)
        if usage.reasoning_tokens:
            model.reasoning(usage.reasoning_tokens)
        if call.cost_usd:
            model.cost(call.cost_usd)
    if result.wasted_cost_usd:
        WASTED_COST.labels(result.strategy).inc(result.wasted_cost_usd)
