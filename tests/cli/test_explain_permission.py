from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.core.errors import InvalidRequest, NotFound

CONFIG = """\
recipes:
  travel: {strategy: tools}
tools:
  hosts: [shop.test]
  http:
    order:
      description: Orders.
      method: POST
      url: http://shop.test/
      headers: {Authorization: Bearer s3cret}
      input: {type: object, properties: {amount: {type: integer}}, required: [amount]}
  bundles:
    verdict: {description: Asks., strategy: simple, scopes: [run]}
  mcp:
    files: {command: [files], env: {TOKEN: s3cret}, tools: {read: {side_effect: read}}}
  permissions:
    - {name: trips, effect: allow, recipes: [travel], tools: [order]}
    - {name: orders, effect: allow, tenants: [shop], tools: [order], when: arguments.amount <= 100}
    - {name: big, effect: approve, tools: [order], when: arguments.amount > 100}
    - {name: reads, effect: allow, side_effects: [read]}
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "quorum.yaml"
    file.write_text(CONFIG)
    return str(file)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["calculator"], 0, "calculator@1.0.0 (builtin, pure): allowed"),
        (["order", "--tenant", "shop", "--arguments", '{"amount": 5}'], 0, "'orders' allows 'order@1.0.0'"),
        (["order", "--tenant", "shop", "--arguments", '{"amount": 500}'], 3, "needs an approval"),
        (["order", "--arguments", '{"amount": 5}'], 4, "'default' is none of its tenants"),
        (["order", "--tenant", "shop"], 4, "depends on the arguments"),
        (["order", "--recipe", "travel", "--arguments", '{"amount": 5}'], 0, "'trips' allows 'order@1.0.0'"),
        (["files__read"], 0, "files__read@1.0.0 (mcp, read): allowed"),
        (["verdict"], 0, "verdict@1.0.0 (orchestration, read): allowed"),
        (["files__write"], 4, "files__write@1.0.0 (mcp, write): denied"),
    ],
)
def test_it_says_what_would_become_of_a_call(path: str, words: list[str], code: int, said: str) -> None:
    told = CliRunner().invoke(app, ["config", "explain-permission", words[0], path, *words[1:]])
    assert (told.exit_code, said in told.stdout) == (code, True), told.stdout


def test_for_programs_it_is_json_with_every_rule(path: str) -> None:
    words = ["config", "explain-permission", "order", path, "--tenant", "shop", "--arguments", '{"amount": 500}', "--json"]
    told = json.loads(CliRunner().invoke(app, words).stdout)
    assert (told["effect"], told["rule"]) == ("approve", "big")
    assert {rule["rule"]: rule["matched"] for rule in told["rules"]} == {
        "trips": False,
        "orders": False,
        "big": True,
        "reads": False,
        "pure-builtins": False,
    }


def test_a_tool_that_is_not_there_is_named(path: str) -> None:
    told = CliRunner().invoke(app, ["config", "explain-permission", "ordr", path])
    assert isinstance(told.exception, NotFound)
    assert "did you mean 'order'" in told.exception.message


@pytest.mark.parametrize(("recipe", "said"), [("travl", "did you mean 'travel'"), ("sums", "recipes here: 'travel'")])
def test_a_recipe_that_is_not_there_is_named(path: str, recipe: str, said: str) -> None:
    told = CliRunner().invoke(app, ["config", "explain-permission", "order", path, "--recipe", recipe])
    assert isinstance(told.exception, NotFound)
    assert said in told.exception.message


@pytest.mark.parametrize(("scope", "said"), [("tool", "did you mean 'tools'"), ("bla", "scopes are 'admin', ")])
def test_a_scope_that_is_none_is_named(path: str, scope: str, said: str) -> None:
    told = CliRunner().invoke(app, ["config", "explain-permission", "order", path, "--scope", "run", "--scope", scope])
    assert isinstance(told.exception, InvalidRequest)
    assert said in told.exception.message


def test_showing_the_configuration_masks_what_tools_send(path: str) -> None:
    assert "s3cret" not in CliRunner().invoke(app, ["config", "show", path]).stdout
