"""Writes `docs/benchmarks.md` from `page.md` and measured figures:

`python -m bench.page RESULTS.json > docs/benchmarks.md`.
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

import orjson

from bench.results import Results, rows
from bench.scenes import LIMIT_MS, SCENES, STREAMS
from bench.upstream import CHUNKS, PACED_PER_S, SLOW_S, VARIED, VARIED_WORDS

_PAGE = Path(__file__).with_suffix(".md")


def page(results: Results) -> str:
    """The page, in Markdown."""
    rounds = max((len(values) for taken in results.rounds.values() for values in taken.values()), default=0)
    turns = sum(len(scene.contestants) for scene in SCENES.values()) * 5
    return _PAGE.read_text().format(
        date=results.date,
        tables=_table(results),
        rounds=rounds,
        seconds=results.seconds,
        machine=results.machine,
        chunks=CHUNKS,
        slow=SLOW_S * 1000,
        limit=LIMIT_MS,
        streams=STREAMS,
        varied=VARIED,
        words=VARIED_WORDS,
        paced=PACED_PER_S,
        minutes=round(turns * 8 / 60),
    )


def _table(results: Results) -> str:
    if not results.rounds:
        return "None have been taken yet.\n"
    lines = ["| | Quorum | floor | ratio | budget | |", "|---|--:|--:|--:|---|---|"]
    for title, group in groupby(rows(results), key=lambda row: row.scene):
        lines.append(f"| **{title}** | | | | | |")
        lines += [f"| {row.unit} | {row.quorum} | {row.floor} | {row.ratio} | {row.budget} | {row.verdict} |" for row in group]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page(Results(**orjson.loads(Path(sys.argv[1]).read_bytes()))))
