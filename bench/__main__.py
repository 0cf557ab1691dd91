"""`python -m bench`: measure the service beside the floor and say which budgets are met."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.processes import BenchError, Contestant, Process, contestant, cores, more_descriptors, upstream
from bench.results import Results, missed, rows
from bench.scenes import SCENES, Scene, chosen

CANNOT_RUN = 2


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scene", action="append", default=[], help=f"only this one, can be repeated: {', '.join(SCENES)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured in turn (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of every round there")
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout of the service to measure beside this one")
    parser.add_argument("--profile", type=Path, metavar="DIR", help="write a profile of the service in each scene there")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a budget is missed")
    return parser.parse_args(given)


def measure(scene: Scene, options: argparse.Namespace, results: Results, done: Callable[[], object]) -> None:
    """All rounds of a scene, the contestants in turn.

    Raises:
        BenchError: it cannot run.
    """
    where = cores()
    contestants: list[Contestant] = [*(["before"] if options.before else []), *scene.contestants]
    profile = options.profile / f"{scene.name}.txt" if options.profile else None
    with tempfile.TemporaryDirectory(prefix="quorum-bench-") as name, ExitStack() as servers:
        directory = Path(name)
        source = servers.enter_context(upstream(directory, where))

        def start(who: Contestant) -> ExitStack:
            stack = ExitStack()
            profiled = profile if who == "quorum" else None
            started[who] = stack.enter_context(
                contestant(who, source, directory, where, before=options.before, profile=profiled)
            )
            return stack

        started: dict[Contestant, Process] = {}
        if not scene.fresh:
            for who in contestants:
                servers.enter_context(start(who))
        for _ in range(options.rounds):
            for who in contestants:
                with start(who) if scene.fresh else ExitStack():
                    results.add(scene.name, who, scene.run(started[who], options.seconds, where))
                done()


def tables(results: Results) -> Iterator[Table]:
    """One for each scene, their columns in line."""
    compared = any(row.before for row in rows(results))
    for title, group in groupby(rows(results), key=lambda row: row.scene):
        shown = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1))
        shown.add_column("", width=32)
        for column, width in (("quorum", 24), ("floor", 24), ("ratio", 6)):
            shown.add_column(column, justify="right", width=width)
        shown.add_column("budget", width=24)
        shown.add_column("verdict", width=7)
        if compared:
            shown.add_column("to before", justify="right", width=9)
        for row in group:
            colour = {"met": "[green]", "missed": "[red]"}.get(row.verdict, "")
            cells = (row.unit, row.quorum, row.floor, row.ratio, row.budget, colour + row.verdict, row.before)
            shown.add_row(*cells if compared else cells[:-1])
        yield shown


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    more_descriptors()
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    console, progress_on = Console(width=None if sys.stdout.isatty() else 140), Console(stderr=True)
    results = Results(options.seconds)
    try:
        scenes = chosen(options.scene)
    except BenchError as error:
        progress_on.print(f"bench: {error}", markup=False)
        return CANNOT_RUN
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=progress_on, transient=True) as progress:
        turns = sum(options.rounds * (len(scene.contestants) + bool(options.before)) for scene in scenes)
        task = progress.add_task("", total=turns)
        for scene in scenes:
            progress.update(task, description=scene.name)
            try:
                measure(scene, options, results, lambda: progress.advance(task))
            except BenchError as error:
                results.failed[scene.name] = str(error)
                results.rounds.pop(scene.name, None)
    console.print(results.machine, style="dim", soft_wrap=True)
    for shown in tables(results):
        console.print()
        console.print(shown)
    for name, why in results.failed.items():
        progress_on.print(f"the scene {name!r} could not run: {why}", markup=False)
    if options.json:
        options.json.write_bytes(orjson.dumps(asdict(results), option=orjson.OPT_INDENT_2))
    if results.failed:
        return CANNOT_RUN
    return 1 if options.check and missed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
