"""`quorum workflow`: check a definition and draw it, without a service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.config.spec import QuorumSpec
    from app.config.workflows import WorkflowConfig

commands = typer.Typer(help="Check and draw the definitions of workflows.", no_args_is_help=True)

Definition = Annotated[
    str,
    typer.Argument(help="A file, YAML or JSON; or the name of a workflow of quorum.yaml.", show_default=False),
]
Config = Annotated[
    Path | None, typer.Option("--config", help="The configuration; without it QUORUM_CONFIG, else ./quorum.yaml, else none.")
]


@commands.command("check")
def check(definition: Definition, config: Config = None) -> None:
    """Say every fault of a definition with its place; exits with 1 where there is one. Nothing is run.

    Models, recipes, tools and other workflows are those of the configuration. Without one only what the definition itself says
    is checked, and its models against nothing.
    """
    name, _, read = _read(definition, config)
    typer.echo(f"{name}: {len(read.steps)} steps, nothing wrong")


@commands.command("draw")
def draw(definition: Definition, config: Config = None) -> None:
    """Print a workflow as a Mermaid flowchart."""
    from app.workflows.drawing import drawn

    _, _, read = _read(definition, config)
    typer.echo(drawn(read), nl=False)


@commands.command("schema")
def schema() -> None:
    """Print the JSON schema of a definition, for editors."""
    from app.config.loading import workflow_json_schema

    typer.echo(json.dumps(workflow_json_schema(), indent=2))


def _read(definition: str, config: Path | None) -> tuple[str, QuorumSpec, WorkflowConfig]:
    """A definition without faults.

    Raises:
        ConfigError: it has some; each with its line.
    """
    from app.core.errors import ConfigError

    spec = _spec(config)
    path = Path(definition)
    if not path.is_file():
        if definition in spec.workflows:  # which were checked when the configuration was loaded
            return definition, spec, spec.workflows[definition]
        raise ConfigError(f"there is no file {definition!r}, and no workflow of that name in the configuration")
    return path.stem, spec, _of_file(path, spec)


def _of_file(path: Path, spec: QuorumSpec) -> WorkflowConfig:
    from app.assembly.configuration import all_strategies, checks_of
    from app.config.loading import load_definition
    from app.workflows.checking import faults_of_all
    from app.workflows.known import no_faults
    from app.workflows.surroundings import known_of

    recipe = checks_of(all_strategies()).recipe or no_faults

    def faults(config: WorkflowConfig) -> list[Any]:
        whole = spec.model_copy(update={"workflows": {**spec.workflows, path.stem: config}})
        return faults_of_all({path.stem: config}, known_of(whole, recipe))

    return load_definition(path, faults)


def _spec(config: Path | None) -> QuorumSpec:
    from app.assembly.configuration import all_strategies, checks_of
    from app.config.loading import load
    from app.config.settings import load_settings
    from app.config.spec import QuorumSpec

    path = config or load_settings().config_path()
    return QuorumSpec() if path is None else load(path, checks=checks_of(all_strategies())).spec
