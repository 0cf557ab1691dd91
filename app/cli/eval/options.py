"""The options of `quorum eval`, as they stand on the command line."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


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


Files = Annotated[list[Path], typer.Argument(help="Data sets: JSONL, a question with its answer a line.")]
Recipes = Annotated[
    list[str], typer.Option("--recipe", "-r", help="A recipe, a model, or quorum/<strategy>. Repeat it to compare.")
]
Members = Annotated[bool, typer.Option("--members", help="Ask each model of the recipes alone as well.")]
Out = Annotated[Path | None, typer.Option(help="Where results go; without it eval/<data set>.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what the directory holds.")]
Reports = Annotated[
    list[Path],
    typer.Option("--report", metavar="DIR", help="Make the report of stored results, and ask nothing. Repeat it to compare."),
]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="QUORUM_URL", help="The service; without it one on this machine, else one of its own.", show_default=False
    ),
]
Key = Annotated[str | None, typer.Option(envvar="QUORUM_API_KEY", help="An API key of the service.")]
Local = Annotated[bool, typer.Option("--local", help="Start a service of its own, whatever is running.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="The configuration of a service of its own.")]
Workers = Annotated[int, typer.Option(min=1, max=256, help="Processes of a service of its own.")]
Concurrency = Annotated[int, typer.Option(min=1, max=1000, help="Questions under way at once.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many questions, drawn by the seed.")]
SplitShare = Annotated[float, typer.Option(min=0, max=0.95, help="The share of questions set aside to learn from.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the split and of --limit.")]
AskedPart = Annotated[PartName, typer.Option(help="Which part of the split is asked.")]
TellsFeedback = Annotated[bool, typer.Option("--feedback", help="Tell the service what was right of the part to learn from.")]
Grade = Annotated[
    GradeName | None, typer.Option(help="How answers are graded; without it as the answers look.", show_default=False)
]
Choices = Annotated[str | None, typer.Option(help="The choices of every question, with commas between: A,B,C.")]
Pattern = Annotated[str | None, typer.Option(help="An RE2 pattern that finds the answer in what was said.")]
Fields = Annotated[
    list[str], typer.Option("--field", metavar="OURS=THEIRS", help="Another name of a member: category=subject.")
]
Baseline = Annotated[str | None, typer.Option(help="Compare everybody with this one as well.")]
Splits = Annotated[int | None, typer.Option(min=1, max=1000, help="Report over so many splits, by the seeds from --seed on.")]
Speed = Annotated[
    float | None,
    typer.Option(
        min=0.001, help="How many times as fast as recorded the service replays; its own is known.", show_default=False
    ),
]
