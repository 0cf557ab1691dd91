"""`quorum config`: check, show and describe the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from app.config.loading import Loaded
    from app.config.spec import QuorumSpec

MASK = "**********"

commands = typer.Typer(help="Check, show and describe the configuration.", no_args_is_help=True)

File = Annotated[
    Path | None,
    typer.Argument(
        envvar="QUORUM_CONFIG", help="The configuration; without it ./quorum.yaml.", metavar="[FILE]", show_default=False
    ),
]


@commands.command()
def check(file: File = None) -> None:
    """Check the configuration. Exits with 1 where it is wrong and names every fault with its line on stderr."""
    from rich.console import Console
    from rich.table import Table

    loaded = _loaded(file)
    for warning in loaded.warnings:
        typer.echo(f"warning: {warning}", err=True)
    table = Table(title=f"{loaded.path} is good", title_justify="left", show_header=False)
    for kind, names in _contents(loaded.spec).items():
        table.add_row(kind, str(len(names)), ", ".join(names))
    Console().print(table)


@commands.command()
def schema() -> None:
    """Print the JSON schema of quorum.yaml, for editors that check as one types."""
    from app.config.loading import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@commands.command()
def show(file: File = None) -> None:
    """Print the configuration as it is understood, with variables filled in, defaults added and secrets masked."""
    import yaml

    typer.echo(yaml.safe_dump(_masked(_loaded(file).spec), sort_keys=False, allow_unicode=True), nl=False)


def _loaded(file: Path | None) -> Loaded:
    from app.config.loading import load
    from app.config.settings import load_settings
    from app.container import checks_of
    from app.core.errors import ConfigError
    from app.orchestration.strategies import Strategies

    path = file or load_settings().config_path()
    if path is None:
        raise ConfigError("there is no quorum.yaml in this directory: name a file, or set QUORUM_CONFIG")
    return load(path, checks=checks_of(Strategies()))


def _contents(spec: QuorumSpec) -> dict[str, list[str]]:
    return {
        "providers": [f"{name} ({provider.kind})" for name, provider in spec.providers.items()],
        "models": list(spec.models),
        "recipes": [f"{name} ({recipe.strategy})" for name, recipe in spec.recipes.items()],
        "keys": [f"{key.name} ({key.tenant})" for key in spec.keys],
    }


def _masked(spec: QuorumSpec) -> dict[str, Any]:
    """As JSON values. Pydantic masks keys; headers and query values hold secrets as well."""
    shown = spec.model_dump(mode="json")
    for provider in shown["providers"].values():
        provider["headers"] = dict.fromkeys(provider["headers"], MASK)
        provider["query"] = dict.fromkeys(provider["query"], MASK)
    return shown
