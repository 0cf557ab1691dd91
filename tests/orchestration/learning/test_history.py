"""How models do: what a run adds, what the sums say, and what strategies are told of it."""

from __future__ import annotations

import pytest

from app.core.errors import ErrorReport, FailureClass, ToolExecutionError, report
from app.core.runs import Candidate, OrchestrationOutput, Timing
from app.core.usage import Usage
from app.orchestration.learning.history import (
    Amounts,
    Sums,
    add,
    calibration_error,
    faded,
    of_confidence,
    of_judgement,
    performance,
    record,
)
from app.orchestration.learning.judging import RUN, Judgement
from app.orchestration.learning.tally import Tally, count
from tests.orchestration.learning.judged import judged_rows

MODEL = record("model", "m", "p")


def answer(latency_ms: float, **more: object) -> Candidate:
    made = {"status": "succeeded", "usage": Usage(10, 5), "cost_usd": 0.01, "latency_ms": latency_ms, **more}
    return Candidate("c1", "m", "p", **made)  # type: ignore[arg-type]


def failed(failure: FailureClass) -> Candidate:
    return Candidate("c1", "m", "p", status="failed", error=ErrorReport("ProviderError", failure, "no", failure=failure))


def summed(*candidates: Candidate, category: str | None = None) -> dict[str, Sums]:
    tallies: dict[str, Tally] = {}
    for candidate in candidates:
        result = OrchestrationOutput("run_1", "succeeded", "direct", candidates=(candidate,), timing=Timing(100.0))
        count(tallies, result, category)
    return {field: Sums(tally.amounts()) for field, tally in tallies.items()}


def test_times_are_told_to_a_tenth() -> None:
    sums = summed(*(answer(float(ms), ttft_ms=ms / 2) for ms in range(1, 1001)))[MODEL]
    for share, ms in ((0.5, 500), (0.95, 950), (0.99, 990)):
        assert sums.latency_ms(share) == pytest.approx(ms, rel=0.1)
        assert sums.ttft_ms(share) == pytest.approx(ms / 2, rel=0.1)
    assert (sums.calls, sums.answered, sums.cost_usd, sums.total("in")) == (1000, 1, pytest.approx(0.01), 10_000)


def test_what_says_nothing_of_a_model_is_not_counted() -> None:
    silent = [answer(5, cached=True), failed("invalid_request"), failed("breaker_open"), answer(5, status="cancelled")]
    silent.append(answer(5, status="failed", error=report(ToolExecutionError("it broke", tool="order"))))
    assert MODEL not in summed(*silent)
    assert summed(answer(5), failed("server_error"))[MODEL].answered == 0.5


def test_what_is_a_half_life_old_counts_half() -> None:
    sums = faded({"calls": 8.0, "ok": 4.0}, age_s=20, half_life_s=10)
    assert (sums.calls, sums.answered) == (2.0, 0.5)


def test_the_narrowest_record_that_says_enough_is_told() -> None:
    often = summed(*[answer(100.0)] * 30, category="law")
    seldom = summed(*[answer(900.0)] * 5, category="art")
    own = {**often, **{field: sums for field, sums in seldom.items() if "art" in field}}
    shared = summed(*[answer(300.0)] * 100)
    by_law, by_art = (performance(own, shared, ("m", "p"), category) for category in ("law", "art"))
    assert by_law is not None
    assert by_law.latency_p50_ms == pytest.approx(100, rel=0.1)
    assert by_art is not None
    assert by_art.latency_p50_ms == pytest.approx(100, rel=0.1)
    new = performance(summed(answer(900.0)), shared, ("m", "p"), None)
    assert new is not None
    assert new.latency_p50_ms == pytest.approx(300, rel=0.1)
    assert performance(own, shared, ("other", "p"), None) is None
    assert new.quality is None
    assert new.judged == 0


def test_judgements_count_and_are_taken_back_when_replaced() -> None:
    (row,) = judged_rows(1)
    right = {RUN: Judgement(1.0, score=1)}
    sums: dict[str, Amounts] = {}
    for before, after in (({}, right), (right, row.judgements), (row.judgements, right), (right, {})):
        for field, amounts in of_judgement(row.run, before, after).items():
            add(sums, field, amounts)
    assert all(value == pytest.approx(0) for amounts in sums.values() for value in amounts.values())


def test_the_calibration_error_is_the_mean_distance_of_confidence_and_outcome() -> None:
    amounts: Amounts = {}
    for confidence, right in [(0.95, True)] * 9 + [(0.95, False)] + [(0.25, False)] * 10:
        for name, amount in of_confidence(confidence, right=right, times=1).items():
            amounts[name] = amounts.get(name, 0) + amount
    assert calibration_error(amounts) == pytest.approx((10 * 0.05 + 10 * 0.25) / 20)
    assert calibration_error({}) is None


def test_a_calibration_error_is_never_more_than_one() -> None:
    """What is taken back later has faded less than what it takes back."""
    faded: Amounts = {name: 0.6 * amount for name, amount in of_confidence(0.65, right=True, times=1).items()}
    for amounts in (of_confidence(0.95, right=True, times=-1), of_confidence(0.65, right=True, times=-1)):
        for name, amount in amounts.items():
            faded[name] = faded.get(name, 0) + amount
    faded["n1"], faded["p1"], faded["r1"] = 0.5, 0.05, 0.5
    error = calibration_error(faded)
    assert error is not None
    assert 0 <= error <= 1
