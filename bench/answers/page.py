"""The tables of `docs/results.md` and the drawing beside it. Pure.

A table stands on the page between `<!-- name -->` and `<!-- /name -->`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from app.cli.eval import plots
from app.orchestration.evidence.measures import Interval, Point, frontier
from bench.answers.figures import SetFigures, Waiting
from bench.answers.sets import CASCADE, CONFIDENT, DECIDED, LEVELS, MAJORITY, PANEL, waiting

FIRST_TWO: Final = "first two that agree"
EVERYBODY: Final = "everybody is waited for"
MAJORITY_OF_ALL: Final = "plain majority of all"
_COLOURS: Final = (
    "svg{font-family:system-ui,sans-serif;background:#fff}text{fill:#5c6670;font-size:12px}text.n{fill:#1c2024;font-size:11px}"
    "line.g{stroke:#d5dade}polyline.s{stroke:#0b62c4;stroke-width:2;fill:none}circle.s{fill:#0b62c4}circle.m{fill:#9a5b00}"
)
"""As the page of `quorum eval` has them: a file of its own has no page around it."""


def tables(found: Sequence[SetFigures]) -> dict[str, str]:
    """The tables by name; those of which nothing was measured are left out."""
    made = {"accuracy": _accuracy(found), "confidence": _confidence(found), "calls": _calls(found)}
    if cascade := next((one for one in found if CASCADE in one.across), None):
        made["cascade"] = _cascade(cascade)
    if timed := next((one for one in found if one.waiting), None):
        made["waiting"] = _waits(timed)
    return made


def page(text: str, made: Mapping[str, str]) -> str:
    """`text` with the tables in place of those that stand there.

    Raises:
        ValueError: the page has no place for one.
    """
    for name, table in made.items():
        place = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"the page has no place for the table {name!r}: <!-- {name} --> and <!-- /{name} -->")
        text = place.sub(lambda mark, told=table: f"{mark[1]}{told}{mark[2]}", text)
    return text


def drawing(one: SetFigures) -> str:
    """Accuracy against seconds, as a file of its own: every level, the single models, and the frontier of them all."""
    points = _points(one)
    best = frontier([point for point, _ in points])
    svg = plots.frontier(points, best, "seconds a question")
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "<title>", f"<style>{_COLOURS}</style><title>", 1
    )


def _accuracy(found: Sequence[SetFigures]) -> str:
    rows = [
        [
            one.one.title,
            str(one.splits),
            f"{one.questions:,.0f}",
            _share(_value(panel["accuracy"]) - _value(panel["lift"])),
            _share(_value(one.across[MAJORITY]["accuracy"])),
            f"**{_share(_value(panel['accuracy']))}**",
            _points_of(panel["lift"]),
            _points_of(panel["against"]),
        ]
        for one in found
        if (panel := one.across[PANEL])
    ]
    head = ["set", "splits", "questions", "best single member", "plain majority", "`consensus`", "on the best member"]
    return _table([*head, "on the majority"], rows)


def _confidence(found: Sequence[SetFigures]) -> str:
    rows: list[list[str]] = []
    for one in found:
        told = [one.one.title]
        for name in (PANEL, DECIDED, MAJORITY):
            across = one.across[name]
            told.append(f"{across['ece'] * 100:.1f} ({across['excess'] * 100:+.1f})".replace("-", "−"))
            right = f"{across['sure_right'] / across['sure'] * 100:.1f} % of {across['sure']:,}" if across["sure"] else "none"
            told.append(right)
        rows.append(told)
    head = ["set", "`consensus`: error", "sure and right", "`stop: decided`: error", "sure and right"]
    return _table([*head, "plain majority: error", "sure and right"], rows)


def _calls(found: Sequence[SetFigures]) -> str:
    rows = [
        [one.one.title, f"`stop: {rule}`", _share(across["calls_saved"]), _points_of(across["against"])]
        for one in found
        for rule in (DECIDED, CONFIDENT)
        if (across := one.over_panel[rule])
    ]
    return _table(["set", "strategy", "calls saved, %", "accuracy, on asking everybody"], rows)


def _cascade(one: SetFigures) -> str:
    across = one.across[CASCADE]
    reached = next(share["asked"] for share in across["shares"] if share["model"] == one.one.strong)
    rows = [
        [
            f"{pair} ({count} splits)" if len(one.cascades) > 1 else pair,
            _share(_value(across["accuracy"])) if place == 0 else "",
            _share(reached) if place == 0 else "",
            _points_of(across["lift"]) if place == 0 else "",
        ]
        for place, (pair, count) in enumerate(sorted(one.cascades.items(), key=lambda item: -item[1]))
    ]
    return _table(["cheap models", "accuracy, %", "questions that reach the strong model, %", "on the strong model"], rows)


def _waits(one: SetFigures) -> str:
    timed = _timed(one)
    rows = [[FIRST_TWO, "", *_told(timed.first_two)], ["`parallel`, chosen on the part set aside", "", *_told(timed.chosen)]]
    for level in LEVELS:
        across = one.across[waiting(level)]
        times = timed.levels.get(waiting(level), 0)
        chosen = f"chosen in {times} of {one.splits} splits" if times else ""
        rows.append([f"`quality_threshold: {level:g}`", chosen, *_of(across)])
    rows.append([f"`consensus`: {EVERYBODY}", "", *_of(one.across[PANEL])])
    rows.append([MAJORITY_OF_ALL, "", *_of(one.across[MAJORITY])])
    return _table(["", "", "mean seconds", "accuracy, %"], rows)


def _points(one: SetFigures) -> list[tuple[Point, bool]]:
    timed = _timed(one)
    points = [(_point(f"until {level:g}", one.across[waiting(level)]), True) for level in LEVELS]
    points += [(_point(EVERYBODY, one.across[PANEL]), True), (_point(MAJORITY_OF_ALL, one.across[MAJORITY]), False)]
    others = {FIRST_TWO: timed.first_two, **timed.members}
    return [*points, *((Point(name, told[0].value, told[1].value), False) for name, told in others.items())]


def _timed(one: SetFigures) -> Waiting:
    if one.waiting is None:
        raise ValueError(f"{one.one.name} has no recorded times")
    return one.waiting


def _point(name: str, across: Mapping[str, Any]) -> Point:
    return Point(name, across["mean_s"], _value(across["accuracy"]))


def _of(across: Mapping[str, Any]) -> list[str]:
    return [f"{across['mean_s']:.1f}", _share(_value(across["accuracy"]))]


def _told(pair: tuple[Interval, Interval]) -> list[str]:
    return [f"{pair[0].value:.1f}", _share(pair[1].value)]


def _value(interval: Mapping[str, float]) -> float:
    return interval["value"]


def _share(share: float) -> str:
    return f"{share * 100:.1f}"


def _points_of(interval: Mapping[str, float]) -> str:
    low, value, high = (f"{interval[name] * 100:+.2f}" for name in ("low", "value", "high"))
    return f"{value} [{low}, {high}]".replace("-", "−")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
