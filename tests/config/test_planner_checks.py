from __future__ import annotations

import pytest

from app.assembly.configuration import checks_of
from app.config.loading import Checks
from app.orchestration.strategies import Strategies
from tests.config.conftest import Faults, Load

BASE = """\
providers: {mock: {kind: mock}}
models: {fast: {provider: mock, model: mock-swift}}
recipes: {panel: {models: [fast]}, planned: {strategy: reliable}}
planner:
  rules:
    - name: a
      match: MATCH
      use: USE
"""


@pytest.fixture(scope="module")
def checks() -> Checks:
    return checks_of(Strategies(plugins=False))


def ruled(match: str = "{}", use: str = "{recipe: panel}") -> str:
    return BASE.replace("MATCH", match).replace("USE", use)


def told(faults: list[str]) -> list[str]:
    """Faults without their file and line."""
    return [fault.split(": ", 1)[1] for fault in faults]


@pytest.mark.parametrize(
    ("match", "fault"),
    [
        ("{matches: '(a+'}", "match.matches: is no pattern of RE2: missing ): (a+"),
        ("{matches: '(?=a)b'}", "match.matches: is no pattern of RE2: invalid perl operator: (?="),
        ("{attributes: {tier: {matches: '['}}}", "match.attributes.tier.matches: is no pattern of RE2: missing ]: ["),
        ("{attributes: {amount: {min: 5, max: 1}}}", "match.attributes.amount.max: is less than min (5), so nothing fits"),
        ("{attributes: {a..b: 1}}", "match.attributes.a..b: is no path of at most 256 characters, such as customer.tier"),
        ("{attributes: {tier: {}}}", "match.attributes.tier: tests nothing; give one of"),
        (
            "{attributes: {tier: {exists: false, min: 1}}}",
            "match.attributes.tier.exists: what is not there passes",
        ),
        (
            "{attributes: {tier: {is: gold}}}",
            "match.attributes.tier.is: is not a member; known here: 'contains'",
        ),
        ("{tokens: {min: 9, max: 8}}", "match.tokens.max: is less than min (9), so nothing fits"),
        ("{time: {zone: Mars/Base}}", "match.time.zone: there is no time zone 'Mars/Base'; write it like Europe/Berlin"),
        ("{time: {start: '25:00'}}", "match.time.start: '25:00' is no time of day; write it like 08:30"),
        ("{time: {days: [someday]}}", "match.time.days.0: 'someday' is not allowed; use one of 'fri'"),
        ("{when: tokens >}", "match.when: line 1"),
        ("{when: wishes > 1}", "match.when: there is no variable 'wishes' (line 1, column 1); there are attributes"),
        ("{when: 'tags.exists(t, t == \"x\")'}", "match.when: loops, and rules are looked at before anything else is done"),
        ("{any: [{all: [{not: {matches: '('}}]}]}", "match.any.0.all.0.not.matches: is no pattern of RE2"),
        ("{any: []}", "match.any: must not be empty"),
    ],
)
def test_what_a_rule_matches_is_checked_where_it_stands(faults_of: Faults, checks: Checks, match: str, fault: str) -> None:
    [found] = told(faults_of(ruled(match), checks=checks))
    assert found.lower().startswith(f"planner.rules.0.{fault}".lower())


@pytest.mark.parametrize(
    ("use", "fault"),
    [
        ("{}", "use: needs one of 'tool', 'recipe' and 'strategy'"),
        ("{tool: clock, recipe: panel}", "use: needs one of 'tool', 'recipe' and 'strategy'; 'recipe', 'tool' are given"),
        ("{recipe: panell}", "use.recipe: 'panell' is not a recipe; did you mean 'panel'?"),
        ("{recipe: planned}", "use.recipe: 'planned' is of strategy 'reliable', which plans itself"),
        ("{recipe: panel, models: [fast]}", "use.models: belongs to a strategy; this runs a recipe"),
        ("{strategy: reliable}", "use.strategy: 'reliable' plans itself; name another strategy"),
        ("{strategy: magic}", "use.strategy: there is no strategy 'magic'; there are adaptive"),
        ("{strategy: direct, models: [fsat]}", "use.models.0: 'fsat' is not a model; did you mean 'fast'?"),
        ("{strategy: consensus, options: {k: 0}}", "use.options.k: Input should be greater than or equal to 1"),
        ("{strategy: fallback, options: {chain: [{model: x}]}}", "use.options.chain.0.model: 'x' is not a model"),
        ("{tool: clocks}", "use.tool: 'clocks' is not a tool; did you mean 'clock'?"),
        ("{tool: clock@2}", "use.tool: 'clock@2' is not a tool"),
        ("{tool: calculator, arguments: {expression: '{sum}'}}", "use.arguments: {sum} stands for nothing; there are"),
        ("{tool: clock, options: {}}", "use.options: belongs to a strategy; this runs a tool"),
    ],
)
def test_what_a_rule_runs_is_checked_where_it_stands(faults_of: Faults, checks: Checks, use: str, fault: str) -> None:
    [found] = told(faults_of(ruled(use=use), checks=checks))
    assert found.startswith(f"planner.rules.0.{fault}")
    [behind] = told(faults_of(ruled(use=f"{{tool: clock}}\n      fallbacks: [{use}]"), checks=checks))
    assert behind.startswith(f"planner.rules.0.{fault.replace('use', 'fallbacks.0', 1)}")


def test_a_fault_has_its_line_and_rules_have_names_of_their_own(faults_of: Faults, checks: Checks) -> None:
    twice = ruled() + "    - {name: a, use: {tool: clock}}\n"
    assert faults_of(twice, checks=checks) == [
        "quorum.yaml:9:8: planner.rules.1.name: 'a' is the name of another rule too; every rule needs its own"
    ]


def test_a_default_that_plans_says_what_is_run_otherwise(faults_of: Faults, load_text: Load, checks: Checks) -> None:
    text = ruled() + "defaults: {strategy: reliable}\n"
    [found] = told(faults_of(text, checks=checks))
    assert found.startswith("defaults.strategy: the default strategy is 'reliable' itself")
    load_text(text.replace("planner:\n", "planner:\n  otherwise: {recipe: panel}\n"), checks=checks)


def test_tools_of_servers_are_known_later_and_all_others_now(load_text: Load, checks: Checks) -> None:
    load_text(ruled(use="{tool: files__read}") + "tools: {mcp: {files: {command: [serve]}}}\n", checks=checks)
    load_text(ruled(use="{tool: 'weather@2'}") + WEATHER, checks=checks)


WEATHER = """\
tools:
  hosts: [api.example.com]
  http:
    weather@2: {description: Tells., url: 'https://api.example.com/'}
"""
