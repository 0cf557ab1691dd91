"""The pages say what the code does: what is added, renamed or removed there must be so here."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from app.api import errors
from app.api.routes.providers import ProviderBody
from app.api.schemas.audit import AuditRecord
from app.api.schemas.chat import ChatBody
from app.api.schemas.orchestrations import OrchestrationBody
from app.cli import app
from app.cli.eval.figures import Category, Figures, Lift, MemberFigures, SetReport, Share, Times, Tradeoff
from app.cli.eval.grading import GRADES
from app.cli.eval.parts import Split
from app.cli.eval.questions import FIELDS as QUESTION_FIELDS
from app.cli.eval.report import Across, Report, SetOverSplits
from app.config import planning, spec, tools
from app.config.document import parse
from app.config.settings import PREFIX, Settings
from app.config.spec import LimitsConfig, QuorumSpec, Scope
from app.core.audit import Action, Decision
from app.core.errors import FailureClass
from app.core.run_events import RunEvent
from app.core.runs import OrchestrationOutput
from app.observability import metrics
from app.orchestration.evidence.measures import Bin, Calibration, Interval
from app.orchestration.prompts import placeholders
from app.orchestration.strategies import BUILT_IN
from app.providers.mock.faults import FAULTS, Knobs
from app.providers.mock.options import MockOptions, PersonaOptions
from app.providers.mock.personas import DEFAULT_PERSONAS
from app.providers.recording import FIELDS
from app.providers.replay import ReplayOptions
from app.providers.vendors import ENVIRONMENT, VENDORS
from app.tools.audit.reading import Filter
from app.tools.audit.verifying import FaultKind

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_INLINE = re.compile(r"`((?:\.venv/bin/)?quorum [a-z][^`]*)`")
_POST = re.compile(r"(http://[\w.:]+(/\S*))(?:.*?)-d '(.*?)'", re.DOTALL)
_BODIES: dict[str, type[BaseModel]] = {
    "/v1/orchestrations": OrchestrationBody,
    "/v1/chat/completions": ChatBody,
    "/v1/providers": ProviderBody,
}
QUORUM: Any = typer.main.get_command(app)


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def rows(text: str) -> list[list[str]]:
    """The cells of every line that is a row of a table."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


def row_of(text: str, first: str) -> str:
    """The row whose first cell is `first`, in code marks."""
    return next((" | ".join(row) for row in rows(text) if row[0] == f"`{first}`"), "")


def coded(text: str) -> set[str]:
    """All that stands in code marks."""
    return set(re.findall(r"`([^`\n]+)`", text))


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(body, id=f"{path.name}-{number}")
        for path in PAGES
        for number, (kind, body) in enumerate(_FENCED.findall(path.read_text()), 1)
        if kind == language
    ]


def anchors(path: Path) -> set[str]:
    """The anchors that a page's headings have, as code forges make them."""
    text = _FENCED.sub("", path.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands() -> Iterator[tuple[str, str]]:
    for path in PAGES:
        text = path.read_text()
        for kind, body in _FENCED.findall(text):
            if kind == "sh":
                for line in body.replace("\\\n", " ").splitlines():
                    if re.match(r"(\.venv/bin/)?quorum ", line):
                        yield path.name, line
        for line in _INLINE.findall(_FENCED.sub("", text)):
            yield path.name, line


def test_every_metric_and_its_labels_are_in_operations():
    text = page("operations.md")
    found = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    assert found
    for metric in found:
        facts = next(iter(metric.describe()))
        row = row_of(text, facts.name + ("_total" if facts.type == "counter" else ""))
        assert facts.type in row, f"{facts.name} ({facts.type}) has no row"
        assert all(label in row for label in metric._labelnames), f"{facts.name}: {metric._labelnames} are not in {row!r}"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readme_or_in_operations(name: str):
    assert f"{PREFIX}{name.upper()}" in coded(README.read_text()) | coded(page("operations.md"))


def test_the_table_of_errors_is_the_table_of_the_code():
    said = {
        (int(status), code.strip("`"), retry == "yes")
        for status, code, retry, *_ in (row for row in rows(page("http.md")) if re.fullmatch(r"\d{3}", row[0]))
    }
    true = {
        (row.status, errors._OPENAI_CODES.get(code, code), row.retry)
        for table in (errors._ROWS, errors._PROVIDER_ROWS)
        for code, row in table.items()
    }
    assert said == true


def test_every_endpoint_is_in_http():
    text = page("http.md")
    paths = json.loads((ROOT / "openapi" / "openapi.json").read_text())["paths"]
    assert [path for path in paths if path not in text] == []


def test_every_event_is_in_http():
    assert {event.type for event in get_args(RunEvent)} <= coded(page("http.md"))


@pytest.mark.parametrize("body", [OrchestrationBody, ChatBody])
def test_every_member_of_a_request_is_in_http(body: type[BaseModel]):
    said = " ".join(coded(page("http.md")))
    assert [name for name in body.model_fields if name not in said] == []


def test_every_member_of_a_result_is_in_http():
    assert set(OrchestrationOutput.__slots__) <= coded(page("http.md"))


def test_every_scope_is_in_http():
    assert set(get_args(Scope)) <= coded(page("http.md"))


@pytest.mark.parametrize("name", QuorumSpec.model_fields)
def test_every_member_of_the_configuration_has_a_section(name: str):
    assert re.search(rf"^## `{name}`$", page("configuration.md"), re.MULTILINE)


def test_every_member_below_is_in_configuration():
    said = coded(page("configuration.md"))
    found = {**vars(spec), **vars(tools), **vars(planning)}
    shapes = [shape for shape in found.values() if isinstance(shape, type) and issubclass(shape, spec.Spec)]
    assert [f"{shape.__name__}.{name}" for shape in shapes for name in shape.model_fields if name.rstrip("_") not in said] == []


@pytest.mark.parametrize(("name", "field"), LimitsConfig.model_fields.items())
def test_every_limit_has_its_default_in_configuration(name: str, field: Any):
    assert f"{field.default:,}" in row_of(page("configuration.md"), name)


@pytest.mark.parametrize(("name", "used"), placeholders().items())
def test_every_prompt_and_its_placeholders_are_in_configuration(name: str, used: frozenset[str]):
    row = next((" | ".join(row) for row in rows(page("configuration.md")) if f"`{name}`" in row[0]), "")
    assert set(re.findall(r"`\{(\w+)\}`", row)) == used


@pytest.mark.parametrize("name", VENDORS)
def test_every_vendor_is_in_providers_with_its_address_and_keys(name: str):
    vendor, row = VENDORS[name], row_of(page("providers.md").partition("## Vendors")[2], name)
    assert (f"`{vendor.base_url}`" if vendor.base_url else "set `base_url`") in row
    assert all(variable in row for variable in vendor.key_variables)


@pytest.mark.parametrize("found", ENVIRONMENT, ids=lambda found: found.name)
def test_what_a_key_in_the_environment_gives_is_in_providers(found: Any):
    wanted = [f"`{word}`" for word in (*found.variables, found.name, *found.models)]
    assert any(all(word in " | ".join(row) for word in wanted) for row in rows(page("providers.md")))


def test_every_failure_class_is_in_providers():
    assert set(get_args(FailureClass)) <= coded(page("providers.md"))


def test_everything_about_replay_is_in_providers():
    assert {*ReplayOptions.model_fields, *FIELDS} <= coded(page("providers.md"))


def test_every_persona_fault_knob_and_option_is_in_mock():
    wanted = {*DEFAULT_PERSONAS, *FAULTS, *Knobs.__slots__, *MockOptions.model_fields, *PersonaOptions.model_fields}
    assert wanted - coded(page("mock.md")) == set()


def test_every_strategy_is_in_the_readme():
    said = coded(README.read_text())
    for strategy in BUILT_IN:
        assert {strategy.name, *strategy.Options.model_fields} <= said


def test_everything_about_evaluations_is_in_evaluation():
    said = coded(page("evaluation.md"))
    shapes = (Report, SetOverSplits, SetReport, Figures, MemberFigures, Category, Lift, Share, Times, Tradeoff, Across)
    shapes = (*shapes, Split, Calibration, Bin, Interval)
    assert [f"{shape.__name__}.{name}" for shape in shapes for name in shape.__slots__ if name not in said] == []
    assert {*GRADES, *QUESTION_FIELDS} <= said
    options = {option for one in QUORUM.commands["eval"].params for option in one.opts if option.startswith("--")}
    words = {word for told in said for word in told.split()}
    assert options - words - {"--help"} == set()


def test_everything_about_the_audit_trail_is_in_audit():
    said = coded(page("audit.md"))
    assert {*get_args(Action), *get_args(Decision), *get_args(FaultKind), *AuditRecord.__annotations__} <= said
    assert {field.name for field in fields(Filter)} - {"since_ms", "before_ms"} <= said
    words = {word for line in page("audit.md").splitlines() for word in re.findall(r"--[a-z-]+", line)}
    options = {option for one in QUORUM.commands["audit"].commands["verify"].params for option in one.opts}
    assert options & words >= {"--file", "--head", "--public-key", "--tenant", "--json"}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_relative_link_leads_somewhere(path: Path):
    broken: list[str] = []
    for link in _LINK.findall(_FENCED.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(("where", "line"), [pytest.param(*found, id=" ".join(found)) for found in commands()])
def test_every_command_parses(where: str, line: str):
    _, *words = shlex.split(line, comments=True)
    command: Any = QUORUM
    while words and (inner := getattr(command, "commands", {}).get(words[0])):
        command = inner
        words = words[1:]
    assert command is not QUORUM, f"{where}: there is no such command"
    if words or not hasattr(command, "commands"):
        try:
            command.make_context(command.name, words)
        except typer.BadParameter:
            if words:
                raise  # else a command named in passing, without what it needs


@pytest.mark.parametrize("body", blocks("sh"))
def test_every_request_has_a_valid_body(body: str):
    for line in re.split(r"\n(?=\S)", body.replace("\\\n", " ")):
        for _, path, sent in _POST.findall(line):
            if path in _BODIES:
                _BODIES[path].model_validate_json(sent)


@pytest.mark.parametrize("body", blocks("yaml"))
def test_every_configuration_has_the_right_shape(body: str):
    names = re.findall(r"\$\{(\w+)", body)
    document = parse(body, dict.fromkeys(names, "a value of some length"))
    assert document.faults == []
    given = QuorumSpec.model_validate(document.value)
    for provider in given.providers.values():
        if provider.kind == "mock":
            MockOptions.model_validate(provider.options)
        if provider.kind == "replay":
            ReplayOptions.model_validate(provider.options)


@pytest.mark.parametrize("body", blocks("json"))
def test_every_json_is_json(body: str):
    json.loads(body)


def test_the_published_schema_is_that_of_the_code():
    from app.config.loading import json_schema

    assert json.loads((ROOT / "openapi" / "quorum.schema.json").read_text()) == json_schema()


def test_the_compose_file_needs_what_operations_says():
    needed = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    assert yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert all(name in page("operations.md") for name in needed)
