"""`quorum.yaml` to a `QuorumSpec`, or to the list of all its faults, each with its line."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.config.checks import cross_checks, warnings_of
from app.config.document import MAX_BYTES, Document, Fault, MemberPath, parse
from app.config.explaining import explain
from app.config.spec import LLMProvider, OrchestratorConfig, QuorumSpec
from app.config.tools import ToolsConfig
from app.config.workflows import DEFINING, WorkflowConfig
from app.core.errors import ConfigError
from app.core.tools import Version

MemberFault = tuple[MemberPath, str]
"""A fault inside a part of the configuration: the member's path within that part, and the message."""

_OF_WORKFLOWS = frozenset(model.__name__ for model in DEFINING)
_TEXT_WANTED = frozenset({"string_type", "string_sub_type"})


@dataclass(frozen=True, slots=True)
class Checks:
    """What only higher layers can judge, passed in by who composes the service.

    Parameters:
        recipe: the faults of a recipe: an unknown strategy, unknown or invalid options.
        provider: the faults of a provider: an unknown vendor, what its kind needs and does not have.
        recipe_models: the models that a recipe's options name, each with the path of the member that does.
        prompts: the built-in prompts by name, each with the placeholders it may use.
        tools: the faults of the python functions that are named as tools.
        recipe_tools: the tools of the service that a recipe's options name, each with the path of the member that does.
        tools_there: every version of every tool of a configuration but those of MCP servers; None where it is faulty otherwise.
        workflows: the faults of the workflows of a configuration.
    """

    recipe: Callable[[OrchestratorConfig], list[MemberFault]] | None = None
    provider: Callable[[LLMProvider], list[MemberFault]] | None = None
    recipe_models: Callable[[OrchestratorConfig], list[MemberFault]] | None = None
    prompts: Mapping[str, frozenset[str]] | None = None
    tools: Callable[[ToolsConfig], list[MemberFault]] | None = None
    recipe_tools: Callable[[OrchestratorConfig], list[MemberFault]] | None = None
    tools_there: Callable[[QuorumSpec], Sequence[tuple[str, Version]] | None] | None = None
    workflows: Callable[[QuorumSpec], list[Fault]] | None = None


NO_CHECKS = Checks()


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration and where it came from; `path` is None where there is no file.

    `warnings` are what is probably not meant, `notes` what was decided for want of a configuration; both are lines to show.
    """

    spec: QuorumSpec
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load(path: Path, environ: Mapping[str, str] | None = None, *, checks: Checks = NO_CHECKS) -> Loaded:
    """Read, fill in, validate and cross-check the file at `path`.

    Parameters:
        environ: where `${NAME}` is looked up; the process's environment when left out.

    Raises:
        ConfigError: with all faults, in the order of their lines.
    """
    document = parse(_read(path), os.environ if environ is None else environ)
    faults = list(document.faults)
    spec: QuorumSpec | None = None
    if document.value is None and not faults:
        document.value = {}
    if isinstance(document.value, dict):
        try:
            spec = _validate(document)
        except ValidationError as error:
            faults += explain(error, document)
    elif not faults:
        faults.append(Fault((), "a configuration is a mapping; it starts with members such as 'providers:' and 'models:'"))
    if spec is not None and not faults:
        faults += _crossed(spec, document, checks)
    if spec is None or faults:
        raise ConfigError(_summary(path, len(faults)), faults=_lines(path, document, faults))
    return Loaded(spec, path, _lines(path, document, warnings_of(spec, document)))


def check_spec(spec: QuorumSpec, *, checks: Checks = NO_CHECKS) -> None:
    """The cross checks alone, for a specification that was made in Python.

    Raises:
        ConfigError: with all faults, without lines.
    """
    faults = _crossed(spec, Document(), checks)
    if faults:
        lines = tuple(_said(fault) for fault in faults)
        raise ConfigError("the configuration has " + _counted(len(faults)), faults=lines)


def _crossed(spec: QuorumSpec, document: Document, checks: Checks) -> list[Fault]:
    return cross_checks(
        spec,
        document,
        recipe=checks.recipe,
        recipe_models=checks.recipe_models,
        provider=checks.provider,
        prompts=checks.prompts,
        tools=checks.tools,
        recipe_tools=checks.recipe_tools,
        tools_there=checks.tools_there,
        workflows=checks.workflows,
    )


def load_definition(path: Path, check: Callable[[WorkflowConfig], list[Fault]]) -> WorkflowConfig:
    """The workflow in the file at `path`, by itself.

    Parameters:
        check: its faults; their places begin with its name.

    Raises:
        ConfigError: with all faults, in the order of their lines.
    """
    document = parse(_read(path), {}, literal=())
    faults = list(document.faults)
    if not faults:
        try:
            config = WorkflowConfig.model_validate(document.value)
        except ValidationError as error:
            faults += explain(error, document, ("workflows", path.stem))
        else:
            faults += [replace(fault, path=fault.path[1:]) for fault in check(config)]
            if not faults:
                return config
    said = f"the workflow {str(path)!r} has {_counted(len(faults))}"
    raise ConfigError(said, faults=_lines(path, document, faults))


def workflow_json_schema() -> dict[str, Any]:
    """The JSON schema of a workflow's definition in a file of its own."""
    schema = WorkflowConfig.model_json_schema()
    schema["title"] = "Quorum workflow"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def json_schema() -> dict[str, Any]:
    """The JSON schema of `quorum.yaml`. Where a number or a flag is wanted, a whole `${NAME}` reference may stand too."""
    schema = QuorumSpec.model_json_schema()
    schema["title"] = "Quorum configuration"
    schema["description"] = "The configuration file of a Quorum service, quorum.yaml."
    opened: dict[str, Any] = _open_to_references(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **opened}


def _open_to_references(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_open_to_references(item) for item in schema]  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return schema
    if _is_literal(schema):  # pyright: ignore[reportUnknownArgumentType]
        return schema  # pyright: ignore[reportUnknownVariableType]
    inner: dict[str, Any] = {name: _open_to_references(value) for name, value in schema.items()}  # pyright: ignore[reportUnknownVariableType]
    if inner.get("type") not in ("integer", "number", "boolean"):
        return inner
    about = {name: inner.pop(name) for name in ("title", "description", "default") if name in inner}
    return {**about, "anyOf": [inner, {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}$"}]}


def _is_literal(schema: dict[str, Any]) -> bool:
    """Whether it is of a workflow, in which a `${` is the workflow's own."""
    return schema.get("title") in _OF_WORKFLOWS


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration at {str(path)!r}", faults=(f"{path}: no such file",)) from None
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise ConfigError(f"the configuration {str(path)!r} cannot be read", faults=(f"{path}: {reason.lower()}",)) from None
    if len(content) > MAX_BYTES:
        raise ConfigError(_summary(path, 1), faults=(f"{path}: larger than {MAX_BYTES} bytes",))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(_summary(path, 1), faults=(f"{path}:{line}:{column}: not UTF-8",)) from None


def _validate(document: Document) -> QuorumSpec:
    """Validate. A number or a flag where a text is wanted is taken as it was written, as in `model: 4.1`."""
    try:
        return QuorumSpec.model_validate(document.value)
    except ValidationError as error:
        wanted = [e["loc"] for e in error.errors(include_input=False, include_url=False) if e["type"] in _TEXT_WANTED]
        replaced = [path for path in wanted if _as_written(document, path)]
        if not replaced:
            raise
    return QuorumSpec.model_validate(document.value)


def _as_written(document: Document, path: MemberPath) -> bool:
    text = document.written.get(path)
    if text is None or not path:
        return False
    around = document.value
    for name in path[:-1]:
        around = around[name]
    if around[path[-1]] is None:
        return False
    around[path[-1]] = text
    return True


def _lines(path: Path, document: Document, faults: list[Fault]) -> tuple[str, ...]:
    placed = sorted(((fault.place or document.place(fault.path), fault) for fault in faults), key=lambda pair: pair[0])
    return tuple(dict.fromkeys(f"{path}:{place.line}:{place.column}: {_said(fault)}" for place, fault in placed))


def _said(fault: Fault) -> str:
    where = ".".join(str(name) for name in fault.path)
    return f"{where}: {fault.message}" if where else fault.message


def _counted(count: int) -> str:
    return "1 fault" if count == 1 else f"{count} faults"


def _summary(path: Path, count: int) -> str:
    return f"the configuration {str(path)!r} has {_counted(count)}"
