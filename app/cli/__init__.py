"""The `quorum` command: one module a command. What a command needs is imported when it runs, so that help comes at once."""

from __future__ import annotations

import sys
from typing import Final

import typer

from app.cli import ask, audit, batch, config, evaluate, keys, mock, serve, train, version, worker, workflow
from app.core.errors import ConfigError, QuorumError

FAILED: Final = 1

app = typer.Typer(
    name="quorum",
    help="One answer from several language models, with the evidence for it.",
    epilog="Exit codes: 0 done, 1 it could not be done (the reason is on stderr), 2 the command was not understood.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("ask")(ask.ask)
app.command("eval")(evaluate.evaluate)
app.command("mock")(mock.mock)
app.command("train")(train.train)
app.command("version")(version.version)
app.add_typer(audit.commands, name="audit")
app.add_typer(batch.commands, name="batch")
app.add_typer(config.commands, name="config")
app.add_typer(keys.commands, name="keys")
app.add_typer(workflow.commands, name="workflow")


def main() -> None:
    """The entry point. What went wrong is said on stderr, without a traceback where it is for the user to put right."""
    try:
        app()
    except QuorumError as error:
        faults = error.faults if isinstance(error, ConfigError) else ()
        sys.stderr.write("\n".join((f"quorum: {error.message}", *faults)) + "\n")
        sys.exit(FAILED)
