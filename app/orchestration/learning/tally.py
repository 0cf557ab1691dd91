"""Counts what runs say of models and strategies, at the end of every run. `history` has the meaning of the amounts."""

from __future__ import annotations

from typing import Final

from app.core.errors import ErrorReport, ToolExecutionError
from app.core.runs import Candidate, HelperCall, OrchestrationOutput
from app.core.usage import Usage
from app.orchestration.learning.history import Amounts, bucket, record

_NOT_OF_THE_MODEL: Final = frozenset(
    {"invalid_request", "context_length", "content_filtered", "cancelled", "breaker_open", "pacing"}
)
"""Failures that say nothing of how a model is doing: the request was wrong, or no call was made."""


class Tally:
    """The amounts of a model or a strategy while they are counted, which happens at the end of every run."""

    __slots__ = ("calls", "cost", "first", "input", "latency", "ok", "output", "priced")

    def __init__(self) -> None:
        self.calls = self.ok = self.input = self.output = self.priced = 0
        self.cost = 0.0
        self.latency: dict[int, int] = {}
        self.first: dict[int, int] = {}

    def answered(self, usage: Usage, cost_usd: float | None, latency_ms: float, first_ms: float | None) -> None:
        self.calls += 1
        self.ok += 1
        self.input += usage.input_tokens
        self.output += usage.output_tokens
        if cost_usd is not None:
            self.cost += cost_usd
            self.priced += 1
        place = bucket(latency_ms)
        self.latency[place] = self.latency.get(place, 0) + 1
        if first_ms is not None:
            place = bucket(first_ms)
            self.first[place] = self.first.get(place, 0) + 1

    def failed(self) -> None:
        self.calls += 1

    def amounts(self) -> Amounts:
        named = {
            "calls": self.calls, "ok": self.ok, "in": self.input, "out": self.output, "cost": self.cost, "priced": self.priced
        }  # fmt: skip
        times = {
            f"{kind}{place}": count for kind, own in (("l", self.latency), ("t", self.first)) for place, count in own.items()
        }
        return {name: float(amount) for name, amount in (named | times).items() if amount}


def count(tallies: dict[str, Tally], result: OrchestrationOutput, category: str | None) -> None:
    """Count a run, by record. Answers from the cache, and calls that were cancelled, say nothing."""
    for call in result.candidates:
        _count_call(tallies, call, call.ttft_ms, category)
    for call in result.calls:
        _count_call(tallies, call, None, category)
    if result.status == "failed":
        _tally(tallies, record("strategy", result.strategy)).failed()
    elif result.status not in ("cancelled", "running"):
        timing = result.timing
        _tally(tallies, record("strategy", result.strategy)).answered(
            result.usage, result.cost_usd, timing.total_ms, timing.first_output_ms
        )


def _count_call(tallies: dict[str, Tally], call: Candidate | HelperCall, first_ms: float | None, category: str | None) -> None:
    good = call.status == "succeeded"
    if call.cached or not (good or call.status == "failed"):
        return
    if not good and call.error is not None and _not_of_the_model(call.error):
        return
    fields = (record("model", call.model, call.provider),)
    if category is not None:
        fields += (record("model", call.model, call.provider, category),)
    for field in fields:
        tally = _tally(tallies, field)
        if good:
            tally.answered(call.usage, call.cost_usd, call.latency_ms, first_ms)
        else:
            tally.failed()


def _not_of_the_model(error: ErrorReport) -> bool:
    """Whether a failure says nothing of the model: also where a tool failed that it had asked for."""
    return error.failure in _NOT_OF_THE_MODEL or error.type == ToolExecutionError.__name__


def _tally(tallies: dict[str, Tally], field: str) -> Tally:
    found = tallies.get(field)
    if found is None:
        found = tallies[field] = Tally()
    return found
