"""The program that measures routing, on a small recording of our own in place of a public one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.routing import SETS, STEPS, main


def recorded(directory: Path) -> Path:
    """The weak model knows rivers, the strong one sonatas too."""
    weak, strong = SETS["gsm8k"].models
    rows = []
    for n in range(200):
        subject = ("river", "sonata")[n % 2]
        right = {weak: subject == "river" or n % 12 == 1, strong: n % 10 != 0}
        answers = {model: {"text": "it is so", "correct": told} for model, told in right.items()}
        rows.append({"id": f"q{n}", "question": f"Tell me of the {subject} number {n}", "gold": "1", "answers": answers})
    (directory / SETS["gsm8k"].file).write_text("\n".join(map(json.dumps, rows)))
    return directory


@pytest.mark.timeout(300)
def test_a_split_is_learned_and_reported_and_not_done_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ["--set", "gsm8k", "--answers", str(recorded(tmp_path)), "--splits", "1", "--out", str(tmp_path / "out")]
    assert main(order) == 0
    report = tmp_path / "out" / "gsm8k" / "report.json"
    (found,) = json.loads(report.read_bytes())["sets"][0]["report"]["routing"]
    assert (found["weak"], found["strong"]) == SETS["gsm8k"].models
    assert found["apgr"] > 0.7
    assert len(found["points"]) == len(STEPS)

    written = (tmp_path / "out" / "gsm8k" / "0" / "eval" / "results.jsonl").read_bytes()
    assert main(order) == 0
    assert (tmp_path / "out" / "gsm8k" / "0" / "eval" / "results.jsonl").read_bytes() == written
    assert "APGR" in capsys.readouterr().out


def test_a_recording_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "gsm8k", "--answers", str(tmp_path), "--splits", "1", "--out", str(tmp_path / "out")]) == 1
    assert "routellm_gsm8k.jsonl" in capsys.readouterr().err
