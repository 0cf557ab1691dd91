"""`quorum eval`: what is asked of whom, once the command line is understood."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from rich.console import Console

from app.assembly.configuration import all_strategies
from app.cli.ask import DEFAULT_URL
from app.cli.asking import here, service
from app.cli.asking.escaping import escaped
from app.cli.eval import storing, summary
from app.cli.eval.asking import Todo, Told, ask_all, todo
from app.cli.eval.client import FEEDBACK, Client
from app.cli.eval.embedded import embedded
from app.cli.eval.page import page
from app.cli.eval.parts import Part, Split, chosen
from app.cli.eval.progress import Asked
from app.cli.eval.questions import Question, Reading, read_questions
from app.cli.eval.replaying import speed_of
from app.cli.eval.report import held, report
from app.cli.eval.results import Contestant, Result
from app.core.errors import ConfigError, InvalidRequest

if TYPE_CHECKING:
    from app.cli.eval.storing import Stored

REPORT_JSON = "report.json"
REPORT_HTML = "report.html"


@dataclass(frozen=True, slots=True)
class Where:
    """The service: at `url`, else one of our own with `config`, which is also taken where `local` says so or none is found."""

    url: str | None
    key: str | None
    local: bool
    config: Path | None
    data_dir: Path | None
    workers: int
    speed: float | None


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be evaluated."""

    files: tuple[Path, ...]
    reading: Reading
    recipes: tuple[str, ...]
    members: bool
    out: Path
    split: Split
    part: Part
    limit: int | None
    concurrency: int
    resume: bool
    feedback: bool


@dataclass(frozen=True, slots=True)
class Shown:
    """How the report is made."""

    baseline: str | None = None
    splits: int | None = None


async def evaluate(order: Order, where: Where, console: Console) -> None:
    """Ask what is still to be asked, and keep every answer as it comes.

    Raises:
        QuorumError: the data set, the service or a recipe is not there; or there is an evaluation, and no word to go on.
    """
    questions = read_questions(order.files, order.reading)
    before = _before(order)
    async with _service(where, console, order.concurrency) as (client, told_as, speed):
        contestants = await client.contestants(order.recipes, members=order.members)
        if order.feedback and not await client.takes_feedback():
            raise InvalidRequest(f"--feedback: the service has no {FEEDBACK}; it cannot learn from what was right")
        _begin(order, questions, contestants, before, told_as, speed)
        asked = chosen(questions, order.split, order.part, order.limit)
        todo_ = todo(contestants, asked, before.results if before else (), order.split)
        _tell_todo(todo_, console)
        with storing.Results(order.out) as results, Asked(console, len(todo_.pairs)) as progress:

            def keep(result: Result) -> None:
                results.add(result)
                progress.add(failed=result.error is not None)

            teach = order.split if order.feedback else None
            told = await ask_all(client, todo_.pairs, concurrency=order.concurrency, keep=keep, teach=teach)
    if order.feedback:
        _tell_feedback(told, console)


def render(directories: Sequence[Path], shown: Shown, out: Path, console: Console) -> None:
    """Make the report of stored evaluations: the page and the JSON in `out`, a summary on the terminal.

    Raises:
        QuorumError: a directory holds no evaluation, or the report cannot be made so.
    """
    stored = [held(storing.read(directory)) for directory in directories]
    if not any(one.results for one in stored):
        raise ConfigError(f"{', '.join(map(str, directories))}: nothing was answered yet")
    made = report(stored, baseline=shown.baseline, splits=shown.splits, made_at=int(time.time()), quorum=version("quorum"))
    out.mkdir(parents=True, exist_ok=True)
    storing.write(out / REPORT_JSON, made)
    (out / REPORT_HTML).write_text(page(made))
    summary.show(made, console)
    console.print(f"report: {out / REPORT_HTML} and {REPORT_JSON}", markup=False, soft_wrap=True)


def _before(order: Order) -> Stored | None:
    """What was answered before, where it is to be gone on with.

    Raises:
        InvalidRequest: there is an evaluation, and nobody said what to do with it.
    """
    if not storing.is_stored(order.out):
        return None
    if not order.resume:
        raise InvalidRequest(f"{order.out} holds an evaluation: go on with it by --resume, or name another directory by --out")
    return storing.read(order.out)


def _begin(
    order: Order,
    questions: Sequence[Question],
    contestants: Sequence[Contestant],
    before: Stored | None,
    told_as: str,
    speed: float,
) -> None:
    """Write what is evaluated.

    Raises:
        InvalidRequest: the directory is of other questions, or of another split.
    """
    ids = orjson.dumps([(one.id, one.digest) for one in questions])
    evaluation = storing.Evaluation(
        tuple(path.name for path in order.files),
        blake2b(ids, digest_size=8).hexdigest(),
        len(questions),
        tuple(contestants),
        order.split,
        told_as,
        speed,
        int(time.time()),
    )
    if before is not None:
        was = before.evaluation
        if was.files != evaluation.files:
            raise InvalidRequest(f"{order.out} is an evaluation of {', '.join(was.files)}; name another directory by --out")
        if was.split != order.split:
            told = f"--split {was.split.share:g} --seed {was.split.seed}"
            raise InvalidRequest(f"{order.out} was split by {told}; say so again, or name another directory by --out")
        evaluation = storing.gone_on(was, evaluation)
    storing.begin(order.out, evaluation)


@asynccontextmanager
async def _service(where: Where, console: Console, connections: int) -> AsyncGenerator[tuple[Client, str, float]]:
    """The service to ask, how it is told, and how many times as fast as recorded its answers come."""
    url = where.url
    if url is None and not where.local and await service.reachable(DEFAULT_URL):
        url = DEFAULT_URL
    if url is not None:
        console.print(f"asking the service at {escaped(url)}", markup=False)
        speed = where.speed or 1.0
        async with Client.at(url, where.key, connections=connections, speed=speed) as client:
            yield client, url, speed
        return
    loaded = here.configuration(where.config, all_strategies())
    for line in (*loaded.notes, *(f"warning: {warning}" for warning in loaded.warnings)):
        console.print(escaped(line), markup=False)
    speed = where.speed or speed_of(loaded.spec)
    if speed != 1:
        console.print(
            f"recorded answers come {speed:g} times as fast; their times are told as they were recorded", markup=False
        )
    async with (
        embedded(where.config, data_dir=where.data_dir, workers=where.workers) as own,
        Client.at(own.url, own.key, connections=connections, speed=speed) as client,
    ):
        console.print(f"asking a service of its own at {own.url}", markup=False)
        yield client, str(where.config or "own"), speed


def _tell_todo(found: Todo, console: Console) -> None:
    for name, count in found.changed.items():
        told = f"{escaped(name)}: {count} answers are of another recipe, question or lesson than now, and asked again"
        console.print(told, style="yellow", markup=False)
    if found.done or found.failed:
        again = f", {found.failed} that failed are asked again" if found.failed else ""
        console.print(f"{found.done} answers are there{again}", markup=False)


def _tell_feedback(told: Told, console: Console) -> None:
    console.print(f"feedback: the service took {told.taken} verdicts on the part to learn from", markup=False)
    if told.unkept:
        said = f"feedback: {told.unkept} runs are none that it keeps to learn from; its `learning.observe` says which are"
        console.print(said, markup=False)
    if told.refused:
        console.print(f"feedback: it refused {told.refused}: {escaped(told.why)}", style="red", markup=False)
