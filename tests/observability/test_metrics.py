"""What operators see."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from app.core.chat import Attempt
from app.core.run_events import RunFinished
from app.core.runs import Candidate, HelperCall, OrchestrationOutput, Timing
from app.core.usage import Usage
from app.observability import counting, metrics, model_counts


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_an_attempt_counts_its_outcome_its_seconds_and_its_first_token() -> None:
    seen = model_counts.AttemptMetrics("prov", "attempted")
    seen.attempt("ok", 0.2, 0.1)
    seen.attempt("ok", 0.4, None)
    seen.attempt("timeout", 3.0, None)
    who = {"provider": "prov", "model": "attempted"}
    assert value("quorum_attempts_total", **who, outcome="ok") == 2
    assert value("quorum_attempts_total", **who, outcome="timeout") == 1
    assert (value("quorum_attempt_seconds_count", **who), value("quorum_ttft_seconds_count", **who)) == (3, 1)
    assert value("quorum_attempt_seconds_bucket", **who, le="0.25") == 1


def test_how_long_a_model_takes_is_told_whatever_settings_it_is_called_with() -> None:
    plain = model_counts.AttemptMetrics("prov", "timed")
    plain.attempt("ok", 1.0, None)
    tuned = model_counts.AttemptMetrics("prov", "timed")
    assert model_counts.usual_seconds("timed") == 1.0
    tuned.attempt("ok", 2.0, None)
    assert model_counts.usual_seconds("timed") == 1.2
    del tuned
    plain.attempt("ok", 1.2, None)
    assert model_counts.usual_seconds("timed") == 1.2
    plain.attempt("ok", 2.2, None)
    assert model_counts.usual_seconds("timed") == pytest.approx(1.4)


def test_models_that_only_requests_name_are_counted_together_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_counts, "_LABELS", model_counts.ModelLabels())
    names = {model_counts.model_label(f"flood/{number}") for number in range(1_000)}
    assert len(names) == 101
    assert [model_counts.model_label(name) for name in ("flood/0", "flood/999")] == ["flood/0", "other"]
    model_counts.configured_models(["late", "up/late"])
    assert [model_counts.model_label(name) for name in ("late", "up/late")] == ["late", "up/late"]
    before = value("quorum_breaker_transitions_total", provider="up", model="other", to="open")
    model_counts.breaker_changed("up", "flooded", "open")
    assert value("quorum_breaker_transitions_total", provider="up", model="other", to="open") == before + 1
    assert REGISTRY.get_sample_value("quorum_breaker_state", {"provider": "up", "model": "other"}) is None


def test_a_runs_candidates_helpers_tokens_and_waste_are_booked_from_its_result() -> None:
    usage = Usage(10, 4, cached_input_tokens=3, reasoning_tokens=2)
    candidates = (
        Candidate("c1", "booked", "p", status="succeeded", usage=usage, cost_usd=0.5, attempts=(Attempt(0, 1, "ok"),)),
        Candidate("c2", "booked", "p", status="cancelled"),
    )
    helper = HelperCall("judge", "booked", "p", "succeeded", Usage(1, 1), 0.25)
    result = OrchestrationOutput(
        "run_1", "succeeded", "booking", candidates=candidates, calls=(helper,), wasted_cost_usd=0.125, timing=Timing(1500)
    )
    counting.run_ended(RunFinished(result=result))
    assert value("quorum_runs_total", strategy="booking", status="succeeded") == 1
    assert value("quorum_run_seconds_sum", strategy="booking") == 1.5
    assert value("quorum_candidates_total", model="booked", status="succeeded") == 1
    assert value("quorum_candidates_total", model="booked", status="cancelled") == 1
    tokens = {
        kind: value("quorum_tokens_total", model="booked", kind=kind)
        for kind in ("input", "output", "cached_input", "reasoning")
    }
    assert tokens == {"input": 11, "output": 5, "cached_input": 3, "reasoning": 2}
    assert value("quorum_cost_usd_total", model="booked") == 0.75
    assert value("quorum_wasted_cost_usd_total", strategy="booking") == 0.125


def test_an_end_without_a_result_counts_nothing() -> None:
    before = metrics.exposition()[0]
    counting.run_ended(RunFinished())
    kept = [line for line in before.splitlines() if line.startswith(b"quorum_")]
    assert [line for line in metrics.exposition()[0].splitlines() if line.startswith(b"quorum_")] == kept


def test_the_exposition_can_be_read_and_every_metric_says_what_it_is() -> None:
    text, kind = metrics.exposition()
    assert kind.startswith("text/plain")
    families = [family for family in text_string_to_metric_families(text.decode()) if family.name.startswith("quorum_")]
    assert len(families) > 10
    assert all(family.documentation for family in families)
