"""What `python -m bench.answers` does with a split, and what it makes of several."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.config.spec import QuorumSpec
from app.orchestration.evidence.measures import Interval
from bench.answers.__main__ import CANNOT_RUN, main
from bench.answers.figures import SetFigures, Waiting, first_two
from bench.answers.page import drawing, page, tables
from bench.answers.sets import CASCADE, CONFIDENT, DECIDED, LEVELS, MAJORITY, PANEL, SETS, configuration, waiting
from bench.answers.splitting import STEPS, SplitRun

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "answers"
HAPPY, PRIMES, ZEROEVAL = (SETS[name] for name in ("llmdrift_happy_numbers", "llmdrift_prime_yesno", "gsm8k_zeroeval2024"))
SAME = {"value": 0.5, "low": 0.4, "high": 0.6}


def recording(path: Path, *, count: int = 160) -> Path:
    """`able` is right nine times in ten; `one` and `two` are seldom right, and wrong alike."""
    draw = Random(1)
    rows: list[dict[str, Any]] = []
    for n in range(count):
        wrong = str(n + 1 + draw.randrange(3))
        said = {"one": wrong, "two": wrong if draw.random() < 0.7 else str(n), "able": str(n) if draw.random() < 0.9 else wrong}
        answers = {model: {"text": f"Answer: {answer}", "latency_s": 1.0} for model, answer in said.items()}
        rows.append({"id": f"q{n}", "question": f"What is {n} plus nothing ({n})?", "gold": str(n), "answers": answers})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def figures_of(run: SplitRun) -> dict[str, Any]:
    (found,) = json.loads((run.results / "report.json").read_bytes())["sets"]
    return {one["name"]: one for one in found["report"]["contestants"]}


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_a_split_learns_from_one_half_and_reports_the_other(tmp_path: Path) -> None:
    done: list[None] = []
    run = SplitRun(replace(HAPPY, scale=0), recording(tmp_path / "tape.jsonl"), 3, tmp_path / "out")
    run.run(lambda: done.append(None))
    found = figures_of(run)
    assert len(done) == STEPS
    assert set(found) == {PANEL, MAJORITY, DECIDED, CONFIDENT}
    assert found[PANEL]["questions"] == len(run.reported)
    assert found[PANEL]["accuracy"]["value"] > 0.8 > 0.6 > found[MAJORITY]["accuracy"]["value"]
    assert found[PANEL]["lift"]["chosen_on"] == "train"
    written = (run.results / "results.jsonl").stat().st_mtime_ns
    run.run()
    assert (run.results / "results.jsonl").stat().st_mtime_ns == written  # what is done is not done again


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_a_panel_of_real_models_learns_whom_to_believe_and_how_sure_to_be(tmp_path: Path) -> None:
    """One split of the smallest set, within wide bounds; docs/results.md has twenty of all."""
    file = RECORDED / f"{HAPPY.name}.jsonl"
    if not file.exists():
        pytest.skip(f"no recorded answers: {file} is not there")
    run = SplitRun(replace(HAPPY, scale=0), file, 0, tmp_path / "out")
    run.run()
    assert run.told
    found = figures_of(run)
    panel, sure = found[PANEL], found[PANEL]["calibration"]
    print(
        f"{panel['accuracy']['value']:.1%}, {panel['lift']['difference']['value'] * 100:+.2f} on {panel['lift']['over']}, "
        f"ECE {sure['ece']:.3f}, excess {sure['excess']:+.3f}"
    )
    assert all(one["taken"] for one in run.told["trained"][0]["compared"] if one["kind"] != "success")
    assert panel["lift"]["difference"]["value"] > -0.02
    assert panel["accuracy"]["value"] > found[MAJORITY]["accuracy"]["value"] + 0.05
    assert sure["excess"] < 0.06
    assert found[DECIDED]["accuracy"] == panel["accuracy"]


@pytest.mark.parametrize("name", SETS)
def test_the_configuration_of_a_set_states_nothing_of_its_models(name: str, tmp_path: Path) -> None:
    one = SETS[name]
    spec = QuorumSpec.model_validate(configuration(one, recording(tmp_path / "tape.jsonl"), one.cheap[:2]))
    assert all(model.quality is None for model in spec.models.values())
    assert spec.learning == QuorumSpec().learning
    assert (CASCADE in spec.recipes) == (one.strong is not None)


def test_the_first_two_that_agree_are_timed_by_the_second() -> None:
    def given(answer: str | None, latency_s: float) -> dict[str, Any]:
        return {"answer": answer, "latency_s": latency_s, "correct": answer == "yes"}

    answers = {"a": given("no", 1), "b": given("yes", 2), "c": given(None, 3), "d": given("yes", 4), "e": given("no", 5)}
    assert first_two(answers) == (4, 1.0)
    assert first_two({"a": given("no", 1), "b": given("yes", 2)}) == (2, 1.0)


def told(**more: Any) -> dict[str, Any]:
    return {
        **{"accuracy": SAME, "lift": SAME, "against": SAME, "ece": 0.03, "excess": -0.001, "calls_saved": 0.6},
        **{"sure": 1000, "sure_right": 980, "mean_s": 4.0, "shares": [{"model": ZEROEVAL.strong, "asked": 0.1, "given": 0.1}]},
        **more,
    }


def figures() -> list[SetFigures]:
    recipes = [PANEL, MAJORITY, DECIDED, CONFIDENT]
    at = Interval(4.5, 4.0, 5.0), Interval(0.72, 0.7, 0.74)
    levels = {waiting(level): told(mean_s=level * 10) for level in LEVELS}
    timed = Waiting(at, at, {"gpt-4": at}, {waiting(LEVELS[1]): 20})
    cascade = {**dict.fromkeys(recipes, told()), CASCADE: told()}
    waits = {**dict.fromkeys(recipes, told()), **levels}
    return [
        SetFigures(ZEROEVAL, 20, 397.0, cascade, cascade, {"one, two": 18, "one, three": 2}, None),
        SetFigures(PRIMES, 20, 308.0, waits, waits, {}, timed),
    ]


def test_tables_are_put_in_their_places_on_the_page() -> None:
    made = tables(figures())
    written = page("\n".join(f"<!-- {name} -->\nstale\n<!-- /{name} -->\n" for name in made), made)
    assert "stale" not in written
    assert page(written, made) == written
    assert "| 50.0 | **50.0** | +50.00 [+40.00, +60.00] |" in written
    assert "98.0 % of 1,000" in written
    assert "one, three (2 splits)" in written
    assert "chosen in 20 of 20 splits" in written
    with pytest.raises(ValueError, match="no place for the table 'accuracy'"):
        page("", made)


def test_the_drawing_is_a_file_of_its_own() -> None:
    drawn = drawing(figures()[1])
    assert drawn.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
    assert "<style>" in drawn
    assert "first two that agree" in drawn


def test_what_cannot_run_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--answers", str(tmp_path), "--out", str(tmp_path), "--set", "sums"]) == CANNOT_RUN
    assert "there is no set 'sums'" in capsys.readouterr().err
    assert main(["--answers", str(tmp_path), "--out", str(tmp_path), "--set", HAPPY.name]) == CANNOT_RUN
