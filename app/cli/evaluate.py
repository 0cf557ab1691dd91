"""`quorum eval`."""

from __future__ import annotations

import asyncio
import signal
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from app.cli.options import DataDir

INTERRUPTED: Final = 130
"""128 and the number of SIGINT, as shells have it."""
NOT_UNDERSTOOD: Final = 2


class PartName(StrEnum):
    """Which questions are asked."""

    ALL = "all"
    TRAIN = "train"
    REPORT = "report"


class GradeName(StrEnum):
    """How answers are graded."""

    CHOICE = "choice"
    NUMBER = "number"
    EXACT = "exact"
    CONTAINS = "contains"
    REGEX = "regex"
    JSON = "json"
    SCORE = "score"


def evaluate(
    context: typer.Context,
    file: Annotated[list[Path], typer.Argument(help="Data sets: JSONL, a question with its answer a line.")] = [],  # noqa: B006
    recipe: Annotated[
        list[str], typer.Option("--recipe", "-r", help="A recipe, a model, or quorum/<strategy>. Repeat it to compare.")
    ] = [],  # noqa: B006
    members: Annotated[bool, typer.Option("--members", help="Ask each model of the recipes alone as well.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where results go; without it eval/<data set>.", show_default=False)] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what the directory holds.")] = False,
    report: Annotated[
        list[Path],
        typer.Option(
            "--report", metavar="DIR", help="Make the report of stored results, and ask nothing. Repeat it to compare."
        ),
    ] = [],  # noqa: B006
    url: Annotated[
        str | None,
        typer.Option(
            envvar="QUORUM_URL", help="The service; without it one on this machine, else one of its own.", show_default=False
        ),
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="QUORUM_API_KEY", help="An API key of the service.")] = None,
    local: Annotated[bool, typer.Option("--local", help="Start a service of its own, whatever is running.")] = False,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The configuration of a service of its own.")] = None,
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes of a service of its own.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Questions under way at once.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many questions, drawn by the seed.")] = None,
    split: Annotated[float, typer.Option(min=0, max=0.95, help="The share of questions set aside to learn from.")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of --limit.")] = 0,
    part: Annotated[PartName, typer.Option(help="Which part of the split is asked.")] = PartName.ALL,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Tell the service what was right of the part to learn from.")
    ] = False,
    grade: Annotated[
        GradeName | None, typer.Option(help="How answers are graded; without it as the answers look.", show_default=False)
    ] = None,
    choices: Annotated[str | None, typer.Option(help="The choices of every question, with commas between: A,B,C.")] = None,
    pattern: Annotated[str | None, typer.Option(help="An RE2 pattern that finds the answer in what was said.")] = None,
    field: Annotated[
        list[str], typer.Option("--field", metavar="OURS=THEIRS", help="Another name of a member: category=subject.")
    ] = [],  # noqa: B006
    baseline: Annotated[str | None, typer.Option(help="Compare everybody with this one as well.")] = None,
    splits: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Report over so many splits, by the seeds from --seed on.")
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="How many times as fast as recorded the service replays; its own is known.", show_default=False
        ),
    ] = None,
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
    if _given(context, "url"):  # which goes before what the environment says of a service of one's own
        if local or _given(context, "config") or _given(context, "data_dir"):
            raise typer.BadParameter(
                "a service is asked or one is started: leave out --url, or --local, --config and --data-dir", param_hint="--url"
            )
    else:
        local = local or config is not None or data_dir is not None
    console, errors = Console(highlight=False), Console(stderr=True, highlight=False)
    shown = Shown(baseline, splits)
    directory = out or Path("eval", "-".join(path.stem for path in file) or "report")
    try:
        if not report:
            fields = dict(_pair(one) for one in field)
            labels = tuple(one.strip() for one in choices.split(",")) if choices else ()
            reading = Reading(fields, grade.value if grade else None, labels, pattern)
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


def _given(context: typer.Context, option: str) -> bool:
    """Whether an option stands on the command line, and not only in the environment."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _pair(given: str) -> tuple[str, str]:
    ours, equals, theirs = given.partition("=")
    if not equals or not ours or not theirs:
        raise typer.BadParameter(f"{given!r} is not of the form ours=theirs, as in category=subject", param_hint="--field")
    return ours, theirs
