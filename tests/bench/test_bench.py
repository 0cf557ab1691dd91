"""The benchmark runs, checks the answers it counts, and judges budgets. Nothing measured is asserted: machines are shared."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from bench.__main__ import CANNOT_RUN, main
from bench.page import page
from bench.processes import BenchError, Cores, contestant, load, upstream
from bench.results import Results, missed, rows
from bench.scenes import Budget


def results(**taken: list[float]) -> Results:
    """Of the unary scene: requests a second of each contestant, round by round."""
    found = Results(1.0, machine="a machine", date="2026-01-01")
    for who, rates in taken.items():
        for rate in rates:
            found.add("unary", who, {"rate": rate})
    return found


def test_a_scene_runs_against_the_service_and_the_floor_and_gives_a_page(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    assert main(["--scene", "unary", "--rounds", "1", "--seconds", "0.3", "--json", str(file)]) == 0
    found = Results(**orjson.loads(file.read_bytes()))
    assert found.rounds["unary"]["quorum"][0]["rate"] > 0
    assert found.rounds["unary"]["floor"][0]["rate"] > 0
    assert "| requests/s |" in page(found)


def test_an_answer_that_is_no_success_fails_the_scene(tmp_path: Path) -> None:
    with upstream(tmp_path, Cores()) as nothing_here, pytest.raises(BenchError, match="404 Not Found"):
        load(nothing_here, "calls", {"model": "x"}, 1, 0.2, Cores(), warm_up_s=0.1)


def test_what_is_measured_as_before_is_the_other_checkout(tmp_path: Path) -> None:
    other = tmp_path / "other" / "app" / "cli"
    other.mkdir(parents=True)
    (other.parent / "__init__.py").touch()
    (other / "__init__.py").write_text("def main():\n    raise SystemExit('this is the other one')\n")
    with (
        upstream(tmp_path, Cores()) as source,
        pytest.raises(BenchError, match="this is the other one"),
        contestant("before", source, tmp_path, Cores(), before=tmp_path / "other"),
    ):
        pass


def test_an_unknown_scene_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--scene", "unrary"]) == CANNOT_RUN
    assert "'unrary'" in capsys.readouterr().err


def test_the_ratio_is_that_of_rounds_side_by_side() -> None:
    """The machine was half as fast in the second round; both felt it."""
    (row,) = rows(results(quorum=[800, 400, 750], floor=[1000, 500, 1000]))
    assert (row.quorum, row.ratio, row.verdict) == ("750 (400-800)", "0.80", "met")


def test_a_missed_budget_is_told_and_a_ratio_without_a_floor_is_not_judged() -> None:
    assert missed(results(quorum=[600], floor=[1000]))
    assert not missed(results(quorum=[600]))


@pytest.mark.parametrize(("kind", "value", "met"), [("at least", 4.9, False), ("at least", 5, True), ("at most", 5.1, False)])
def test_a_budget_bounds_on_one_side(kind: str, value: float, met: bool) -> None:
    assert Budget(kind, 5).met(value) is met  # type: ignore[arg-type]
