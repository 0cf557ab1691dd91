"""The report in the terminal: one table a data set."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.cli.asking.escaping import escaped
from app.cli.eval import wording
from app.cli.eval.figures import Lift, SetReport
from app.cli.eval.report import Report, SetOverSplits
from app.cli.eval.routing import Routing, RoutingOverSplits


def show(report: Report, console: Console) -> None:
    """Print what matters most of it."""
    for found in report.sets:
        one = found.report
        if one.contestants:
            console.print(_table(one, report.baseline))
        for figures in one.contestants:
            if figures.errors:
                why = ", ".join(f"{count} {escaped(code)}" for code, count in figures.errors.items())
                console.print(f"{escaped(figures.name)}: {figures.failed} failed: {why}", style="red", markup=False)
        for name, count in one.missing.items():
            console.print(f"{escaped(name)}: {count} questions are not asked yet", style="yellow", markup=False)
        if one.set_aside and not one.contestants:
            console.print(_set_aside(one))
        for routed in one.routing:
            console.print(_routing(f"{routed.questions} questions: APGR {routed.apgr:.3f}", routed))
        if found.across:
            console.print(_splits(found, report.baseline))
        for over in found.routing:
            console.print(_routing(f"{over.splits} splits: APGR {wording.area(over.apgr)}", over))


def _table(one: SetReport, baseline: str | None) -> Table:
    set_aside = f", {one.trained_on} set aside" if one.trained_on else ""
    table = _headed(
        f"{', '.join(one.files)}: {one.questions} questions{set_aside}",
        "accuracy",
        "on its\nbest member",
        *((f"on {baseline}",) if baseline else ()),
        "calls\nsaved",
        "$ a\nquestion",
        "p50,\np95",
        "ECE\n(excess)",
    )
    for figures in one.contestants:
        times = figures.times
        table.add_row(
            Text(escaped(figures.name)),
            _below(wording.interval(figures.accuracy)),
            _lift(figures.lift),
            *((_below(wording.points(figures.against.difference)) if figures.against else wording.NONE,) if baseline else ()),
            wording.percent(figures.calls_saved),
            wording.dollars(figures.cost_per_question_usd),
            f"{wording.seconds(times.p50)}\n{wording.seconds(times.p95)}" if times else wording.NONE,
            wording.calibrated(figures.calibration).replace(" ", "\n"),
        )
    return table


def _set_aside(one: SetReport) -> Table:
    """The single models, where only the part to learn from was asked."""
    table = _headed(f"{', '.join(one.files)}: {one.trained_on} questions set aside", "accuracy", "$ a question", "mean")
    for member in one.set_aside:
        told = (wording.dollars(member.cost_per_question_usd), wording.seconds(member.mean_s))
        table.add_row(Text(escaped(member.model)), wording.interval(member.accuracy), *told)
    return table


def _splits(found: SetOverSplits, baseline: str | None) -> Table:
    on = (f"on {baseline}",) if baseline else ()
    table = _headed(f"Over {len(found.seeds)} splits", "accuracy", "on its best member", *on, "calls saved", "ECE (excess)")
    for one in found.across:
        table.add_row(
            Text(escaped(one.name)),
            _below(wording.interval(one.accuracy)),
            _below(wording.points(one.lift)),
            *((_below(wording.points(one.against)),) if baseline else ()),
            wording.percent(one.calls_saved),
            wording.NONE if one.ece is None else f"{one.ece * 100:.1f} ({(one.excess or 0) * 100:+.1f})",
        )
    return table


def _routing(told: str, found: Routing | RoutingOverSplits) -> Table:
    title = f"Routing from {found.weak} to {found.strong}, {told}"
    table = _headed(title, "strong calls", "accuracy", "of the gap")
    for one in found.points:
        table.add_row(Text(escaped(one.name)), *map(wording.percent, (one.share, one.accuracy, one.recovered)))
    return table


def _headed(title: str, *columns: str) -> Table:
    table = Table(
        title=Text(escaped(title), style="bold"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("", overflow="fold", min_width=8)
    for name in columns:
        table.add_column(Text(escaped(name)), justify="right", overflow="fold")
    return table


def _lift(found: Lift | None) -> Text:
    return Text(wording.NONE if found is None else f"{_below(wording.points(found.difference))}\n{escaped(found.over)}")


def _below(told: str) -> str:
    """An interval below its value."""
    return told.replace(" [", "\n[")
