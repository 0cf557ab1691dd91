"""`quorum workflow`: check, draw and schema, without a service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.core.errors import ConfigError
from tests.support.service import ROOT

CONFIG = str(ROOT / "examples" / "workflows" / "quorum.yaml")
GOOD = """\
inputs:
  n: {type: integer}
steps:
  first: {tool: {name: calculator, arguments: {expression: "${inputs.n} + 1"}}}
  second:
    when: ${steps.first.output} > 3
    workflow: {name: careful, inputs: {input: "say \\"${steps.first.output}\\""}}
    undo: {tool: {name: clock}}
"""


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, ["workflow", *arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.output


def file(directory: Path, text: str) -> str:
    path = directory / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_without_faults_is_told_so_and_drawn(tmp_path: Path):
    path = file(tmp_path, GOOD)
    assert run("check", path, "--config", CONFIG) == "mine: 2 steps, nothing wrong\n"
    lines = run("draw", path, "--config", CONFIG).splitlines()
    assert lines[0] == "flowchart TD"
    assert '    s0[["first<br/>tool calculator"]]' in lines
    assert '    s0 -- "${steps.first.output} #gt; 3" --> s1' in lines
    assert '    s1u["undo: tool clock"] -. undo .-> s1' in lines


def test_a_workflow_of_the_configuration_is_named():
    assert run("check", "fifty", "--config", CONFIG) == "fifty: 2 steps, nothing wrong\n"
    assert "for each: tool calculator" in run("draw", "fifty", "--config", CONFIG)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (
            GOOD.replace("inputs.n}", "inputs.m}").replace("careful", "carefull"),
            [
                "4:48: steps.first.tool.arguments.expression: ${inputs.m} refers to 'm'",
                "7:16: steps.second.workflow.name: 'carefull'",
            ],
        ),
        ("steps:\n  a: {retri: 1, transform: {value: 1}}\n", ["2:7: steps.a.retri: is not a member; did you mean 'retry'?"]),
        ("steps: {a: {transform: {value: '${HOME}'}}}\n", ["steps.a.transform.value: ${HOME} begins with 'HOME'"]),
        ("steps: [\n", ["not YAML"]),
    ],
)
def test_faults_are_told_with_their_lines(tmp_path: Path, text: str, faults: list[str]):
    with pytest.raises(ConfigError) as told:
        run("check", file(tmp_path, text), "--config", CONFIG)
    assert len(told.value.faults) == len(faults)
    for said, fault in zip(told.value.faults, faults, strict=True):
        assert fault in said


def test_the_schema_is_the_published_one():
    published = json.loads((ROOT / "openapi" / "workflow.schema.json").read_text())
    assert json.loads(run("schema")) == published
