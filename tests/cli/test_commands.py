from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app.state.embedded import EmbeddedValkey
from tests.support.valkey import server_pid

QUORUM = str(Path(sys.executable).with_name("quorum"))


def quorum(*words: str, data_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QUORUM_")}
    return subprocess.run(
        [QUORUM, *words],
        env={**inherited, "QUORUM_DATA_DIR": str(data_dir), "COLUMNS": "200", **variables},
        cwd=data_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def listed(data_dir: Path) -> list[dict[str, object]]:
    return json.loads(quorum("keys", "list", "--json", data_dir=data_dir).stdout)


def test_a_key_is_made_listed_and_revoked_without_a_running_service(tmp_path: Path) -> None:
    made = quorum("keys", "create", "--name", "ci", "--scope", "run", "--scope", "admin", "--expires", "30d", data_dir=tmp_path)
    assert re.fullmatch(r"qk_[\w-]{43}\n", made.stdout)
    (key,) = listed(tmp_path)
    assert (key["name"], key["tenant"], key["scopes"], key["last4"]) == (
        "ci",
        "default",
        ["admin", "run"],
        made.stdout.strip()[-4:],
    )
    assert "hash" not in key
    revoked = quorum("keys", "revoke", str(key["id"]), data_dir=tmp_path)
    assert revoked.returncode == 0
    assert listed(tmp_path)[0]["revoked_at"] is not None
    assert "revoked" in quorum("keys", "list", data_dir=tmp_path).stdout
    assert server_pid(tmp_path) is None


def test_a_key_is_made_in_the_server_of_a_running_service_which_lives_on(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path):
        pid = server_pid(tmp_path)
        assert quorum("keys", "create", "--name", "ci", data_dir=tmp_path).returncode == 0
        assert server_pid(tmp_path) == pid
        assert len(listed(tmp_path)) == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("keys", "create", "--name", "ci", "--scope", "fly"), 1, "unknown scope 'fly': choose from"),
        (("keys", "create", "--name", "a b"), 1, "'a b' cannot be a name"),
        (("keys", "create", "--name", "ci", "--expires", "soon"), 2, "neither a span such as 30d"),
        (("keys", "create", "--name", "ci", "--expires", "2001-01-01"), 1, "still to come"),
        (("keys", "revoke", "key_none"), 1, "no API key 'key_none'"),
        (("keys", "list", "--redis-url", "http://x"), 1, "redis://"),
        (("keys", "list", "--redis-url", "redis://127.0.0.1:1"), 1, "does not answer"),
        (("serve", "--port", "70000"), 2, "QUORUM_PORT"),
        (("serve", "--host", "0.0.0.0"), 1, "--insecure"),
        (("serve", "--config", "none.yaml"), 1, "no such file"),
        (("config", "check"), 1, "there is no quorum.yaml"),
        (("nonsense",), 2, "nonsense"),
    ],
)
def test_what_the_user_did_wrong_is_said_without_a_traceback(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    result = quorum(*words, data_dir=tmp_path)
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_good_configuration_is_summed_up(tmp_path: Path) -> None:
    (tmp_path / "quorum.yaml").write_text("providers:\n  play: {kind: mock}\nmodels:\n  fast: {provider: play, model: m}\n")
    result = quorum("config", "check", data_dir=tmp_path)
    assert result.returncode == 0
    assert "play (mock)" in result.stdout
    assert "fast" in result.stdout


def test_every_fault_of_a_bad_configuration_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("providers:\n  a:\n    kind: opena\n  b:\n    kind: mock\n    colour: red\n")
    result = quorum("config", "check", str(file), data_dir=tmp_path)
    assert result.returncode == 1
    assert f"{file}:3:" in result.stderr
    assert f"{file}:6:" in result.stderr
    assert result.stdout == ""


def test_the_configuration_is_shown_without_its_secrets(tmp_path: Path) -> None:
    (tmp_path / "quorum.yaml").write_text(
        "providers:\n  a:\n    kind: openai\n    api_key: ${KEY}\n    headers: {x-token: canary3}\n    query: {code: canary4}\n"
    )
    result = quorum("config", "show", data_dir=tmp_path, KEY="canary2")
    assert result.returncode == 0
    assert "canary" not in result.stdout + result.stderr
    assert "x-token" in result.stdout


def test_the_schema_is_json_and_names_the_members(tmp_path: Path) -> None:
    schema = json.loads(quorum("config", "schema", data_dir=tmp_path).stdout)
    assert {"providers", "models", "recipes", "keys"} <= set(schema["properties"])


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert re.fullmatch(r"quorum \d+\.\d+\.\d+\n", quorum("version", data_dir=tmp_path).stdout)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, app.cli; print(sorted({'fastapi', 'redis', 'pydantic', 'uvicorn', 'httpx'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("words", [("serve",), ("keys", "create"), ("mock",), ("config", "check"), ("eval",)])
def test_every_option_has_a_help_text(tmp_path: Path, words: tuple[str, ...]) -> None:
    text = quorum(*words, "--help", data_dir=tmp_path).stdout
    assert not re.search(r"^│ +--\S+ +(-\w +)?(<[^>]+>)? *│$", text, re.MULTILINE)
    assert "--help" in text


def test_mock_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    with subprocess.Popen([QUORUM, "mock", "--port", "0"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert re.match(r"Mock models at http://127\.0\.0\.1:\d+", process.stderr.readline())
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert time.monotonic() - started < 3
