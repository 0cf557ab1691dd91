from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.eval import storing
from app.cli.eval.parts import Split
from app.cli.eval.results import Result
from app.cli.eval.storing import Evaluation
from app.core.errors import ConfigError
from tests.cli.eval.made import PANEL, SINGLE, result

EVALUATION = Evaluation(("set.jsonl",), "d", 3, (PANEL,), Split(0.5, 1), "own", 1.0, 7)


def kept(directory: Path, *results: Result) -> None:
    with storing.Results(directory) as file:
        for one in results:
            file.add(one)


def test_results_come_back_as_they_were_the_last_one_a_question(tmp_path: Path):
    storing.begin(tmp_path / "e", EVALUATION)
    wrong, right, other = result("q1", 0.0), result("q1", 1.0, members={"a": None, "b": 0.5}), result("q1", 1.0, of=SINGLE)
    kept(tmp_path / "e", wrong, other)
    kept(tmp_path / "e", right)
    found = storing.read(tmp_path / "e")
    assert found.evaluation == EVALUATION
    assert set(found.results) == {right, other}


def test_a_line_that_was_cut_is_left_out_and_written_over(tmp_path: Path):
    storing.begin(tmp_path, EVALUATION)
    kept(tmp_path, result("q1", 1.0))
    path = tmp_path / storing.RESULTS
    path.write_bytes(path.read_bytes() + b'{"contestant": "pan')
    assert len(storing.read(tmp_path).results) == 1
    kept(tmp_path, result("q2", 1.0))
    assert [one.question for one in storing.read(tmp_path).results] == ["q1", "q2"]


def test_what_is_no_evaluation_is_named(tmp_path: Path):
    assert not storing.is_stored(tmp_path)
    with pytest.raises(ConfigError, match="holds no evaluation"):
        storing.read(tmp_path)
    storing.begin(tmp_path, EVALUATION)
    (tmp_path / storing.RESULTS).write_text("{}\n")
    with pytest.raises(ConfigError, match=r"results\.jsonl:1: no result"):
        storing.read(tmp_path)
    (tmp_path / storing.EVALUATION).write_text("{}")
    with pytest.raises(ConfigError, match="not what this version of quorum writes"):
        storing.read(tmp_path)


def test_an_evaluation_that_is_gone_on_with_keeps_its_contestants(tmp_path: Path):
    now = Evaluation(("set.jsonl",), "d2", 4, (SINGLE,), Split(0.5, 1), "own", 1.0, 99)
    found = storing.gone_on(EVALUATION, now)
    assert (found.contestants, found.began_at, found.digest) == ((PANEL, SINGLE), 7, "d2")
