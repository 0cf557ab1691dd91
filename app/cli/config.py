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


@commands.command("explain-permission")
def explain_permission(
    tool: Annotated[str, typer.Argument(help="Which tool, as clock, weather@2 or files__read_file.", show_default=False)],
    file: File = None,
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="What the key may do; given again for each. Without it: run, tools.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="The recipe whose run asks; without it the call comes over HTTP.")] = None,
    arguments: Annotated[
        str | None, typer.Option(help="The call's arguments, as JSON; without them what depends on them is open.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Say whether a call of a tool would be allowed, by which rule, and how every rule stood to it. Nothing is called.

    Exits with 0 where it is allowed, with 3 where an approval is needed, with 4 where it is denied or open.
    """
    from app.cli.permissions import Asked, explained

    asked = Asked(tool, tenant, frozenset(scope or ("run", "tools")), recipe, arguments)
    raise typer.Exit(explained(_loaded(file).spec, asked, as_json=as_json))


def _loaded(file: Path | None) -> Loaded:
    from app.assembly.configuration import all_strategies, checks_of
    from app.config.loading import load
    from app.config.settings import load_settings
    from app.core.errors import ConfigError

    path = file or load_settings().config_path()
    if path is None:
        raise ConfigError("there is no quorum.yaml in this directory: name a file, or set QUORUM_CONFIG")
    return load(path, checks=checks_of(all_strategies()))


def _contents(spec: QuorumSpec) -> dict[str, list[str]]:
    return {
        "providers": [f"{name} ({provider.kind})" for name, provider in spec.providers.items()],
        "models": list(spec.models),
        "recipes": [f"{name} ({recipe.strategy})" for name, recipe in spec.recipes.items()],
        "keys": [f"{key.name} ({key.tenant})" for key in spec.keys],
        "tools": [
            *spec.tools.builtins,
            *spec.tools.http,
            *spec.tools.python,
            *spec.tools.bundles,
            *(f"{name}__*" for name in spec.tools.mcp),
        ],
        "workflows": list(spec.workflows),
    }


def _masked(spec: QuorumSpec) -> dict[str, Any]:
    """As JSON values. Pydantic masks keys; headers, query values and variables hold secrets as well."""
    shown = spec.model_dump(mode="json")
    for provider in shown["providers"].values():
        _mask(provider, "headers", "query")
    for tool in shown["tools"]["http"].values():
        _mask(tool, "headers", "query")
    for server in shown["tools"]["mcp"].values():
        _mask(server, "headers", "env")
    return shown


def _mask(part: dict[str, Any], *members: str) -> None:
    for member in members:
        part[member] = dict.fromkeys(part[member], MASK)
