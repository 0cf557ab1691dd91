"""The report as one HTML page that needs nothing else: no script, no font, no request. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from app.cli.eval import plots, wording
from app.cli.eval.figures import Figures, MemberFigures, SetReport
from app.cli.eval.report import Across, Report, SetOverSplits
from app.cli.eval.routing import RoutePoint, RoutingOverSplits
from app.orchestration.evidence.measures import Calibration

_STYLE: Final = """
:root { color-scheme: light dark; --back: #fff; --text: #1c2024; --dim: #5c6670; --line: #d5dade; }
:root { --strong: #0b62c4; --member: #9a5b00; }
@media (prefers-color-scheme: dark) {
  :root { --back: #15181b; --text: #e6e9ec; --dim: #9aa5af; --line: #363d44; }
  :root { --strong: #6cb0ff; --member: #e0a458; }
}
body { background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3, h4 { font-size: 1rem; margin: 1.6rem 0 .4rem; } h4 { font-weight: 500; }
.row { display: flex; flex-wrap: wrap; gap: 0 2rem; } .row > div { max-width: 22rem; }
p { max-width: 60rem; } .dim { color: var(--dim); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--dim); padding: .2rem 0; }
th, td { text-align: right; padding: .25rem .55rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { color: var(--dim); font-weight: 600; }
svg { max-width: 100%; height: auto; color: var(--text); margin: .4rem 1.5rem .4rem 0; vertical-align: top; }
svg text { fill: var(--dim); font-size: 12px; } svg text.n { fill: var(--text); font-size: 11px; }
svg line.g { stroke: var(--line); } svg line.s, svg polyline.s { stroke: var(--strong); stroke-width: 2; fill: none; }
svg line.m { stroke: var(--member); stroke-width: 2; } svg polyline.d { stroke: var(--dim); stroke-dasharray: 4 4; fill: none; }
svg circle.s { fill: var(--strong); } svg circle.m { fill: var(--member); } details { margin: .6rem 0; }
"""


def page(report: Report) -> str:
    """The whole page."""
    made = datetime.fromtimestamp(report.made_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    body = "".join(_set(one, report.baseline) for one in report.sets)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Quorum evaluation</title><style>{_STYLE}</style></head><body><h1>Quorum evaluation</h1>"
        f'<p class="dim">Made {made} by quorum {escape(report.quorum)}. Intervals are of 95 %; a failed run counts as a wrong '
        f"answer; differences are in percentage points, paired by question.</p>{body}</body></html>\n"
    )


def _set(found: SetOverSplits, baseline: str | None) -> str:
    one = found.report
    parts = [f"<h2>{escape(', '.join(one.files))}</h2><p>{_split(one)}</p>"]
    if one.missing:
        told = ", ".join(f"{escape(name)} {count}" for name, count in one.missing.items())
        parts.append(f"<p><strong>Not asked yet:</strong> {told}. Their figures are of fewer questions.</p>")
    if one.contestants:
        parts += [_summary(one, baseline), _accuracies(one), _spending(one), _times(one), _tradeoffs(one)]
        parts += [_routing(one), _calibration(one), _shares(one), _categories(one), _failures(one)]
    parts.append(_members("Single models", one.members))
    parts.append(_members("Single models on the questions set aside", one.set_aside))
    if found.across:
        parts.append(_across(found.across, found.seeds, baseline))
        parts += [_routing_across(over) for over in found.routing]
    return "".join(parts)


def _split(one: SetReport) -> str:
    if not one.split.share:
        return f"{one.questions} questions, none set aside to learn from."
    return (
        f"{one.questions} questions reported; {one.trained_on} set aside to learn from (a share of {one.split.share:g}, "
        f"seed {one.split.seed})."
    )


def _summary(one: SetReport, baseline: str | None) -> str:
    head = ["", "questions", "failed", "accuracy", "on its best member", *((f"on {baseline}",) if baseline else ())]
    head += ["calls saved", "$ a question", "p50 / p95", "ECE (excess)"]
    rows = [
        [
            figures.name,
            str(figures.questions),
            str(figures.failed),
            wording.interval(figures.accuracy),
            wording.lift(figures.lift),
            *((wording.points(figures.against.difference) if figures.against else wording.NONE,) if baseline else ()),
            wording.percent(figures.calls_saved),
            wording.dollars(figures.cost_per_question_usd),
            wording.times(figures.times),
            wording.calibrated(figures.calibration),
        ]
        for figures in one.contestants
    ]
    chosen = {figures.lift.chosen_on for figures in one.contestants if figures.lift}
    told = "The best member is the best single model on the part that was set aside."
    if "report" in chosen:
        told = (
            "The best member is the best single model on these same questions, which flatters it; --split chooses it on others."
        )
    return _table(head, rows) + (f'<p class="dim">{told}</p>' if chosen else "")


def _accuracies(one: SetReport) -> str:
    named = {figures.name for figures in one.contestants}
    bars = [plots.Bar(figures.name, figures.accuracy, True) for figures in one.contestants]
    bars += [plots.Bar(member.model, member.accuracy, False) for member in one.members if member.model not in named]
    return f"<h3>Accuracy</h3>{plots.accuracies(bars)}"


def _spending(one: SetReport) -> str:
    head = ["", "$ in all", "$ a question", "input tokens", "output tokens", "calls", "calls a question", "calls saved"]
    rows = [
        [
            figures.name,
            wording.dollars(figures.cost_usd),
            wording.dollars(figures.cost_per_question_usd),
            f"{figures.input_tokens:,}",
            f"{figures.output_tokens:,}",
            f"{figures.calls:,}",
            f"{figures.calls / figures.questions:.2f}",
            wording.percent(figures.calls_saved),
        ]
        for figures in one.contestants
    ]
    return f"<h3>What it takes</h3>{_table(head, rows)}"


def _times(one: SetReport) -> str:
    head = ["", "mean", "p50", "p95", "first answer p50", "first answer p95"]
    rows = [
        [figures.name, *map(wording.seconds, (took.mean, took.p50, took.p95, took.first_p50, took.first_p95))]
        for figures in one.contestants
        if (took := figures.times)
    ]
    return f"<h3>Time</h3>{_table(head, rows)}"


def _tradeoffs(one: SetReport) -> str:
    named = {figures.name for figures in one.contestants}
    parts = ["<h3>What quality costs</h3><p>The line joins those whom nobody beats in both.</p>"]
    for found in one.tradeoffs:
        rows = [
            [point.name, f"{point.cost:.4g}", wording.percent(point.quality), "yes" if point in found.best else "no"]
            for point in sorted(found.points, key=lambda point: point.cost)
        ]
        parts.append(plots.frontier([(point, point.name in named) for point in found.points], found.best, found.unit))
        parts.append(_details(f"Accuracy by {found.unit}", ["", found.unit, "accuracy", "on the frontier"], rows))
    return "".join(parts) if one.tradeoffs else ""


def _routing(one: SetReport) -> str:
    parts: list[str] = []
    for found in one.routing:
        weak, strong = wording.percent(found.weak_accuracy), wording.percent(found.strong_accuracy)
        told = (
            f"Between {found.weak} ({weak} right) and {found.strong} ({strong} right), on {found.questions} questions. "
            f"The curve gives them to the strong one in the order of what {found.ranked_by} expected it to gain; "
            f"the dashed line is chance. Area under the curve (APGR, 0.5 by chance): {found.apgr:.3f}."
        )
        curve = plots.recovery(found.weak, found.strong, found.curve, found.points)
        rows = [[wording.percent(at.share), wording.percent(at.recovered)] for at in found.curve[::10]]
        parts.append(f"<h3>Routing</h3><p>{escape(told)}</p>{curve}{_route_points(found.points)}")
        parts.append(_details("The curve", ["strong calls", "of the gap"], rows))
    return "".join(parts)


def _routing_across(found: RoutingOverSplits) -> str:
    told = f"From {found.weak} to {found.strong} over {found.splits} splits: APGR {wording.area(found.apgr)}."
    return f"<p>{escape(told)}</p>{_route_points(found.points)}"


def _route_points(points: Sequence[RoutePoint]) -> str:
    rows = [[one.name, *map(wording.percent, (one.share, one.accuracy, one.recovered))] for one in points]
    return _table(["", "strong calls", "accuracy", "of the gap"], rows)


def _calibration(one: SetReport) -> str:
    parts = [_how_sure(figures.name, found, figures) for figures in one.contestants if (found := figures.calibration)]
    return f'<h3>How far a stated confidence can be believed</h3><div class="row">{"".join(parts)}</div>' if parts else ""


def _how_sure(name: str, found: Calibration, figures: Figures) -> str:
    told = [f"Expected calibration error {found.ece * 100:.2f} points, {found.excess * 100:+.2f} more than chance would show"]
    told.append(f"Brier score {found.brier:.3f}")
    if found.sure:
        told.append(f"{found.sure} answers above 95 %, {wording.percent(found.sure_right / found.sure)} of them right")
    if figures.sure < 1:
        right = wording.interval(figures.sure_accuracy)
        told.append(f"{wording.percent(figures.sure)} answered without review, {right} of them right")
    rows = [[str(bin_.count), wording.percent(bin_.confidence), wording.percent(bin_.accuracy)] for bin_ in found.bins]
    bins = _details("The bins", ["answers", "stated", "right"], rows)
    return f"<div><h4>{escape(name)}</h4>{plots.reliability(name, found.bins)}<p>{'. '.join(told)}.</p>{bins}</div>"


def _shares(one: SetReport) -> str:
    rows = [
        [f"{figures.name}: {share.model}", wording.percent(share.asked), wording.percent(share.given)]
        for figures in one.contestants
        for share in figures.shares
    ]
    if not rows:
        return ""
    return _details("Who was asked, and whose answer was given, by share of questions", ["", "asked", "given"], rows)


def _categories(one: SetReport) -> str:
    names = sorted({category.name for figures in one.contestants for category in figures.categories})
    if not names:
        return ""
    by_name = {(figures.name, category.name): category for figures in one.contestants for category in figures.categories}
    rows: list[list[str]] = []
    for name in names:
        found = [by_name.get((figures.name, name)) for figures in one.contestants]
        count = max(category.questions for category in found if category)
        rows.append(
            [name, str(count), *(wording.interval(category.accuracy) if category else wording.NONE for category in found)]
        )
    head = ["", "questions", *(figures.name for figures in one.contestants)]
    return f"<h3>By category</h3>{_table(head, rows)}"


def _failures(one: SetReport) -> str:
    rows = [[figures.name, code, str(count)] for figures in one.contestants for code, count in figures.errors.items()]
    rows += [
        [figures.name, "answered, but nothing could be read", str(figures.unread)]
        for figures in one.contestants
        if figures.unread
    ]
    return f"<h3>What failed</h3>{_table(['', 'why', 'questions'], rows)}" if rows else ""


def _members(title: str, members: Sequence[MemberFigures]) -> str:
    rows = [
        [
            member.model,
            str(member.questions),
            wording.interval(member.accuracy),
            wording.dollars(member.cost_per_question_usd),
            wording.seconds(member.mean_s),
        ]
        for member in members
    ]
    return f"<h3>{title}</h3>{_table(['', 'questions', 'accuracy', '$ a question', 'mean time'], rows)}" if rows else ""


def _across(across: Sequence[Across], seeds: Sequence[int], baseline: str | None) -> str:
    head = [
        "",
        "splits",
        "accuracy",
        "on its best member",
        *((f"on {baseline}",) if baseline else ()),
        "calls saved",
        "mean time",
        "ECE (excess)",
        "surer than 95 %, right",
    ]
    rows = [
        [
            one.name,
            str(one.splits),
            wording.interval(one.accuracy),
            wording.points(one.lift),
            *((wording.points(one.against),) if baseline else ()),
            wording.percent(one.calls_saved),
            wording.seconds(one.mean_s),
            wording.NONE if one.ece is None else f"{one.ece * 100:.1f} ({(one.excess or 0) * 100:+.1f})",
            f"{one.sure}, {wording.percent(one.sure_right / one.sure)}" if one.sure else wording.NONE,
        ]
        for one in across
    ]
    told = f"Means over the seeds {min(seeds)} to {max(seeds)}, with the interval over the splits, which share questions."
    return f"<h3>Over {len(seeds)} splits</h3><p>{told}</p>{_table(head, rows)}"


def _details(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return f"<details><summary>{escape(title)}</summary>{_table(head, rows)}</details>"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
