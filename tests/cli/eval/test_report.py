from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from app.cli.eval.page import page
from app.cli.eval.parts import Split
from app.cli.eval.report import Report, held, report
from app.cli.eval.results import Contestant, Result
from app.cli.eval.storing import Evaluation, Stored
from app.core.errors import InvalidRequest
from tests.cli.eval.made import PANEL, SINGLE, result

HALVED = Split(0.5, 0)
RESULTS = tuple(
    one
    for n in range(60)
    for one in (
        result(f"q{n}", float(n % 5 != 0), members={"a": float(n % 2), "b": 0.0}, confidence=0.8, category=f"c{n % 2}"),
        result(f"q{n}", float(n % 2), of=SINGLE, latency_ms=1500.0, category=f"c{n % 2}"),
    )
)


def stored(name: str, *, split: Split = HALVED, digest: str = "d", results: tuple[Result, ...] = RESULTS) -> Stored:
    evaluation = Evaluation(("set.jsonl",), digest, 60, (PANEL, SINGLE), split, "own", 1.0, 0)
    return Stored(Path(name), evaluation, results)


def made(*found: Stored, baseline: str | None = None, splits: int | None = None) -> Report:
    return report(found, baseline=baseline, splits=splits, made_at=0, quorum="1")


def test_one_evaluation_is_split_by_as_many_seeds_as_wanted():
    (found,) = made(stored("x"), splits=20, baseline="a").sets
    assert found.seeds == tuple(range(20))
    panel, single = found.across
    assert (panel.name, panel.splits, single.lift) == ("panel", 20, None)
    assert panel.lift is not None
    assert panel.lift.low < panel.lift.value < panel.lift.high
    assert panel.against == panel.lift  # the baseline is the best member in every split
    assert panel.ece is not None
    assert (panel.sure, panel.sure_right, panel.mean_s) == (0, 0, pytest.approx(0.2))
    assert [(one.model, one.asked) for one in panel.shares] == [("a", pytest.approx(1)), ("b", pytest.approx(1))]


def test_evaluations_of_one_set_by_several_seeds_are_told_together():
    (found,) = made(stored("x"), stored("y", split=Split(0.5, 7))).sets
    assert (found.seeds, found.across[0].splits) == ((0, 7), 2)


def test_evaluations_of_one_set_and_seed_stand_side_by_side():
    (found,) = made(stored("x"), stored("y")).sets
    assert [one.name for one in found.report.contestants] == ["panel", "a", "panel (y)", "a (y)"]
    assert found.across == ()


def test_other_sets_have_sections_of_their_own():
    assert len(made(stored("x"), stored("y", digest="e")).sets) == 2


def test_what_cannot_be_told_is_refused():
    with pytest.raises(InvalidRequest, match="'c' is none of panel, a"):
        made(stored("x"), baseline="c")
    with pytest.raises(InvalidRequest, match="was not split"):
        made(stored("x", split=Split()), splits=20)


def test_results_of_a_recipe_as_it_was_before_are_left_out():
    old = result("q1", 1.0, of=Contestant("panel", "recipe", "older"))
    assert held(stored("x", results=(old, *RESULTS))).results == RESULTS


def test_results_reported_before_something_was_learned_are_left_out_and_those_learned_from_are_kept():
    one = stored("x")
    wiser = replace(one.evaluation, contestants=(replace(PANEL, learned="l_1"), SINGLE))
    kept = held(replace(one, evaluation=wiser)).results
    assert {found.question for found in kept if found.contestant == "panel"} == {
        found.question for found in RESULTS if HALVED.trains(found.question)
    }
    assert sum(found.contestant == "a" for found in kept) == 60


class Balanced(HTMLParser):
    """Fails where an element is closed that is not open."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_from_elsewhere():
    text = page(made(stored("x"), splits=3, baseline="a"))
    read = Balanced()
    read.feed(text)
    assert read.open == []
    assert {"svg", "table", "polyline", "circle"} <= read.seen
    assert not {"script", "link", "img", "iframe"} & read.seen
    assert not re.search(r"(src|href)=|url\(|https?:", text)
    assert "prefers-color-scheme: dark" in text


def test_every_plot_has_a_title_and_its_figures_in_a_table():
    text = page(made(stored("x")))
    assert text.count("<svg") == text.count('role="img" aria-label=') == 5
    for heading in (
        "Accuracy",
        "What it takes",
        "Time",
        "What quality costs",
        "How far a stated confidence can be believed",
        "By category",
        "Single models",
    ):
        assert f"<h3>{heading}</h3>" in text


def test_names_cannot_write_into_the_page():
    evil = Contestant("<b>&panel", "recipe", "f1", ("a", "b"))
    results = tuple(result(f"q{n}", 1.0, of=evil, members={"a": 1.0, "<i>": 1.0}, category="<u>") for n in range(4))
    evaluation = Evaluation(("<s>.jsonl",), "d", 4, (evil,), Split(), "own", 1.0, 0)
    text = page(made(Stored(Path("x"), evaluation, results), baseline="<b>&panel"))
    assert not re.search(r"<[bius]>", text)
