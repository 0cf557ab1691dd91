"""`quorum eval`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from types import FrameType
from typing import Final

import typer

from app.cli.eval.options import (
    AskedPart,
    Baseline,
    Choices,
    Concurrency,
    ConfigFile,
    Fields,
    Files,
    Grade,
    Key,
    Limit,
    Local,
    Members,
    Out,
    PartName,
    Pattern,
    Recipes,
    Reports,
    Resume,
    Seed,
    Speed,
    Splits,
    SplitShare,
    TellsFeedback,
    Url,
    Workers,
)
from app.cli.options import DataDir

INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""
NOT_UNDERSTOOD: Final = 2


def evaluate(
    context: typer.Context,
    file: Files = [],  # noqa: B006
    recipe: Recipes = [],  # noqa: B006
    members: Members = False,
    out: Out = None,
    resume: Resume = False,
    report: Reports = [],  # noqa: B006
    url: Url = None,
    key: Key = None,
    local: Local = False,
    config: ConfigFile = None,
    data_dir: DataDir = None,
    workers: Workers = 1,
    concurrency: Concurrency = 8,
    limit: Limit = None,
    split: SplitShare = 0.0,
    seed: Seed = 0,
    part: AskedPart = PartName.ALL,
    feedback: TellsFeedback = False,
    grade: Grade = None,
    choices: Choices = None,
    pattern: Pattern = None,
    field: Fields = [],  # noqa: B006
    baseline: Baseline = None,
    splits: Splits = None,
    speed: Speed = None,
) -> None:
    """Put questions with known answers through recipes, and report how good, how sure, how fast and how dear they are.

    Exit codes: 0 done, 1 it could not be done, 2 the command was not understood, 130 interrupted.
    """
    from rich.console import Console

    from app.cli.eval.command import Order, Shown, Where, evaluate, render
    from app.cli.eval.parts import Split
    from app.cli.eval.questions import Reading
    from app.core.errors import InvalidRequest

    _check(file, recipe, report, split, part, feedback=feedback)
    local = _starts_one(context, local=local, named=config is not None or data_dir is not None)
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    shown = Shown(baseline, splits)
    directory = out or Path("eval", "-".join(path.stem for path in file) or "report")
    try:
        if not report:
            labels = tuple(one.strip() for one in choices.split(",")) if choices else ()
            reading = Reading(dict(_pair(one) for one in field), grade.value if grade else None, labels, pattern)
            order = Order(
                tuple(file), reading, tuple(recipe), members, directory, Split(split, seed), part.value, limit,
                concurrency, resume, feedback,
            )  # fmt: skip
            where = Where(None if local else url, key, local, config, data_dir, workers, speed)
            signal.signal(signal.SIGTERM, _interrupt)
            asyncio.run(evaluate(order, where, errors))
        render(report or [directory], shown, directory if out or not report else report[0], console)
    except InvalidRequest as error:
        errors.print(f"quorum: {error.message}", markup=False, soft_wrap=True)
        raise typer.Exit(NOT_UNDERSTOOD) from None
    except KeyboardInterrupt:
        errors.print("quorum: interrupted; what was answered is kept, and the same command with --resume goes on", markup=False)
        raise typer.Exit(INTERRUPTED) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    """What Ctrl-C does, so that who is told to end leaves no service behind."""
    signal.raise_signal(signal.SIGINT)


def _check(file: list[Path], recipe: list[str], report: list[Path], split: float, part: PartName, *, feedback: bool) -> None:
    """Raises BadParameter: the options do not fit together."""
    if report:
        if file or recipe:
            raise typer.BadParameter("stored results are reported or questions are asked, not both", param_hint="--report")
        return
    if not file:
        raise typer.BadParameter("name a data set, as in: quorum eval questions.jsonl --recipe panel", param_hint="FILE")
    if not recipe:
        raise typer.BadParameter("name who is to be evaluated: a recipe, a model or quorum/<strategy>", param_hint="--recipe")
    if not split and (feedback or part is not PartName.ALL):
        what = "--feedback" if feedback else "--part"
        raise typer.BadParameter("needs --split: what is learned from must not be reported on", param_hint=what)


def _starts_one(context: typer.Context, *, local: bool, named: bool) -> bool:
    """Whether a service of its own is started, which `named` says that options or the environment speak of.

    Raises:
        BadParameter: another is to be asked as well.
    """
    if not _given(context, "url"):  # which goes before what the environment says of a service of one's own
        return local or named
    if local or _given(context, "config") or _given(context, "data_dir"):
        raise typer.BadParameter(
            "a service is asked or one is started: leave out --url, or --local, --config and --data-dir", param_hint="--url"
        )
    return False


def _given(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, and not only in the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _pair(given: str) -> tuple[str, str]:
    ours, equals, theirs = given.partition("=")
    if not equals or not ours or not theirs:
        raise typer.BadParameter(f"{given!r} is not of the form ours=theirs, as in category=subject", param_hint="--field")
    return ours, theirs
