"""Every example runs as it stands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.providers.vendors import ENVIRONMENT
from tests.support.service import ROOT, Service, eventually, service

EXAMPLES = ROOT / "examples"
KEYS = {variable for row in ENVIRONMENT for variable in row.variables}
QUESTION = "What is 6 times 7?"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(tmp_path_factory.mktemp("service"), factory="app.main:create_app") as started:
        yield started


def run(*command: str | Path, path: str | Path = ROOT, **more: str) -> str:
    """What a command prints. It sees no key of a real provider."""
    inherited = {name: value for name, value in os.environ.items() if name not in KEYS and not name.startswith("QUORUM_")}
    env = {**inherited, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}", **more}
    ran = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=60, env=env)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_from_python_runs_every_strategy_whole_and_streamed():
    said = run(EXAMPLES / "from_python.py", QUESTION)

    assert "provider mock: available" in said
    for strategy in ("direct", "simple"):
        part = said.split(f"== {strategy}: ")[1].split("\n== ")[0]
        assert "succeeded: " in part
        assert part.split("\nstreamed: ")[1].count("42") == 1
        assert "$0.0" in part.split("in all: ")[1]


def test_the_custom_orchestrator_returns_the_longest_answer():
    said = run(EXAMPLES / "custom_orchestrator.py", "What speaks for rail travel?")

    lengths = {line.split()[0]: int(line.split()[1]) for line in said.splitlines() if line.endswith(" characters")}
    assert len(lengths) == 3
    assert said.splitlines()[-1].startswith(f"{max(lengths, key=lambda name: lengths[name])}: ")


def test_the_sse_client_shows_the_models_before_the_answer(running):
    lines = run(EXAMPLES / "sse_client.py", QUESTION, QUORUM_URL=running.url).splitlines()

    speakers = [line.split("|")[0].strip() for line in lines if "|" in line]
    first_of_answer = speakers.index("answer")
    assert set(speakers[:first_of_answer]) == {"mock-swift", "mock-careful", "mock-terse", "analysis"}
    assert set(speakers[first_of_answer:]) == {"answer"}
    assert "42" in lines[-2]


def test_the_openai_client_gets_the_answer_whole_and_streamed(running):
    said = run(EXAMPLES / "openai_client.py", QUESTION, QUORUM_URL=running.url).splitlines()

    assert "42" in said[0]
    assert "run_id" in said[1]
    assert said[2] == said[0]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example package, built by its own build system and unpacked as an installer would."""
    work = tmp_path_factory.mktemp("package")
    source = shutil.copytree(EXAMPLES / "custom-orchestrator", work / "source")
    build = "from hatchling.build import build_wheel; print(build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(work / "installed")
    return work / "installed"


def test_an_installed_strategy_is_there_by_its_name(installed):
    ask = ("-c", "from app.cli import main; main()", "ask", "--local", "--json", "--strategy", "debate", "-o", "rounds=2")
    said = run(*ask, QUESTION, path=installed)

    assert '"strategy":"debate","output":{"text":"' in said
    assert said.count('"layer":3') == 3
    assert '"role":"judge"' in said


def test_the_examples_page_names_every_example():
    page = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        if path.name not in ("README.md", "__pycache__"):
            assert f"({path.name}" in page


def test_the_workflows_run_as_they_stand(tmp_path: Path):
    with service(tmp_path, factory="app.main:create_app", config=EXAMPLES / "workflows" / "quorum.yaml") as there:

        def posted(path: str, **body: object) -> Any:
            return httpx.post(f"{there.url}{path}", json=body, timeout=60).json()

        careful = posted("/v1/workflows/careful/runs", inputs={"input": "What is 17 * 23?"})
        assert careful["status"] == "succeeded"
        assert careful["output"]["json"]["sum"] == 391
        replaced = posted("/v1/workflows/careful/runs", inputs={"input": "What is 17 * 23?", "sum": "seventeen times 23"})
        assert replaced["status"] == "succeeded"
        assert isinstance(replaced["output"]["json"]["sum"], str)
        fifty = posted("/v1/workflows/fifty/runs")
        assert (len(fifty["output"]["json"]["squares"]), fifty["output"]["json"]["largest"]) == (50, 2500)
        chat = {"model": "careful-answer", "messages": [{"role": "user", "content": "What is 17 * 23?"}]}
        assert "391" in posted("/v1/chat/completions", **chat)["choices"][0]["message"]["content"]
        waiting = posted("/v1/workflows/approved/runs")
        assert waiting["status"] == "needs_approval"
        posted(f"/v1/approvals/{waiting['approvals'][0]['id']}", decision="approve")

        def ended(run_id: str) -> Any:
            found = httpx.get(f"{there.url}/v1/orchestrations/{run_id}").json()
            return found if found["status"] == "succeeded" else None

        assert eventually(lambda: ended(waiting["id"]), within_s=20)["output"]["json"]["sum"] == 1000001
        paid = posted("/v1/workflows/paid/runs")
        posted(f"/v1/orchestrations/{paid['id']}/signals", name="paid", payload={"amount": 5})
        assert eventually(lambda: ended(paid["id"]), within_s=20)["output"]["json"]["total"] == 10
