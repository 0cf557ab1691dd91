"""`quorum batch`: many prompts from a file, through a service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_URL: Final = "http://127.0.0.1:8000"
FAILED: Final = 1

commands = typer.Typer(no_args_is_help=True, help="Many prompts from a file, through a service.")

Url = Annotated[str, typer.Option(envvar="QUORUM_URL", help="The service.")]
Key = Annotated[str | None, typer.Option(envvar="QUORUM_API_KEY", help="An API key of the service.", show_default=False)]
Id = Annotated[str, typer.Argument(help="The batch, as it was printed; `latest` is the newest.")]


def _writable(out: Path | None) -> Path | None:
    """Known before a batch is waited for."""
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise typer.BadParameter(f"{str(out)!r} is no file in a directory that is there")
    return out


Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", callback=_writable, help="Where the results go; without it standard output."),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@commands.command("run")
def run(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Lines of JSON: `custom_id` and `input`, or OpenAI's.")
    ],
    strategy: Annotated[str | None, typer.Option("--strategy", "-s", help="For lines that name none.")] = None,
    recipe: Annotated[str | None, typer.Option("--recipe", "-r", help="For lines that name none.")] = None,
    priority: Annotated[str | None, typer.Option(help="high, normal or low, among other work of the tenant.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Where its end is told.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the batch's id, and leave it to the service.")] = False,
    out: Out = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Upload a file, wait for its end, and write the results, in the order of its lines.

    Exit codes: 0 all lines have succeeded, 1 some have not, or it could not be done. Interrupted, the batch goes on.
    """
    from app.cli.batching import Service, summary

    service = Service(url, key)
    query = {"strategy": strategy, "recipe": recipe, "priority": priority, "webhook": webhook}
    batch = service.upload(file, {name: value for name, value in query.items() if value is not None})
    sys.stderr.write(f"{batch['id']}: {batch['counts']['total']:,} lines\n")
    if no_wait:
        print(batch["id"])
        return
    batch = service.wait(batch["id"])
    service.results(batch["id"], out)
    sys.stderr.write(summary(batch) + "\n")
    if batch["counts"]["succeeded"] < batch["counts"]["total"]:
        raise typer.Exit(FAILED)


@commands.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many at most.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where the page before ended, as it was told there.", show_default=False)] = "",
    as_json: Json = False,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """List the batches that are kept, the newest first, and say how the next page is had."""
    import json

    from app.cli.batching import Service, print_list

    page = Service(url, key).ask("GET", "/v1/batches", params={"limit": limit, "cursor": cursor})
    if as_json:
        print(json.dumps(page))
        return
    print_list(page["data"])
    if page["next_cursor"] is not None:
        sys.stderr.write(f"There are more: --cursor {page['next_cursor']}\n")


@commands.command("status")
def status(batch_id: Id = "latest", as_json: Json = False, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Say how far a batch is."""
    _say("GET", batch_id, "", as_json=as_json, url=url, key=key)


@commands.command("results")
def results(
    batch_id: Id = "latest",
    only: Annotated[str | None, typer.Option(help="succeeded or failed; without it both.")] = None,
    out: Out = None,
    url: Url = DEFAULT_URL,
    key: Key = None,
) -> None:
    """Write what has come of a batch so far."""
    from app.cli.batching import Service

    Service(url, key).results(batch_id, out, only)


@commands.command("cancel")
def cancel(batch_id: Id, as_json: Json = False, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Have no further line begun."""
    _say("POST", batch_id, "/cancel", as_json=as_json, url=url, key=key)


@commands.command("retry")
def retry(batch_id: Id, as_json: Json = False, url: Url = DEFAULT_URL, key: Key = None) -> None:
    """Run the lines again that failed, or never ran."""
    _say("POST", batch_id, "/retry", as_json=as_json, url=url, key=key)


def _say(method: str, batch_id: str, what: str, *, as_json: bool, url: str, key: str | None) -> None:
    import json

    from app.cli.batching import Service, summary

    batch = Service(url, key).ask(method, f"/v1/batches/{batch_id}{what}")
    print(json.dumps(batch) if as_json else summary(batch))
