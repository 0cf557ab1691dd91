from __future__ import annotations

import textwrap

import pytest

from app.assembly.configuration import checks_of
from app.config.loading import Checks
from app.orchestration.strategies import Strategies
from tests.config.conftest import Faults

HEAD = """\
providers: {mock: {kind: mock}}
recipes:
  panel: {strategy: simple}
  around: {strategy: tools, options: {tools: [other]}}
  many: {strategy: tools, options: {tools: ["*"]}}
tools:
  http: {}
  bundles:
"""


def told(faults_of: Faults, bundles: str, checks: Checks | None = None) -> list[str]:
    text = HEAD + textwrap.indent(textwrap.dedent(bundles), "    ")
    found = faults_of(text, checks=checks or checks_of(Strategies()))
    return [fault.split(": ", 1)[1].removeprefix("tools.bundles.") for fault in found]


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ("{}", "verdict: needs either 'recipe', or 'strategy'"),
        ("{recipe: panel, strategy: simple}", "verdict: needs either 'recipe', or 'strategy'"),
        ("{recipe: pannel}", "verdict.recipe: 'pannel' is not a recipe; did you mean 'panel'"),
        ("{recipe: panel, models: [mock/mock-swift]}", "verdict.models: is the recipe's; leave it out"),
        ("{strategy: smple}", "verdict.strategy: there is no strategy 'smple'"),
        ("{strategy: simple, options: {analisis: x}}", "verdict.options.analisis: is no option"),
        ("{strategy: simple, models: [nothing/at-all]}", "verdict.models.0: 'nothing/at-all' is not a model"),
        (
            "{strategy: fallback, models: [mock/mock-swift], options: {chain: [{model: mock/mock-terse}]}}",
            "verdict.models: the options name the models already",
        ),
        ("{recipe: panel, k: 0}", "verdict.k:"),
        ("{recipe: panel, epsilon: 0.1}", "verdict.epsilon: is for answers that can be counted"),
        ("{recipe: panel, schema: {type: nothing}}", "verdict.schema: is no JSON schema"),
        ("{recipe: panel, input: {type: array}}", "verdict.input: is not of type object"),
        ("{recipe: panel, prompt: '{text}'}", "verdict.prompt: {text} stands for nothing"),
        ("{recipe: panel, seeds: [1, 2, 3, 4]}", "verdict.seeds: are more than the replicates (k is 3)"),
        ("{recipe: panel, budget: {seconds: 120}}", "verdict.budget.seconds: must be less than timeout_s (120)"),
        (
            "{recipe: panel, budget: {seconds: 9}, replicate_budget: {seconds: 10}}",
            "verdict.replicate_budget.seconds: is more than all may take together (9)",
        ),
    ],
)
def test_what_a_bundle_tool_is_made_of_is_checked(faults_of: Faults, members: str, fault: str) -> None:
    found = told(faults_of, f"verdict: {members.replace('{', '{description: Says., ', 1).replace(', }', '}')}")
    assert any(one.startswith(fault) for one in found), found


def test_more_models_than_its_strategy_takes_are_refused(faults_of: Faults) -> None:
    two = "two: {description: x, strategy: direct, models: [mock/mock-careful, mock/mock-swift]}"
    found = told(faults_of, f"{two}\nother: {{description: x, recipe: panel}}")
    assert found == ["two.models: 2 are named, and the strategy 'direct' takes 1"]


@pytest.mark.parametrize(
    ("bundles", "fault"),
    [
        ("calculator: {description: x, recipe: panel}", "calculator: 'calculator' is a built-in tool"),
        (
            "a: {description: x, recipe: panel}\na@1.0: {description: x, recipe: panel}",
            "a@1.0: there is another tool a@1.0.0; give it another name or version",
        ),
    ],
)
def test_names_are_taken_once(faults_of: Faults, bundles: str, fault: str) -> None:
    [found] = told(faults_of, bundles)
    assert found.startswith(fault)


def test_a_tool_that_asks_for_itself_is_refused_and_the_way_is_told(faults_of: Faults) -> None:
    found = told(
        faults_of,
        """\
        one: {description: x, recipe: around}
        other: {description: x, strategy: tools, options: {tools: ["one@1", clock]}}
        third: {description: x, strategy: tools, options: {tools: [one]}}
        wide: {description: x, recipe: many}
        """,
    )
    assert found == [
        "one: asks for itself: one -> other -> one; leave one of them out of options.tools",
        "other: asks for itself: other -> one -> other; leave one of them out of options.tools",
    ]
