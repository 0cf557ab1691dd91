"""Reliability settings: general ones, a provider's over them, a model's over those."""

from __future__ import annotations

import yaml

from app.config.calls import call_config
from app.config.spec import QuorumSpec
from tests.config.conftest import Faults

GIVEN = """
reliability:
  retry: {max_retries: 1, base_s: 0.1}
  bulkhead: {max_concurrent: 50}
providers:
  one:
    kind: openai
    api_key: k
    reliability:
      retry: {base_s: 0.2}
      breaker: {enabled: false}
      bulkhead: {max_concurrent: 5}
models:
  plain: {provider: one, model: x}
  own:
    provider: one
    model: y
    reliability:
      retry: {max_retries: 4}
      breaker: {enabled: true, min_calls: 3}
      bulkhead: {max_concurrent: 2}
"""


def test_each_member_comes_from_the_nearest_place_that_has_it() -> None:
    spec = QuorumSpec.model_validate(yaml.safe_load(GIVEN))
    provider = spec.providers["one"]
    plain = call_config(spec.reliability, provider, spec.models["plain"])
    assert (plain.retry.max_retries, plain.retry.base_s, plain.breaker.enabled) == (1, 0.2, False)
    assert (plain.provider_bulkhead.max_concurrent, plain.model_bulkhead.max_concurrent) == (5, None)
    own = call_config(spec.reliability, provider, spec.models["own"])
    assert (own.retry.max_retries, own.retry.base_s, own.breaker.enabled, own.breaker.min_calls) == (4, 0.2, True, 3)
    assert (own.provider_bulkhead.max_concurrent, own.model_bulkhead.max_concurrent) == (5, 2)
    assert own.credential == "k"
    assert call_config(spec.reliability, None, None).retry.max_retries == 1


def test_what_does_not_go_together_is_a_fault_where_it_was_written(faults_of: Faults) -> None:
    text = """
        reliability: {breaker: {max_open_s: 30}}
        providers: {one: {kind: mock}}
        models: {m: {provider: one, model: x, reliability: {breaker: {open_s: 60}}}}
    """
    (fault,) = faults_of(text)
    assert "max_open_s (30) is less than open_s (60)" in fault
    assert "models.m.reliability.breaker" in fault


def test_numbers_out_of_bounds_and_unknown_members_are_faults(faults_of: Faults) -> None:
    assert "at most 1" in faults_of("reliability: {retry_budget: {share: 2}}\n")[0]
    assert "retries" in faults_of("reliability: {retry: {retries: 2}}\n")[0]
    assert faults_of("reliability: {bulkhead: {max_concurrent: 0}}\n")
