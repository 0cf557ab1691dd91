"""`python -m bench.answers`: what panels that learn reach on recorded answers, over HTTP.

For each set and seed half of the questions is asked with feedback, `quorum train` learns from it, and the other half is
reported. What is done is kept: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from pathlib import Path

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench.answers.figures import figures
from bench.answers.page import drawing, page, tables
from bench.answers.sets import SETS
from bench.answers.splitting import STEPS, SplitFailed, SplitRun

CANNOT_RUN = 2
INTERRUPTED = 130


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.answers", description=__doc__)
    parser.add_argument("--answers", type=Path, required=True, metavar="DIR", help="where the recordings are: SET.jsonl each")
    parser.add_argument("--set", action="append", default=[], help=f"only this one, can be repeated: {', '.join(SETS)}")
    parser.add_argument("--splits", type=int, default=20, help="how many, by the seeds from 0 on (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="splits at once, a core or two each (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument("--done", action="store_true", help="ask nothing: report the splits that are done")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the tables there, and waiting.svg beside it")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    options, errors = arguments(given), Console(stderr=True)
    names = options.set or list(SETS)
    files = {name: options.answers / f"{name}.jsonl" for name in names}
    for name, file in files.items():
        if name not in SETS or not file.exists():
            told = f"there is no {file}" if name in SETS else f"there is no set {name!r}; there are {', '.join(SETS)}"
            errors.print(f"bench.answers: {told}", markup=False)
            return CANNOT_RUN
    runs = [
        SplitRun(SETS[name], files[name], seed, options.out / name / f"{seed:02}")
        for seed in range(options.splits)
        for name in names
    ]
    try:
        if not options.done:
            _run(runs, options.jobs, errors)
    except SplitFailed as error:
        errors.print(f"bench.answers: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        errors.print("bench.answers: interrupted; the same command goes on with the splits that are not done", markup=False)
        return INTERRUPTED
    _report([run for run in runs if run.told], options.out, options.page)
    return 0


def _report(runs: Sequence[SplitRun], out: Path, where: Path | None) -> None:
    names = [name for name in SETS if any(run.one.name == name for run in runs)]
    found = [figures([run for run in runs if run.one.name == name], out / name) for name in names]
    (out / "figures.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    made = tables(found)
    for name, table in made.items():
        print(f"{name}\n\n{table}")
    if where is not None:
        where.write_text(page(where.read_text(), made))
        for one in found:
            if one.waiting is not None:
                where.with_name("waiting.svg").write_text(drawing(one) + "\n")


def _run(runs: Sequence[SplitRun], jobs: int, errors: Console) -> None:
    """Raises SplitFailed: one did; those under way are ended with it, what is done is kept."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors) as progress, ThreadPoolExecutor(jobs) as pool:
        task = progress.add_task("splits", total=len(runs) * STEPS)
        futures: list[Future[None]] = [pool.submit(run.run, lambda: progress.advance(task)) for run in runs]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for one in futures:
                one.cancel()
        for one in futures:
            if one.done() and not one.cancelled():
                one.result()


if __name__ == "__main__":
    sys.exit(main())
