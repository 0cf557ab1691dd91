from __future__ import annotations

import pytest

from app.config.loading import Checks, check_spec
from app.config.spec import LLMProvider, ModelConfig, OrchestratorConfig, QuorumSpec
from app.core.errors import ConfigError
from app.providers.factory import provider_faults
from tests.config.conftest import Faults, Load

MOCK = """\
providers: {mock: {kind: mock}}
models:
  fast: {provider: mock, model: mock-swift}
"""


def test_a_recipe_names_models_that_are_there(faults_of: Faults) -> None:
    text = """\
recipes:
  panel:
    models: [fast, fsat, mock/any, other/any, panel]
    lead_model: nobody
"""
    assert faults_of(MOCK + text) == [
        "quorum.yaml:6:20: recipes.panel.models.1: 'fsat' is not a model; did you mean 'fast'?",
        "quorum.yaml:6:36: recipes.panel.models.3: 'other/any' is not a model; models here: 'fast'",
        "quorum.yaml:6:47: recipes.panel.models.4: 'panel' is a recipe; name a model",
        "quorum.yaml:7:5: recipes.panel.lead_model: 'nobody' is not a model; models here: 'fast'",
    ]


def test_defaults_name_models_that_are_there(faults_of: Faults) -> None:
    assert faults_of(MOCK + "defaults: {models: [fast, slow], lead_model: fats}\n") == [
        "quorum.yaml:4:27: defaults.models.1: 'slow' is not a model; models here: 'fast'",
        "quorum.yaml:4:34: defaults.lead_model: 'fats' is not a model; did you mean 'fast'?",
    ]


def test_a_recipe_is_not_called_like_a_model(faults_of: Faults) -> None:
    assert faults_of(MOCK + "recipes:\n  fast: {}\n") == [
        "quorum.yaml:5:3: recipes.fast: 'fast' is a model too; a request could not tell them apart, so rename one"
    ]


def test_the_service_s_own_names_are_reserved(faults_of: Faults) -> None:
    text = """\
providers: {quorum: {kind: mock}}
models:
  quorum/simple: {provider: quorum, model: x}
recipes:
  quorum: {}
"""
    assert faults_of(text) == [
        "quorum.yaml:1:13: providers.quorum: the name 'quorum' is reserved for quorum/<strategy>; choose another",
        "quorum.yaml:3:3: models.quorum/simple: names under quorum/ are reserved for strategies; choose another",
        "quorum.yaml:5:3: recipes.quorum: the name 'quorum' is reserved; choose another",
    ]


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        ("base_url: api.example.com", "base_url: is not a URL; write it like https://api.example.com/v1"),
        ("base_url: ftp://example.com", "base_url: is not a URL; write it like https://api.example.com/v1"),
        ("base_url: 'http://[::1'", "base_url: is not a URL; write it like https://api.example.com/v1"),
        ("base_url: https://me:pass@example.com", "base_url: holds a credential; put it into 'api_key' or 'headers'"),
        ("base_url: https://token@example.com", "base_url: holds a credential; put it into 'api_key' or 'headers'"),
        ("base_url: https://example.com?x=1", "base_url: holds a query; put it into 'query'"),
        ('headers: {X-A: "a\\nb"}', "headers.X-A: a header's value is one line of ASCII"),
        ("headers: {'X A': b}", "headers.X A: is not a header's name"),
        ("headers: {Content-Length: '3'}", "headers.Content-Length: is decided by the connection; leave it out"),
        ("headers: {X-A: b, x-a: c}", "headers.x-a: is the same header as 'X-A'; leave one out"),
    ],
)
def test_what_a_provider_is_reached_by_is_checked(faults_of: Faults, member: str, fault: str) -> None:
    faults = faults_of(f"providers:\n  one:\n    kind: openai\n    {member}\n")
    assert [line.split(": ", 1)[1] for line in faults] == [f"providers.one.{fault}"]


def test_a_provider_of_the_openai_dialect_has_a_vendor_or_an_address(faults_of: Faults) -> None:
    assert faults_of("providers:\n  one: {kind: openai_compatible}\n") == [
        "quorum.yaml:2:3: providers.one: openai_compatible needs 'vendor' or 'base_url'"
    ]


def test_vendors_and_options_are_checked_by_the_providers(faults_of: Faults) -> None:
    text = """\
providers:
  a: {kind: openai_compatible, vendor: grok}
  b: {kind: openai_compatible, vendor: azure}
  c: {kind: anthropic, vendor: groq}
  d:
    kind: mock
    options: {latency_scale: fast}
  e:
    kind: replay
    options: {}
  f:
    kind: openai
    options: {file: x}
"""
    faults = faults_of(text, checks=Checks(provider=provider_faults))
    assert faults[:3] == [
        "quorum.yaml:2:32: providers.a.vendor: 'grok' is not a vendor; did you mean 'groq'?",
        "quorum.yaml:3:3: providers.b: 'azure' has an address for each customer; set 'base_url'",
        "quorum.yaml:4:24: providers.c.vendor: goes with openai_compatible alone, not with anthropic",
    ]
    assert faults[3].startswith("quorum.yaml:7:5: providers.d.options: latency_scale: ")
    assert faults[4].startswith("quorum.yaml:10:5: providers.e.options: file: ")
    assert faults[5] == ("quorum.yaml:13:5: providers.f.options: mean nothing to a provider of kind 'openai'; leave them out")


def test_recipes_are_checked_by_the_strategies(faults_of: Faults) -> None:
    def recipe(config: OrchestratorConfig) -> list[tuple[tuple[str | int, ...], str]]:
        found: list[tuple[tuple[str | int, ...], str]] = []
        if config.strategy != "simple":
            found.append((("strategy",), f"{config.strategy!r} is not a strategy"))
        found += [(("options", name), "is not an option") for name in config.options]
        return found

    text = """\
recipes:
  panel:
    options:
      layres: 2
  other: {strategy: smiple}
defaults:
  strategy: dirct
"""
    assert faults_of(text, checks=Checks(recipe=recipe)) == [
        "quorum.yaml:4:7: recipes.panel.options.layres: is not an option",
        "quorum.yaml:5:11: recipes.other.strategy: 'smiple' is not a strategy",
        "quorum.yaml:7:3: defaults.strategy: 'dirct' is not a strategy",
    ]


def test_recipes_stay_within_the_limits(faults_of: Faults) -> None:
    text = """\
limits: {max_models: 1, max_default_models: 2, max_tokens: 100}
recipes:
  panel:
    models: [fast, mock/b]
    generation: {max_tokens: 200}
"""
    assert faults_of(MOCK + text) == [
        "quorum.yaml:4:25: limits.max_default_models: is more than limits.max_models (1)",
        "quorum.yaml:7:5: recipes.panel.models: 2 models are more than limits.max_models (1)",
        "quorum.yaml:8:18: recipes.panel.generation.max_tokens: 200 is more than limits.max_tokens (100)",
    ]


def test_every_key_is_its_own_and_its_value_is_not_told(faults_of: Faults) -> None:
    text = """\
keys:
  - {name: a, key: same-secret-value}
  - {name: b, key: same-secret-value}
  - {name: a, key: ''}
"""
    assert faults_of(text) == [
        "quorum.yaml:3:15: keys.1.key: is the same key as keys.0; every key needs its own",
        "quorum.yaml:4:6: keys.2.name: is the name of keys.0 too; every key needs its own",
        "quorum.yaml:4:15: keys.2.key: must not be empty",
    ]


def test_the_placeholders_of_an_analysis_are_known(faults_of: Faults) -> None:
    text = """\
analyses:
  good: {prompt: "{question} {answers}, as JSON like {\\"a\\": 1}"}
  bad: {prompt: "{question} {anwsers}"}
"""
    assert faults_of(text) == [
        "quorum.yaml:3:9: analyses.bad.prompt: {anwsers} stands for nothing; did you mean 'answers'?",
        "quorum.yaml:3:9: analyses.bad.prompt: the placeholder {answers} is missing",
    ]


def test_prompts_replace_built_in_ones_and_use_their_placeholders(faults_of: Faults) -> None:
    checks = Checks(prompts={"synthesis": frozenset({"question", "answers"})})
    assert faults_of("prompts:\n  synthesis: 'say {this}'\n  synthsis: x\n", checks=checks) == [
        "quorum.yaml:2:3: prompts.synthesis: {this} stands for nothing; placeholders here: 'answers', 'question'",
        "quorum.yaml:3:3: prompts.synthsis: is not a built-in prompt; did you mean 'synthesis'?",
    ]


def test_secrets_in_the_file_and_short_keys_are_warned_of(load_text: Load) -> None:
    text = """\
providers:
  one: {kind: openai, api_key: sk-in-the-file}
  two:
    kind: openai
    api_key: ${KEY}
keys:
  - {name: a, key: short}
"""
    assert load_text(text, {"KEY": "x"}).warnings == (
        "quorum.yaml:2:23: providers.one.api_key: a credential stands in the file; write ${NAME} and set it in the environment",
        "quorum.yaml:7:15: keys.0.key: a key stands in the file; write ${NAME} and set it in the environment",
        "quorum.yaml:7:15: keys.0.key: the key is shorter than 16 characters and can be guessed",
    )


def test_a_specification_made_in_python_is_checked_too() -> None:
    spec = QuorumSpec(providers={"mock": LLMProvider(kind="mock")}, models={"a": ModelConfig(provider="mick", model="x")})
    with pytest.raises(ConfigError) as raised:
        check_spec(spec)
    assert raised.value.faults == ("models.a.provider: 'mick' is not a provider; did you mean 'mock'?",)
