"""`quorum eval` as a person runs it: in a process of its own, with a service of its own and against one that runs."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.service import ROOT, Service, eventually, service

ADMIN = "an-admin-key-of-the-tests"
MODELS = ("good", "fair", "poor")
QUESTIONS = 24


def recording(path: Path) -> Path:
    """Answers of three models: `good` is always right, `fair` half the time, `poor` never; they take 2, 1 and 3 s."""
    rows: list[dict[str, Any]] = []
    for n in range(QUESTIONS):
        said = {"good": n, "fair": n + n % 2, "poor": n + 1}
        took = {"good": 2000, "fair": 1000, "poor": 3000}
        answers = {model: {"text": f"Answer: {said[model]}", "latency_ms": took[model]} for model in MODELS}
        rows.append({"id": f"q{n}", "question": f"What is {n} plus nothing ({n})?", "gold": n, "answers": answers})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def configured(path: Path, data: Path, **recipes: Any) -> Path:
    models = [f"tape/{model}" for model in MODELS]
    panel = {"strategy": "consensus", "models": models, "options": {"extract": {"type": "number"}}}
    spec = {
        "providers": {
            "tape": {"kind": "replay", "options": {"file": str(data), "scale": 0.01}},
            "mock": {"kind": "mock", "options": {"personas": {"slow": {"latency_ms": 60000}}}},
        },
        "recipes": {"panel": panel, "chain": {"strategy": "fallback", "models": models}, **recipes},
    }
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("eval")
    configured(made / "quorum.yaml", recording(made / "tape.jsonl"))
    return made


@pytest.fixture(scope="module")
def running(directory: Path) -> Iterator[Service]:
    with service(directory, factory="app.main:create_app", config=directory / "quorum.yaml", admin_key=ADMIN) as started:
        yield started


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from app.cli import main; main()", "eval", *map(str, arguments)]


def environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QUORUM_", "PROMETHEUS_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


def evaluated(*arguments: str | Path, cwd: Path = ROOT, **variables: str) -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    told = {**environment(), **variables}
    ran = subprocess.run(command(*arguments), capture_output=True, timeout=60, env=told, cwd=cwd)
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


def reported(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_text())["sets"][0]["report"]


def own(directory: Path, out: Path, *more: str) -> list[str | Path]:
    return [directory / "tape.jsonl", "--config", directory / "quorum.yaml", "--out", out, *more]


def test_a_recording_is_data_set_and_provider_at_once(directory: Path, tmp_path: Path):
    code, out, err = evaluated(*own(directory, tmp_path / "e", "-r", "panel", "-r", "chain", "--members"))

    assert code == 0, err
    assert "recorded answers come 100 times as fast" in err
    assert "asked 120 of 120" in err
    assert f"tape.jsonl: {QUESTIONS} questions" in out
    found = reported(tmp_path / "e")
    accuracy = {one["name"]: one["accuracy"]["value"] for one in found["contestants"]}
    assert accuracy["tape/good"] == accuracy["chain"] == 1
    assert accuracy["tape/fair"] == 0.5
    assert accuracy["tape/poor"] == 0
    panel = found["contestants"][0]
    assert (panel["lift"]["over"], panel["failed"], panel["calls"]) == ("tape/good", 0, 3 * QUESTIONS)
    assert panel["calibration"]["rows"] == QUESTIONS
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.endswith("</html>\n")


def test_times_are_told_as_they_were_recorded(directory: Path, tmp_path: Path):
    assert evaluated(*own(directory, tmp_path / "e", "-r", "panel", "-r", "tape/fair", "--concurrency", "2"))[0] == 0
    panel, fair = (one["times"] for one in reported(tmp_path / "e")["contestants"])
    print(f"recorded 3 s and 1 s, told as {panel['p50']:.2f} and {fair['p50']:.2f} s")
    assert 3 <= panel["p50"] < 12  # a busy machine adds its milliseconds a hundredfold
    assert 1 <= panel["first_p50"] < 10
    assert 1 <= fair["p50"] < 10


def test_a_running_service_is_asked_over_http(directory: Path, running: Service, tmp_path: Path):
    asked = ("--url", running.url, "--key", ADMIN, "--speed", "100", "--limit", "5", "--out", tmp_path / "e")
    code, _, err = evaluated(directory / "tape.jsonl", "-r", "panel", "-r", "quorum/direct", *asked)
    assert (code, f"asking the service at {running.url}" in err) == (0, True)
    assert [one["questions"] for one in reported(tmp_path / "e")["contestants"]] == [5, 5]


def test_a_directory_of_the_environment_does_not_stand_against_a_service_that_is_named(
    directory: Path, running: Service, tmp_path: Path
):
    asked = ("--url", running.url, "--key", ADMIN, "--limit", "2", "--out", tmp_path / "e")
    code, _, err = evaluated(directory / "tape.jsonl", "-r", "chain", *asked, QUORUM_DATA_DIR=str(tmp_path / "own"))
    assert (code, (tmp_path / "own").exists()) == (0, False), err
    code, _, err = evaluated(directory / "tape.jsonl", "-r", "chain", *asked, "--data-dir", tmp_path / "own")
    assert code == 2
    assert "--data-dir" in err


def test_a_second_run_goes_on_where_the_first_stopped(directory: Path, tmp_path: Path):
    first = own(directory, tmp_path / "e", "-r", "panel", "--limit", "5")
    assert evaluated(*first)[0] == 0
    code, _, err = evaluated(*first)
    assert (code, "go on with it by --resume" in err) == (2, True)

    code, _, err = evaluated(*own(directory, tmp_path / "e", "-r", "panel", "--resume"))
    assert code == 0
    assert "5 answers are there" in err
    assert f"asked {QUESTIONS - 5} of {QUESTIONS - 5}" in err
    assert reported(tmp_path / "e")["questions"] == QUESTIONS


def test_a_changed_recipe_and_a_changed_question_are_noticed(directory: Path, tmp_path: Path):
    data = recording(tmp_path / "tape.jsonl")
    config = configured(tmp_path / "quorum.yaml", data)
    order = (data, "--config", config, "--out", tmp_path / "e", "-r", "panel", "-r", "chain")
    assert evaluated(*order)[0] == 0

    configured(config, data, chain={"strategy": "fallback", "models": ["tape/poor", "tape/good"]})
    rows = data.read_text().splitlines()
    rows[3] = rows[3].replace('"gold": 3', '"gold": 4')
    data.write_text("\n".join(rows))
    code, _, err = evaluated(*order, "--resume")
    assert code == 0
    assert "panel: 1 answers are of another recipe, question or lesson than now, and asked again" in err
    assert f"chain: {QUESTIONS} answers are of another" in err
    assert reported(tmp_path / "e")["contestants"][1]["accuracy"]["value"] == pytest.approx(1 / QUESTIONS)  # what `poor` says


def test_failures_are_counted_and_asked_again(tmp_path: Path):
    rows = [{"id": f"q{n}", "input": "What is 2 + 2? [[mock: fault=overloaded]]", "answer": 4} for n in range(3)]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, rows)))
    quick = {"retry": {"enabled": False}, "breaker": {"enabled": False}, "pace": {"enabled": False}}
    spec = {"providers": {"mock": {"kind": "mock", "options": {"latency_scale": 0}, "reliability": quick}}}
    (tmp_path / "quorum.yaml").write_text(yaml.safe_dump(spec))
    order = (tmp_path / "set.jsonl", "--config", tmp_path / "quorum.yaml", "--out", tmp_path / "e", "-r", "mock/mock-swift")
    code, out, _ = evaluated(*order)
    assert (code, "mock/mock-swift: 3 failed: 3 overloaded" in out) == (0, True)
    assert reported(tmp_path / "e")["contestants"][0]["errors"] == {"overloaded": 3}

    (tmp_path / "set.jsonl").write_text("\n".join(json.dumps({**row, "input": "What is 2 + 2?"}) for row in rows))
    assert evaluated(*order, "--resume")[0] == 0
    assert reported(tmp_path / "e")["contestants"][0]["errors"] == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_is_interrupted_keeps_what_was_answered_and_leaves_no_service(
    directory: Path, tmp_path: Path, number: signal.Signals
):
    order = own(directory, tmp_path / "e", "-r", "tape/fair", "-r", "mock/slow", "--concurrency", "2")
    process = subprocess.Popen(command(*order), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    results = tmp_path / "e" / "results.jsonl"
    eventually(lambda: results.exists() and results.stat().st_size > 0, within_s=30)
    served = children(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)

    assert len(served) == 1
    eventually(lambda: not Path(f"/proc/{served[0]}").exists(), within_s=20)
    assert b"Traceback" not in err
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert b"interrupted; what was answered is kept" in err
    code, out, _ = evaluated("--report", tmp_path / "e")
    assert code == 0
    assert "mock/slow" not in out


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_parts_are_asked_apart(directory: Path, tmp_path: Path):
    split = ("-r", "panel", "--split", "0.5", "--seed", "3")
    assert evaluated(*own(directory, tmp_path / "e", *split, "--part", "report"))[0] == 0
    assert reported(tmp_path / "e")["trained_on"] == 0
    assert evaluated(*own(directory, tmp_path / "e", *split, "--part", "train", "--resume"))[0] == 0
    assert [one["model"] for one in reported(tmp_path / "e")["set_aside"]] == ["tape/good", "tape/fair", "tape/poor"]
    found = reported(tmp_path / "e")
    assert found["trained_on"] + found["questions"] == QUESTIONS
    assert found["contestants"][0]["lift"]["chosen_on"] == "train"

    code, _, err = evaluated(*own(directory, tmp_path / "e", "-r", "panel", "--split", "0.5", "--seed", "4", "--resume"))
    assert (code, "was split by --split 0.5 --seed 3" in err) == (2, True)


def test_what_was_right_is_told_to_a_service_that_learns(directory: Path, tmp_path: Path):
    order = ("-r", "panel", "-r", "tape/fair", "--split", "0.5", "--part", "train", "--feedback")
    code, _, err = evaluated(*own(directory, tmp_path / "e", *order))
    aside = reported(tmp_path / "e")["trained_on"]
    assert code == 0
    assert f"the service took {aside} verdicts" in err
    assert f"{aside} runs are none that it keeps to learn from" in err


@pytest.mark.timeout(300)
def test_who_answers_which_questions_well_is_learned_and_reported_as_routing(tmp_path: Path):
    """`plain` is good at rivers, `grand` at rivers and music: with the half set aside learned, music goes to `grand`."""
    file, rows = tmp_path / "answers.jsonl", []
    for n in range(160):
        subject = ("river", "sonata")[n % 2]
        right = {"plain": subject == "river" or n % 12 == 1, "grand": n % 10 != 0}
        rows.append({"id": f"q{n}", "question": f"Tell me of the {subject} number {n}", "correct": right})
    file.write_text("\n".join(map(json.dumps, rows)))

    def spec(**recipes: Any) -> Path:
        options = {"file": str(file), "fields": {"answers": "correct"}, "latency": "none"}
        models = {
            name: {"provider": "tape", "model": name, "price": {"input": price, "output": price}} for name, price in prices
        }
        made = {
            "providers": {"tape": {"kind": "replay", "options": options}},
            "models": models,
            "learning": {"observe": "all"},
            "recipes": recipes,
        }
        (tmp_path / "quorum.yaml").write_text(yaml.safe_dump(made))
        return tmp_path / "quorum.yaml"

    def recipe(cost: float) -> dict[str, Any]:
        options = {"strategies": ["direct"], "explore": 0, "weights": {"quality": 1, "cost": cost}}
        return {"strategy": "adaptive", "models": ["plain", "grand"], "options": options}

    prices = (("plain", 1), ("grand", 16))
    config = spec(frugal=recipe(3.0), fair=recipe(1.0))
    state = ("--config", config, "--data-dir", tmp_path / "state")
    whole = (
        file,
        *state,
        "--grade",
        "score",
        "--split",
        "0.5",
        "--out",
        tmp_path / "e",
        "--resume",
        "-r",
        "plain",
        "-r",
        "grand",
    )

    code, _, err = evaluated(*whole, "--part", "train", "--feedback")
    aside = reported(tmp_path / "e")["trained_on"]
    assert (code, f"the service took {2 * aside} verdicts" in err) == (0, True), err
    trained = [sys.executable, "-c", "from app.cli import main; main()", "train", "--json", *map(str, state)]
    said = subprocess.run(trained, capture_output=True, timeout=120, env=environment(), check=True).stdout
    compared = {one["kind"]: one for one in json.loads(said)[0]["compared"]}
    assert compared["success"]["taken"], compared

    code, out, err = evaluated(*whole, "--part", "report", "-r", "frugal", "-r", "fair")
    assert code == 0, err
    assert "Routing from plain to grand" in out
    (found,) = reported(tmp_path / "e")["routing"]
    assert (found["weak"], found["strong"], found["chosen_on"]) == ("plain", "grand", "train")
    assert found["apgr"] > 0.7
    curve = [(one["share"], one["recovered"]) for one in found["curve"]]
    points = {one["name"]: (one["share"], one["recovered"]) for one in found["points"]}
    assert all(min(math.dist(point, other) for other in curve) < 0.02 for point in points.values()), (points, curve)
    assert points["frugal"] == (0, 0)
    assert points["fair"][0] == pytest.approx(0.5, abs=0.1)
    assert points["fair"][1] > 0.8


def test_stored_results_are_reported_without_asking(directory: Path, tmp_path: Path):
    for name, recipe in (("one", "panel"), ("two", "chain")):
        assert evaluated(*own(directory, tmp_path / name, "-r", recipe, "--split", "0.5"))[0] == 0
    both = ("--report", tmp_path / "one", "--report", tmp_path / "two", "--out", tmp_path / "both")
    code, out, err = evaluated(*both, "--baseline", "chain", "--splits", "4")
    assert (code, err) == (0, "")
    assert "Over 4 splits" in out
    made = json.loads((tmp_path / "both" / "report.json").read_text())["sets"][0]
    assert [one["name"] for one in made["report"]["contestants"]] == ["panel", "chain"]
    assert made["seeds"] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "name a data set"),
        (["{set}"], 2, "name who is to be evaluated"),
        (["none.jsonl", "-r", "panel"], 1, "cannot read 'none.jsonl'"),
        (["{set}", "-r", "pannel", "-c", "{config}"], 2, "'pannel'; did you mean 'panel'"),
        (["{set}", "-r", "panel", "-c", "none.yaml"], 1, "no such file"),
        (["{set}", "-r", "panel", "--feedback"], 2, "needs --split"),
        (["{set}", "-r", "panel", "--field", "category"], 2, "ours=theirs"),
        (["{set}", "-r", "panel", "--url", "http://127.0.0.1:9", "--local"], 2, "--url"),
        (["{set}", "-r", "panel", "--url", "http://127.0.0.1:9"], 1, "cannot be reached"),
        (["{set}", "-r", "panel", "--report", "x"], 2, "not both"),
        (["--report", "nowhere"], 1, "nowhere holds no evaluation"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(directory: Path, tmp_path: Path, arguments: list[str], code: int, said: str):
    names = {"{set}": str(directory / "tape.jsonl"), "{config}": str(directory / "quorum.yaml")}
    got, out, err = evaluated(*(names.get(one, one) for one in arguments), cwd=tmp_path)
    assert (got, out) == (code, "")
    assert said in re.sub(r"[\s│]+", " ", err)
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def documented(page: str) -> list[str]:
    """The words of the first `quorum eval` on a page."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    found = re.search(r"^\s*(?:\.venv/bin/)?quorum eval (.*)$", text, re.MULTILINE)
    assert found, f"{page} shows no quorum eval"
    return shlex.split(found[1])


@pytest.mark.parametrize("page", ["docs/evaluation.md", "examples/README.md"])
def test_the_documented_command_runs_as_it_stands(page: str, tmp_path: Path):
    code, out, err = evaluated(*documented(page), "--out", tmp_path / "e")
    assert code == 0, err
    assert "questions.jsonl: 48 questions" in out
    found = reported(tmp_path / "e")
    panel = next(one for one in found["contestants"] if one["name"] == "panel")
    assert panel["failed"] == 0
    assert panel["accuracy"]["value"] > 0.9
    assert panel["calls_saved"] > 0.2
