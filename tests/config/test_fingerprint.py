from __future__ import annotations

from typing import Any

import pytest

from app.config.fingerprint import fingerprint
from app.config.spec import QuorumSpec

SPEC: dict[str, Any] = {
    "providers": {"p": {"kind": "openai", "api_key": "k", "base_url": "http://one/v1"}, "r": {"kind": "mock"}},
    "models": {"m": {"provider": "p", "model": "big"}},
    "recipes": {"panel": {"strategy": "simple", "models": ["m", "r/x"]}},
}


def of_panel(spec: dict[str, Any]) -> str:
    read = QuorumSpec.model_validate(spec)
    recipe = read.recipes["panel"]
    return fingerprint(read, recipe.models, recipe)


@pytest.mark.parametrize(
    "change",
    [
        {"recipes": {"panel": {"strategy": "simple", "models": ["m", "r/x"], "options": {"layers": 2}}}},
        {"models": {"m": {"provider": "p", "model": "small"}}},
        {"providers": {**SPEC["providers"], "r": {"kind": "mock", "options": {"latency_scale": 0}}}},
        {"providers": {**SPEC["providers"], "p": {"kind": "openai", "api_key": "k", "base_url": "http://two/v1"}}},
        {"prompts": {"judge": "another"}},
    ],
)
def test_it_changes_with_what_a_recipe_is_made_of(change: dict[str, Any]):
    assert of_panel(SPEC | change) != of_panel(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"providers": {**SPEC["providers"], "p": {**SPEC["providers"]["p"], "api_key": "new", "headers": {"x-key": "new"}}}},
        {"models": {**SPEC["models"], "other": {"provider": "p", "model": "other"}}},
    ],
)
def test_it_stays_with_another_key_and_other_models(change: dict[str, Any]):
    assert of_panel(SPEC | change) == of_panel(SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"planner": {"rules": [{"name": "a", "use": {"recipe": "panel"}}]}},
        {"recipes": {"panel": {"strategy": "simple", "models": ["m", "r/x"], "options": {"layers": 2}}}},
        {"models": {"m": {"provider": "p", "model": "small"}}},
    ],
)
def test_that_of_what_is_planned_changes_with_the_rules_and_all_that_they_may_run(change: dict[str, Any]):
    before, after = (QuorumSpec.model_validate(spec) for spec in (SPEC, SPEC | change))
    assert fingerprint(before, (), plans=True) != fingerprint(after, (), plans=True)
