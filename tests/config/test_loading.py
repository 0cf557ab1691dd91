from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from app.config.loading import Checks, json_schema, load
from app.core.errors import ConfigError
from app.providers.factory import provider_faults
from tests.config.conftest import Faults, Load

EXAMPLE = Path(__file__).parents[2] / "examples" / "quorum.yaml"


def test_a_configuration_becomes_a_specification(load_text: Load) -> None:
    spec = load_text("""
        version: 1
        providers: {mock: {kind: mock}}
        models:
          fast: {provider: mock, model: mock-swift, tags: [cheap]}
        recipes:
          panel: {strategy: simple, models: [fast, mock/other], options: {layers: 2}}
    """).spec
    assert spec.providers["mock"].kind == "mock"
    assert spec.models["fast"].tags == ("cheap",)
    assert spec.recipes["panel"].models == ("fast", "mock/other")
    assert spec.recipes["panel"].options == {"layers": 2}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_a_configuration_of_defaults(load_text: Load, text: str) -> None:
    assert load_text(text).spec.limits.max_models == 32


def test_a_misspelt_provider_is_named_with_its_line(faults_of: Faults) -> None:
    assert faults_of("""\
        providers:
          openai:
            kind: openai
        models:
          fast:
            model: gpt
            provider: opnai
    """) == ["quorum.yaml:7:5: models.fast.provider: 'opnai' is not a provider; did you mean 'openai'?"]


def test_all_faults_are_told_at_once_in_the_order_of_their_lines(faults_of: Faults) -> None:
    assert faults_of("""\
        providers:
          one:
            kind: opnai
            api_key: ${MISSING_KEY}
          two: {kind: mock, tmeouts: {}}
        modles: {}
        models:
          bad name: {provider: one}
          fast:
            provider: one
            model: ""
            price: {input: -1, output: much}
            context_window: 1.5
          fast:
            provider: one
        limits: 3
        keys:
          - name: key
            key: ${KEY:-abc}
            scopes: [run, amdin]
    """) == [
        "quorum.yaml:3:5: providers.one.kind: 'opnai' is not a kind of provider; did you mean 'openai'?",
        "quorum.yaml:4:14: providers.one.api_key: the environment variable MISSING_KEY is not set; "
        "set it, or write ${MISSING_KEY:-default}",
        "quorum.yaml:5:21: providers.two.tmeouts: is not a member; did you mean 'timeouts'?",
        "quorum.yaml:6:1: modles: is not a member; did you mean 'models'?",
        "quorum.yaml:8:3: models.bad name: is not a usable name; use letters, digits, . _ - and : / @ +, "
        "beginning with a letter or digit, at most 128 characters",
        "quorum.yaml:8:3: models.bad name: 'model' is missing",
        "quorum.yaml:11:5: models.fast.model: must not be empty",
        "quorum.yaml:12:13: models.fast.price.input: must be at least 0",
        "quorum.yaml:12:24: models.fast.price.output: must be a number",
        "quorum.yaml:13:5: models.fast.context_window: must be a whole number",
        "quorum.yaml:14:3: models.fast: stands twice, first in line 9; keep one of them",
        "quorum.yaml:16:1: limits: must be a mapping",
        "quorum.yaml:20:19: keys.0.scopes.1: 'amdin' is not allowed; did you mean 'admin'?",
    ]


def test_an_unknown_member_without_a_likeness_is_told_what_there_is(faults_of: Faults) -> None:
    assert faults_of("reliability: {zzz: 1}\n") == [
        "quorum.yaml:1:15: reliability.zzz: is not a member; "
        "known here: 'breaker', 'bulkhead', 'hedge', 'pace', 'repair', 'retry', 'retry_budget'",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [1\n", "2:1: not YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence"),
        (
            "a: {}\n\tb: {}\n",
            "2:1: not YAML: found character '\\t' that cannot start any token while scanning for the next token",
        ),
        ("limits: *base\n", "1:9: not YAML: found undefined alias 'base'"),
        ("a: 1\n---\nb: 2\n", "2:1: not YAML: but found another document expected a single document in the stream"),
        ("limits: {}\nx: a\x00b\n", "2:5: the character U+0000 is not allowed"),
        ("- a\n", "1:1: a configuration is a mapping; it starts with members such as 'providers:' and 'models:'"),
        ("[a, b]: 1\n", "1:1: a member's name must be a text"),
        (
            "keys: !!python/name:os.x x\n",
            "1:7: keys: the tag 'tag:yaml.org,2002:python/name:os.x' is not allowed; leave it out",
        ),
        ("limits: {max_models: !!int many}\n", "1:22: limits.max_models: cannot be read as int"),
    ],
)
def test_what_is_not_yaml_is_told_with_its_line(faults_of: Faults, text: str, fault: str) -> None:
    assert faults_of(text)[0] == f"quorum.yaml:{fault}"


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "quorum.yaml"
    path.write_bytes(b"limits: {}\n# caf\xe9\n")
    with pytest.raises(ConfigError) as raised:
        load(path, {})
    assert raised.value.faults == (f"{path}:2:6: not UTF-8",)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "none.yaml", {})
    assert raised.value.faults == (f"{tmp_path / 'none.yaml'}: no such file",)


def test_a_directory_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, {})
    assert raised.value.faults == (f"{tmp_path}: is a directory",)


class TestReferences:
    def test_are_filled_in_from_the_environment(self, load_text: Load) -> None:
        spec = load_text(
            """
            providers:
              one:
                kind: openai_compatible
                base_url: http://${HOST}:${PORT:-8080}/v1
                api_key: ${KEY}
                headers: {X-Plain: "$${HOST} costs $5"}
            """,
            {"HOST": "models.internal", "KEY": "secret"},
        ).spec
        one = spec.providers["one"]
        assert one.base_url == "http://models.internal:8080/v1"
        assert one.api_key is not None
        assert one.api_key.get_secret_value() == "secret"
        assert one.headers == {"X-Plain": "${HOST} costs $5"}

    def test_a_whole_one_has_the_type_of_what_it_says(self, load_text: Load) -> None:
        loaded = load_text(
            """
            limits:
              max_models: "${MOST}"
              max_choices: ${CHOICES:-4}
            providers:
              mock:
                kind: mock
                options:
                  number: ${N}
                  flag: ${F}
                  nothing: ${NONE:-}
                  quoted: "${N}"
                  text: n=${N}
            """,
            {"MOST": "7", "N": "0.5", "F": "true"},
        )
        assert (loaded.spec.limits.max_models, loaded.spec.limits.max_choices) == (7, 4)
        options = loaded.spec.providers["mock"].options
        assert options == {"number": 0.5, "flag": True, "nothing": None, "quoted": "0.5", "text": "n=0.5"}

    @pytest.mark.parametrize("key", ["0123", "1e5", "true", "2024-10-21", "1_000", "0x10", "12:30"])
    def test_where_a_text_is_wanted_it_stays_as_it_was_written(self, load_text: Load, key: str) -> None:
        spec = load_text("providers:\n  one:\n    kind: openai\n    api_key: ${KEY}\n", {"KEY": key}).spec
        secret = spec.providers["one"].api_key
        assert secret is not None
        assert secret.get_secret_value() == key

    def test_an_empty_variable_counts_as_unset_for_a_default(self, load_text: Load) -> None:
        spec = load_text("defaults: {strategy: '${S:-direct}'}", {"S": ""}).spec
        assert spec.defaults.strategy == "direct"

    def test_an_empty_default_leaves_the_member_out(self, load_text: Load) -> None:
        spec = load_text("providers:\n  one:\n    kind: openai\n    api_key: ${KEY:-}\n").spec
        assert spec.providers["one"].api_key is None

    def test_in_braces_they_must_be_quoted(self, faults_of: Faults) -> None:
        assert faults_of("limits: {max_models: ${MOST}}\n") == [
            'quorum.yaml:1:23: inside { } or [ ] a reference is quoted: "${NAME}"'
        ]

    @pytest.mark.parametrize("text", ["${}", "${A B}", "${9}", "${A-b}", "x ${open"])
    def test_a_malformed_one_is_a_fault(self, faults_of: Faults, text: str) -> None:
        faults = faults_of(f'defaults:\n  strategy: "{text}"\n')
        reference = text.removeprefix("x ")
        assert faults == [
            f"quorum.yaml:2:13: defaults.strategy: {reference!r} is not a reference; "
            "write ${NAME} or ${NAME:-default}, or $${ for a plain ${"
        ]

    def test_names_of_members_are_left_alone(self, faults_of: Faults) -> None:
        assert "is not a usable name" in faults_of("recipes: {'${A}': {}}", {"A": "x"})[0]


def test_plain_scalars_are_texts_where_texts_are_wanted(load_text: Load) -> None:
    spec = load_text("""
        providers:
          azure: {kind: openai_compatible, base_url: https://x.example, query: {api-version: 2024-10-21, v: 010}}
        models:
          4: {provider: azure, model: 4.10, tags: [2024, on]}
    """).spec
    assert spec.providers["azure"].query == {"api-version": "2024-10-21", "v": "010"}
    assert spec.models["4"].model == "4.10"
    assert spec.models["4"].tags == ("2024", "on")


class TestAliases:
    def test_and_merges_work(self, load_text: Load) -> None:
        spec = load_text("""
            providers:
              one: {kind: mock, timeouts: &slow {connect_s: 1, total_s: 9}}
              two: {kind: mock, timeouts: *slow}
              three: {kind: mock, timeouts: {<<: [*slow, {idle_s: 3}], total_s: 2}}
        """).spec
        assert spec.providers["two"].timeouts == spec.providers["one"].timeouts
        three = spec.providers["three"].timeouts
        assert (three.connect_s, three.idle_s, three.total_s) == (1, 3, 2)

    def test_that_multiply_are_refused(self, faults_of: Faults) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
        faults = faults_of("\n".join(lines) + "\n")
        assert len(faults) == 1
        assert "more than 100000 values once aliases are written out" in faults[0]

    def test_that_hold_themselves_are_refused(self, faults_of: Faults) -> None:
        assert "nested more than 64 deep once aliases are written out" in faults_of("keys: &a [*a]\n")[0]

    def test_that_merge_themselves_are_refused(self, faults_of: Faults) -> None:
        assert "merges itself" in " ".join(faults_of("limits: &a {<<: *a}\n"))

    def test_a_merge_of_something_else_is_a_fault(self, faults_of: Faults) -> None:
        assert faults_of("limits: {<<: 3}\n") == ["quorum.yaml:1:14: limits: '<<' takes a mapping, or a list of mappings"]


def test_a_deep_file_is_refused(faults_of: Faults) -> None:
    assert faults_of("keys: " + "[" * 5000) == ["quorum.yaml:1:70: nested more than 64 deep"]


def test_a_file_of_many_values_is_refused(faults_of: Faults) -> None:
    assert "more than 100000 values" in faults_of("keys: [" + "1," * 100_001 + "]")[0]


def test_a_large_file_is_refused(faults_of: Faults) -> None:
    assert faults_of("# " + "x" * 1_000_000) == ["quorum.yaml: larger than 1000000 bytes"]


@pytest.mark.parametrize(
    "text",
    [
        """providers: {one: {kind: "${CANARY}"}}""",
        "providers: {one: {kind: openai, timeouts: {connect_s: '${CANARY}'}}}",
        "providers: {one: {kind: openai, base_url: '${CANARY}'}}",
        "providers: {one: {kind: openai, api_key: ['${CANARY}']}}",
        "providers: {one: {kind: mock}}\nmodels: {fast: {provider: '${CANARY}', model: x}}",
        "recipes: {panel: {models: ['${CANARY}'], lead_model: '${CANARY}'}}",
        "keys: [{name: a, key: '${CANARY}'}, {name: b, key: '${CANARY}'}]",
        "keys: [{name: '${CANARY}', key: x}]",
    ],
)
def test_what_came_from_the_environment_is_never_told(faults_of: Faults, text: str) -> None:
    faults = faults_of(text, {"CANARY": "canary /secret"})
    assert faults
    assert "canary /secret" not in " ".join(faults)


def test_the_example_loads_as_it_stands_and_gives_no_warning() -> None:
    loaded = load(EXAMPLE, {}, checks=Checks(provider=provider_faults))
    assert loaded.warnings == ()
    assert loaded.spec.providers["openai"].api_key is None
    assert loaded.spec.providers["anthropic"].timeouts.first_token_s == 120
    assert loaded.spec.recipes["panel"].models == ("fast", "clever", "contrary")


def test_the_schema_accepts_the_example_and_refuses_a_misspelt_member() -> None:
    schema = json_schema()
    validator = jsonschema_rs.validator_for(schema)
    example = yaml.safe_load(EXAMPLE.read_text())
    example["providers"]["azure"]["query"]["api-version"] = "2024-10-21"
    for provider in example["providers"].values():
        provider.pop("timeouts", None)
    assert schema["title"] == "Quorum configuration"
    assert [error.message for error in validator.iter_errors(example)] == []
    assert not validator.is_valid({"modles": {}})
    assert not validator.is_valid({"limits": {"max_models": "many"}})
    assert validator.is_valid({"limits": {"max_models": "${MOST:-3}"}})
