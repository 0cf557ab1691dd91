"""`quorum batch` as a person runs it, against a service."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.service import Service, service
from tests.support.serving import AT_ONCE

QUORUM = str(Path(sys.executable).with_name("quorum"))
ADMIN = "an-admin-key-of-the-tests"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    place = tmp_path_factory.mktemp("batch")
    (place / "quorum.yaml").write_text(yaml.safe_dump({"providers": {"mock": AT_ONCE}}))
    with service(place, factory="app.main:create_app", config=place / "quorum.yaml", admin_key=ADMIN) as started:
        yield started


def batch(running: Service, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    variables = {"QUORUM_URL": running.url, "QUORUM_API_KEY": ADMIN, "COLUMNS": "200", "PATH": "", **more}
    command = [QUORUM, "batch", *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)


def prompts(path: Path, *models: str) -> Path:
    rows = [{"custom_id": str(n), "input": "Hi", "models": [model]} for n, model in enumerate(models)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_goes_in_and_a_file_comes_out(running: Service, tmp_path: Path) -> None:
    file, out = prompts(tmp_path / "in.jsonl", *["mock/mock-terse"] * 70), tmp_path / "out.jsonl"
    done = batch(running, "run", str(file), "--strategy", "direct", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "70 of 70 succeeded" in done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["custom_id"] for row in rows] == [str(n) for n in range(70)]
    status = batch(running, "status", "--json")
    assert json.loads(status.stdout)["counts"]["succeeded"] == 70
    assert len(batch(running, "results", "--only", "succeeded").stdout.splitlines()) == 70
    assert batch(running, "results", "--only", "failed").stdout == ""
    assert "completed" in batch(running, "cancel", "latest").stdout
    assert "completed" in batch(running, "retry", "latest").stdout


def test_a_batch_is_left_to_the_service(running: Service, tmp_path: Path) -> None:
    file = prompts(tmp_path / "in.jsonl", "mock/mock-terse")
    left = batch(running, "run", str(file), "--strategy", "direct", "--no-wait")
    assert left.stdout.startswith("batch_")
    assert left.stdout.strip() in batch(running, "status", left.stdout.strip()).stdout


def test_what_cannot_be_done_is_said_without_a_traceback(running: Service, tmp_path: Path) -> None:
    wrong = batch(running, "run", str(prompts(tmp_path / "in.jsonl", "nobody")), "--strategy", "direct")
    assert (wrong.returncode, "line 1" in wrong.stderr, "Traceback" in wrong.stderr) == (1, True, False)
    absent = batch(running, "status", "--url", "http://127.0.0.1:9")
    assert (absent.returncode, "cannot be reached" in absent.stderr) == (1, True)


def test_where_no_file_can_be_written_nothing_is_uploaded(running: Service, tmp_path: Path) -> None:
    file, out = prompts(tmp_path / "in.jsonl", "mock/mock-terse"), tmp_path / "absent" / "out.jsonl"
    for words in (["run", str(file), "--out", str(out)], ["results", "--out", str(out)]):
        refused = batch(running, *words)
        assert refused.returncode != 0
        assert "absent" in refused.stderr
        assert ("1 lines" in refused.stderr, "Traceback" in refused.stderr) == (False, False), refused.stderr


def test_nothing_is_left_of_results_that_break_off(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def cut() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")

        threading.Thread(target=cut, daemon=True).start()
        out = tmp_path / "out.jsonl"
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        done = subprocess.run(
            [QUORUM, "batch", "results", "--url", url, "--out", str(out)],
            env={"COLUMNS": "200", "PATH": ""},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_batches_are_listed_page_by_page_the_newest_first(running: Service, tmp_path: Path) -> None:
    file = prompts(tmp_path / "in.jsonl", "mock/mock-terse", "mock/mock-terse")
    made = []
    for _ in range(2):
        batch(running, "run", str(file), "--strategy", "direct", "--out", str(tmp_path / "out.jsonl"))
        made.insert(0, json.loads(batch(running, "status", "--json").stdout)["id"])
    first = batch(running, "list", "--limit", "1", COLUMNS="40")
    assert first.returncode == 0, first.stderr
    head, row = (line.split() for line in first.stdout.splitlines())
    names = ["id", "status", "runs", "total", "succeeded", "failed", "left", "waiting", "cost", "retries"]
    assert head == [*names, "created", "started", "finished"]
    assert row[:8] == [made[0], "completed", "direct", "2", "2", "0", "0", "0"]
    cursor = first.stderr.split("--cursor ")[1].strip()
    second = json.loads(batch(running, "list", "--limit", "1", "--cursor", cursor, "--json").stdout)
    assert [one["id"] for one in second["data"]] == made[1:]
    both = batch(running, "list").stdout
    assert both.index(made[0]) < both.index(made[1])
    assert "cursor" in batch(running, "list", "--cursor", "none of ours").stderr
    assert batch(running, "list", "--limit", "101").returncode == 2
    assert "newest first" in batch(running, "list", "--help").stdout
