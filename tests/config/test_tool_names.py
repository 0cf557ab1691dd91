"""Tools that a configuration names, in rules, recipes and plans, are tools that it has."""

from __future__ import annotations

import pytest

from app.assembly.configuration import all_strategies, checks_of
from app.config.loading import Checks
from app.tools.python_tools import tool
from tests.config.conftest import Faults, Load

BASE = """\
providers: {mock: {kind: mock}}
models: {fast: {provider: mock, model: mock-swift}}
tools:
  hosts: [api.example.com]
  python: ["tests.config.test_tool_names:stock"]
  http:
    weather: {description: Tells., url: 'https://api.example.com/'}
    weather@2: {description: Tells., url: 'https://api.example.com/2'}
  mcp: {files: {command: [serve]}}
  bundles:
    verdict: {description: Judges., strategy: tools, models: [fast], options: {tools: [OF_A_BUNDLE]}}
  permissions:
    - {effect: deny, tools: [OF_A_RULE]}
workflows:
  letter: {as_tool: {description: Writes.}, steps: {one: {transform: {value: x}}}}
recipes:
  helper: {strategy: tools, models: [fast], options: {tools: [clock, OF_A_RECIPE]}}
  panel: {strategy: consensus, models: [fast], options: {tools: [OF_A_PANEL]}}
  direct: {strategy: reliable, options: {tool_name: RUN_DIRECTLY}}
planner:
  rules:
    - {name: a, use: {tool: OF_A_PLAN}, fallbacks: [{strategy: tools, options: {tools: [OF_A_FALLBACK]}}]}
  otherwise: {tool: OTHERWISE}
"""
PLACES = {
    "OF_A_RULE": "tools.permissions.0.tools.0",
    "OF_A_RECIPE": "recipes.helper.options.tools.1",
    "OF_A_PANEL": "recipes.panel.options.tools.0",
    "OF_A_BUNDLE": "tools.bundles.verdict.options.tools.0",
    "RUN_DIRECTLY": "recipes.direct.options.tool_name",
    "OF_A_PLAN": "planner.rules.0.use.tool",
    "OF_A_FALLBACK": "planner.rules.0.fallbacks.0.options.tools.0",
    "OTHERWISE": "planner.otherwise.tool",
}


@tool(version="1.1", side_effect="read")
def stock(sku: str) -> int:
    """How many there are."""
    return len(sku)


@pytest.fixture(scope="module")
def checks() -> Checks:
    return checks_of(all_strategies())


def written(place: str = "", name: str = "") -> str:
    """A configuration that names `name` at `place`, and a tool that there is everywhere else."""
    text = BASE.replace(place, name) if place else BASE
    for other in PLACES:
        text = text.replace(other, "calculator")
    return text


@pytest.mark.parametrize("place", PLACES)
def test_a_tool_that_there_is_not_is_told_where_it_is_named(faults_of: Faults, checks: Checks, place: str) -> None:
    [fault] = faults_of(written(place, "claculator"), checks=checks)
    then = ", so no call fits the rule by it" if place == "OF_A_RULE" else ""
    assert fault.split(": ", 1)[1] == f"{PLACES[place]}: 'claculator' is not a tool{then}; did you mean 'calculator'?"


@pytest.mark.parametrize(
    "name", ["weather", "weather@1", "weather@2.0.0", "stock@1", "files__whatever", "letter", "http_fetch"]
)
@pytest.mark.parametrize("place", PLACES)
def test_those_of_every_source_are_there(load_text: Load, checks: Checks, place: str, name: str) -> None:
    load_text(written(place, name), checks=checks)


def test_a_version_that_there_is_not_is_told_with_those_that_are(faults_of: Faults, checks: Checks) -> None:
    [fault] = faults_of(written("OF_A_RULE", "weather@3"), checks=checks)
    assert fault.endswith("'weather@3' is not a tool, so no call fits the rule by it; of 'weather' there is 2.0.0, 1.0.0")


def test_a_tool_of_a_server_that_there_is_not_is_none(faults_of: Faults, checks: Checks) -> None:
    [fault] = faults_of(written("OF_A_PLAN", "flies__read"), checks=checks)
    assert "planner.rules.0.use.tool: 'flies__read' is not a tool; tools here: 'calculator'" in fault


def test_a_pattern_may_fit_what_comes_later(load_text: Load, checks: Checks) -> None:
    load_text(written("OF_A_RULE", "'orders_*'"), checks=checks)


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        ("- {effect: deny, when: 'arguments.a <<= 3'}", "tools.permissions.1.when: line 1"),
        ("- {effect: deny, tools: [calculatr], when: 'a >'}", "tools.permissions.1.when: line 1"),
    ],
)
def test_what_is_wrong_with_a_tool_itself_is_told_first(faults_of: Faults, checks: Checks, member: str, fault: str) -> None:
    [found] = faults_of(written().replace("workflows:", f"    {member}\nworkflows:"), checks=checks)
    assert found.split(": ", 1)[1].startswith(fault)


@pytest.mark.parametrize(
    "asked", ["strategy: consensus, options: {tools: [verdict]}", "strategy: reliable, options: {tool_name: verdict}"]
)
def test_a_bundle_that_asks_for_itself_by_a_panel_or_a_planner_is_refused(
    faults_of: Faults, checks: Checks, asked: str
) -> None:
    text = written().replace("strategy: tools, models: [fast], options: {tools: [calculator]}", asked, 1)
    [found] = faults_of(text, checks=checks)
    assert "tools.bundles.verdict: asks for itself: verdict -> verdict" in found
