"""`python -m bench`: measure the service beside the floor and say which budgets are met."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
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


def table(results: Results) -> Table:
    shown = Table(title="One worker; the median of the rounds (lowest-highest)")
    compared = any(row.before for row in rows(results))
    for column in ("scene", "quorum", "floor", "ratio", "budget", "verdict", *(["to before"] if compared else [])):
        shown.add_column(column, justify="right" if column in ("quorum", "floor", "ratio", "to before") else "left")
    for row in rows(results):
        if row.title:
            shown.add_section()
            shown.add_row(f"[bold]{row.title}")
        colour = {"met": "[green]", "missed": "[red]"}.get(row.verdict, "")
        extra = (row.before,) if compared else ()
        shown.add_row(f"  {row.unit}", row.quorum, row.floor, row.ratio, row.budget, colour + row.verdict, *extra)
    return shown


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    more_descriptors()
    if options.profile:
        options.profile.mkdir(parents=True, exist_ok=True)
    console, progress_on = Console(), Console(stderr=True)
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
    console.print(table(results))
    for name, why in results.failed.items():
        progress_on.print(f"the scene {name!r} could not run: {why}", markup=False)
    if options.json:
        options.json.write_bytes(orjson.dumps(asdict(results), option=orjson.OPT_INDENT_2))
    if results.failed:
        return CANNOT_RUN
    return 1 if options.check and missed(results) else 0


if __name__ == "__main__":
    sys.exit(main())
