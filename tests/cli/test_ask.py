"""`quorum ask` as a person runs it: in a process of its own, against a service and without one."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.service import ROOT, Service, eventually, service

QUESTION = "Is tea good?"
ADMIN = "an-admin-key-of-the-tests"
CONFIG = """
providers:
  mock:
    kind: mock
    options: {latency_scale: 0, personas: {slow: {latency_ms: 60000}, sleepy: {like: slow}}}
  patient:
    kind: mock
    options: {personas: {slow: {latency_ms: 60000}}}
models:
  swift: {provider: mock, model: mock-swift}
  careful: {provider: mock, model: mock-careful}
  terse: {provider: mock, model: mock-terse}
recipes:
  pair: {strategy: simple, models: [terse, careful], lead_model: careful, options: {analysis: comparative}}
"""
HERE = "in this process"
THERE = "by a service"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ask") / "quorum.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def running(config: Path) -> Iterator[Service]:
    with service(config.parent, factory="app.main:create_app", config=config, admin_key=ADMIN) as started:
        yield started


@pytest.fixture(params=[HERE, THERE])
def where(request: pytest.FixtureRequest, config: Path) -> list[str]:
    """The options that say where the question is answered."""
    if request.param == HERE:
        return ["--config", str(config)]
    return ["--url", request.getfixturevalue("running").url, "--key", ADMIN]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from app.cli import main; main()", "ask", *arguments]


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("QUORUM_", "PROMETHEUS_"))}
    return {**inherited, "PYTHONPATH": str(ROOT), **more}


def ask(*arguments: str, stdin: bytes = b"", **more: str) -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    ran = subprocess.run(command(*arguments), input=stdin, capture_output=True, timeout=60, env=environment(**more))
    return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


def test_the_answer_is_on_stdout_and_progress_on_stderr(where):
    code, out, err = ask(*where, QUESTION)

    assert code == 0
    assert out.startswith("In short: ")
    assert out.count("\n") == 1
    assert "careful: answered in" in err
    assert "swift, made of 3 answers · $0.0" in err
    assert ("running in this process" in err) == (where[0] == "--config")


def test_every_option_reaches_the_run(where):
    options = ["-m", "terse", "-m", "swift", "--lead", "careful", "-o", "analysis=peer_ranking", "-o", "min_responses=2"]
    code, out, _ = ask(
        *where, "--json", *options, "--system", "Be brief.", "--max-tokens", "50", "--temperature", "0", QUESTION
    )

    result = json.loads(out)
    assert (code, result["status"], result["output"]["source_model"]) == (0, "succeeded", "careful")
    assert [candidate["model"] for candidate in result["candidates"]] == ["terse", "swift"]
    assert result["analysis"]["kind"] == "peer_ranking"


def test_a_recipe_and_a_strategy_can_be_named(where):
    _, recipe, _ = ask(*where, "--json", "--recipe", "pair", QUESTION)
    _, direct, _ = ask(*where, "--json", "--strategy", "direct", "-m", "terse", QUESTION)

    assert (json.loads(recipe)["recipe"], json.loads(recipe)["analysis"]["kind"]) == ("pair", "comparative")
    assert json.loads(direct)["strategy"] == "direct"


def test_a_conversation_goes_on_under_the_id_that_it_was_given(running):
    there = ["--url", running.url, "--key", ADMIN, "-s", "direct", "-m", "terse", "--conversation"]
    code, _, err = ask(*there, "new", QUESTION)
    given = err.strip().rpartition("conversation: ")[2]
    _, again, _ = ask(*there, given, "--json", "And what is 3 times 4?")

    assert (code, given.startswith("conv_")) == (0, True)
    assert json.loads(again)["conversation_id"] == given
    kept = httpx.get(f"{running.url}/v1/conversations/{given}", headers={"Authorization": f"Bearer {ADMIN}"}).json()
    assert [turn["messages"][0]["content"] for turn in kept["data"]] == [QUESTION, "And what is 3 times 4?"]


def test_a_conversation_wants_a_service(config):
    code, _, err = ask("--config", str(config), "--conversation", "c", QUESTION)
    assert (code, "a service keeps conversations" in err) == (2, True)


@pytest.mark.parametrize("argument", [["-"], []])
def test_the_question_may_be_piped_in(where, argument):
    code, out, _ = ask(*where, "-m", "swift", *argument, stdin=b"What is 6 times 7?\n")
    assert (code, "42" in out) == (0, True)


def test_a_failed_run_exits_with_1_and_every_reason(where):
    code, out, err = ask(*where, "-m", "terse", "-m", "swift", f"{QUESTION} [[mock: fault=overloaded]]")

    assert (code, out) == (1, "")
    assert "swift: overloaded: provider 'mock' (mock-swift)" in err
    assert "terse: overloaded: provider 'mock' (mock-terse)" in err
    assert "the run failed: too few models answered: 0 of 2" in err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-m", "nobody", QUESTION], "there is no model 'nobody'"),
        (["-s", "nothing", QUESTION], "there is no strategy 'nothing'"),
        (["-r", "nothing", QUESTION], "there is no recipe 'nothing'"),
        (["-o", "layers=many", QUESTION], "options.layers"),
        (["-o", "layers", QUESTION], "key=value"),
        (["--temperature", "3", QUESTION], "temperature"),
        (["  "], "the question is empty"),
    ],
)
def test_what_is_impossible_exits_with_2_and_says_what_it_is(where, arguments, reason):
    code, out, err = ask(*where, *arguments)

    assert (code, out) == (2, "")
    assert reason in err
    assert "Traceback" not in err


def test_a_service_and_this_process_exclude_each_other():
    code, _, err = ask("--local", "--url", "http://127.0.0.1:9", QUESTION)
    assert (code, "--url" in err) == (2, True)


def test_this_process_goes_before_the_service_of_the_environment():
    code, _, err = ask("--local", "-m", "mock/mock-swift", QUESTION, QUORUM_URL="http://127.0.0.1:9")
    assert (code, "running in this process" in err) == (0, True)


def test_a_service_that_is_not_there_is_a_failure():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        code, out, err = ask("--url", url, QUESTION)
    assert (code, out) == (1, "")
    assert f"the service at {url} cannot be reached" in err


def test_the_key_comes_from_the_environment_and_a_missing_one_is_named(running):
    assert ask("-m", "swift", QUESTION, QUORUM_URL=running.url, QUORUM_API_KEY=ADMIN)[0] == 0

    code, _, err = ask("-m", "swift", QUESTION, QUORUM_URL=running.url)
    assert (code, "QUORUM_API_KEY" in err) == (1, True)


def test_ctrl_c_cancels_the_run(where, request):
    process = subprocess.Popen(
        command(*where, "-m", "patient/slow", QUESTION), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    process.stderr.readline()  # where it is answered: the run begins
    remote = where[0] == "--url"
    if remote:
        eventually(lambda: streams(request.getfixturevalue("running")) == 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)

    assert (process.returncode, out) == (130, b"")
    assert err == b"quorum: interrupted, and the run cancelled\n"
    if remote:
        eventually(lambda: streams(request.getfixturevalue("running")) == 0, within_s=3)


def streams(running: Service) -> float:
    """Event streams open at the service."""
    metrics = httpx.get(f"{running.url}/metrics", headers={"authorization": f"Bearer {ADMIN}"}).text
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("quorum_open_streams{"))


def test_on_a_terminal_there_is_a_lane_a_model_and_no_control_sequence_of_a_model(where):
    attack = "What about \x1b]0;owned\x07 tea"
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        command(*where, attack), stdout=inside, stderr=inside, env=environment(TERM="xterm-256color", COLUMNS="80", LINES="24")
    )
    os.close(inside)
    screen = read_all(outside)
    assert process.wait(30) == 0

    assert b"\x1b[?25l" in screen  # the cursor is hidden while lanes are drawn
    assert screen.count(b"\x1b[?25h") == 1
    for model in (b"swift", b"careful", b"terse"):
        assert model in screen
    assert b"made of 3 answers" in screen
    assert b"\x1b]0;" not in screen
    assert rb"\x1b]0;owned\x07" in screen


def read_all(descriptor: int) -> bytes:
    """What was written on a terminal, until nobody has it open any more."""
    data = b""
    while True:
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:  # Linux says EIO where others say the end
            chunk = b""
        if not chunk:
            os.close(descriptor)
            return data
        data += chunk
