"""The report on one or several stored evaluations: a section for each data set, and what several splits say together. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.cli.eval.figures import Figures, Lift, SetReport, Share
from app.cli.eval.measuring import set_report
from app.cli.eval.parts import Split
from app.cli.eval.results import Contestant, Result, holds
from app.cli.eval.routing import RoutingOverSplits, routing_over_splits
from app.cli.eval.storing import Stored
from app.core.errors import InvalidRequest
from app.orchestration.evidence.measures import Interval, mean_interval

REDRAWS = 100
REDRAWS_A_SPLIT = 25
"""Of several splits, whose errors are averaged: 20 of them draw 500 times."""


@dataclass(frozen=True, slots=True)
class Across:
    """A contestant over several splits of one data set: means, with the normal interval over the splits. The splits share
    questions, so it tells how much the choice of the split matters, not what other questions would give. `sure` answers of
    all splits together had more than 95 % confidence, `sure_right` of them were right."""

    name: str
    splits: int
    accuracy: Interval
    lift: Interval | None
    against: Interval | None
    ece: float | None
    excess: float | None
    calls_saved: float
    sure: int
    sure_right: int
    mean_s: float | None
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class SetOverSplits:
    """A data set: its first split in full, and all of them together where there are several."""

    report: SetReport
    seeds: tuple[int, ...]
    across: tuple[Across, ...]
    routing: tuple[RoutingOverSplits, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """`version` grows when a member changes its meaning."""

    made_at: int
    quorum: str
    baseline: str | None
    sets: tuple[SetOverSplits, ...]
    version: int = 1


def report(stored: Sequence[Stored], *, baseline: str | None, splits: int | None, made_at: int, quorum: str) -> Report:
    """The report on `stored`. Evaluations of one data set are told side by side; those of one contestant with different seeds
    together.

    Parameters:
        baseline: a contestant that all others are compared with as well.
        splits: how many seeds to split every evaluation by, from its own on, in place of that one alone.

    Raises:
        InvalidRequest: no evaluation has the baseline; or there is no split to repeat.
    """
    groups: dict[str, list[Stored]] = {}
    for one in stored:
        groups.setdefault(one.evaluation.digest, []).append(one)
    sets = tuple(_over_splits(group, baseline, splits) for group in groups.values())
    if baseline and not any(one.name == baseline for found in sets for one in found.report.contestants):
        names = dict.fromkeys(one.name for found in sets for one in found.report.contestants)
        raise InvalidRequest(f"--baseline: {baseline!r} is none of {', '.join(names)}")
    return Report(made_at, quorum, baseline, sets)


def _over_splits(group: Sequence[Stored], baseline: str | None, splits: int | None) -> SetOverSplits:
    by_split: dict[Split, list[Stored]] = {}
    for one in group:
        first = one.evaluation.split
        if splits and splits > 1 and not first.share:
            raise InvalidRequest(f"--splits: {one.directory} was not split; give --split too")
        for step in range(splits or 1):
            by_split.setdefault(replace(first, seed=first.seed + step), []).append(one)
    redraws = REDRAWS if len(by_split) == 1 else REDRAWS_A_SPLIT
    in_order = sorted(by_split.items(), key=lambda item: item[0].seed)
    reports = [_section(split, found, baseline, redraws) for split, found in in_order]
    several = len(reports) > 1
    seeds = tuple(one.split.seed for one in reports)
    if not several:
        return SetOverSplits(reports[0], seeds, ())
    return SetOverSplits(reports[0], seeds, _across(reports), routing_over_splits([one.routing for one in reports]))


def _section(split: Split, stored: Sequence[Stored], baseline: str | None, redraws: int) -> SetReport:
    contestants: dict[str, Contestant] = {}
    results: list[Result] = []
    for one in stored:
        for contestant in one.evaluation.contestants:
            name = contestant.name
            if name in contestants:
                name = f"{name} ({one.directory.name})"
            contestants[name] = replace(contestant, name=name)
            results += [replace(found, contestant=name) for found in one.results if found.contestant == contestant.name]
    first = stored[0].evaluation
    return set_report(
        first.files, first.digest, tuple(contestants.values()), results, split, baseline=baseline, redraws=redraws
    )


def _across(reports: Sequence[SetReport]) -> tuple[Across, ...]:
    by_name: dict[str, list[Figures]] = {}
    for one in reports:
        for figures in one.contestants:
            by_name.setdefault(figures.name, []).append(figures)
    return tuple(_together(name, found) for name, found in by_name.items())


def _together(name: str, found: Sequence[Figures]) -> Across:
    calibrated = [one.calibration for one in found if one.calibration]
    times = [one.times.mean for one in found if one.times]
    return Across(
        name,
        len(found),
        mean_interval([one.accuracy.value for one in found]),
        _mean_lift([one.lift for one in found]),
        _mean_lift([one.against for one in found]),
        sum(one.ece for one in calibrated) / len(calibrated) if calibrated else None,
        sum(one.excess for one in calibrated) / len(calibrated) if calibrated else None,
        sum(one.calls_saved for one in found) / len(found),
        sum(one.sure for one in calibrated),
        sum(one.sure_right for one in calibrated),
        sum(times) / len(times) if times else None,
        _mean_shares([one.shares for one in found]),
    )


def _mean_lift(lifts: Sequence[Lift | None]) -> Interval | None:
    known = [one.difference.value for one in lifts if one is not None]
    return mean_interval(known) if known else None


def _mean_shares(shares: Sequence[Sequence[Share]]) -> tuple[Share, ...]:
    """Each model's, over all splits; it was not asked in those that do not name it."""
    asked: dict[str, float] = {}
    given: dict[str, float] = {}
    for one in (share for of_split in shares for share in of_split):
        asked[one.model] = asked.get(one.model, 0.0) + one.asked / len(shares)
        given[one.model] = given.get(one.model, 0.0) + one.given / len(shares)
    return tuple(Share(model, asked[model], given[model]) for model in asked)


def held(stored: Stored) -> Stored:
    """Without the results that are of another recipe than the one that was evaluated last, or reported before something was
    learned."""
    now: Mapping[str, Contestant] = {one.name: one for one in stored.evaluation.contestants}
    split = stored.evaluation.split
    kept = (one for one in stored.results if one.contestant in now and holds(one, now[one.contestant], split))
    return replace(stored, results=tuple(kept))
