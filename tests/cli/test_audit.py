"""`quorum audit`: what was changed is named, in the store and in an export, with its own exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner, Result

from app.cli import app
from app.state.embedded import EmbeddedValkey
from app.state.secrets import Secret
from app.tools.audit.chain import USE, SigningKey
from tests.support.redis_shapes import external_url

SECRET = "a secret of these tests, long enough"
RECORDS = "quorum:{audit:default}:records"
INTACT, FAILED, BROKEN = 0, 1, 3


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """The embedded server of a data directory, which the commands find by themselves; it has some records."""
    if external_url():
        pytest.skip("the store belongs to somebody else")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QUORUM_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("QUORUM_SECRET", SECRET)
    with EmbeddedValkey(tmp_path) as valkey, redis.Redis(unix_socket_path=valkey.url.removeprefix("unix://")) as client:
        for name in ("one", "two", "three"):
            assert quorum("keys", "create", "--name", name).exit_code == 0
        yield client


def quorum(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), prog_name="quorum")


def verified(*arguments: str) -> tuple[int, list[Any]]:
    """The exit code, and the reports."""
    done = quorum("audit", "verify", "--json", *arguments)
    return done.exit_code, json.loads(done.stdout) if done.stdout else []


def rewrite(store: redis.Redis, lines: list[bytes]) -> None:
    store.delete(RECORDS)
    for number, line in enumerate(lines, 1):
        store.xadd(RECORDS, {"record": line}, id=f"{number}-0")


def lines_of(store: redis.Redis) -> list[bytes]:
    found: Any = store.xrange(RECORDS)
    return [fields[b"record"] for _, fields in found]


def test_keys_are_recorded_and_the_trail_is_intact(store: redis.Redis) -> None:
    made = quorum("keys", "create", "--name", "ops", "--scope", "admin").stdout.strip()
    key_id = json.loads(quorum("keys", "list", "--json").stdout)[-1]["id"]
    assert quorum("keys", "revoke", key_id).exit_code == 0

    text = b"".join(lines_of(store)).decode()
    assert made not in text
    acts = [(record["action"], record["decision"]) for record in map(json.loads, lines_of(store))]
    assert acts[-4:] == [("key.create", "begun"), ("key.create", "done"), ("key.revoke", "begun"), ("key.revoke", "done")]
    record = json.loads(lines_of(store)[-1])
    assert (record["subject"], record["actor"]["kind"]) == ({"kind": "key", "id": key_id}, "cli")

    assert verified()[0] == INTACT
    done = quorum("audit", "verify")
    assert "default: intact, records 1 to 10" in done.stdout


def test_a_name_that_is_none_makes_no_trail(store: redis.Redis) -> None:
    assert isinstance(quorum("keys", "create", "--name", "x", "--tenant", "a b").exception, Exception)
    assert store.smembers("quorum:{auditing}:tenants") == {b"default"}


@pytest.mark.parametrize("tampering", ["edit", "delete", "reorder"])
def test_what_was_changed_in_the_store_is_named(store: redis.Redis, tampering: str) -> None:
    lines = lines_of(store)
    wanted = {"edit": ("edited", 3), "delete": ("missing", 3), "reorder": ("reordered", 3)}[tampering]
    match tampering:
        case "edit":
            rewrite(store, [*lines[:2], lines[2].replace(b'"begun"', b'"done"'), *lines[3:]])
        case "delete":
            store.xdel(RECORDS, "3-0")
        case _:
            rewrite(store, [*lines[:2], lines[3], lines[2], *lines[4:]])

    code, [report] = verified()
    assert (code, report["fault"]["kind"], report["fault"]["record"]) == (BROKEN, *wanted)
    assert "BROKEN at record 3" in quorum("audit", "verify").stdout


def test_a_cut_tail_is_found_by_a_head_an_export_or_a_log_line(store: redis.Redis, tmp_path: Path) -> None:
    quorum("audit", "head", "--output", str(tmp_path / "head.json"))
    head = (tmp_path / "head.json").read_text()
    quorum("audit", "export", "--output", str(tmp_path / "export.jsonl"))
    (tmp_path / "log").write_text(f'{{"event": "ready"}}\n{{"event": "audit head", "head": {head.strip()}}}\n')
    rewrite(store, lines_of(store)[:4])

    assert verified()[0] == INTACT
    for kept in ("head.json", "export.jsonl", "log"):
        code, [report] = verified("--head", str(tmp_path / kept))
        assert (code, report["fault"]["kind"], report["fault"]["record"]) == (BROKEN, "truncated", 5)
    store.delete(RECORDS)
    code, reports = verified("--head", str(tmp_path / "head.json"))
    assert (code, reports[0]["fault"]["kind"]) == (BROKEN, "truncated")


def test_a_head_that_others_signed_is_not_believed(store: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "head.json").write_text(quorum("audit", "head").stdout.replace('"seq": 6', '"seq": 5'))
    done = quorum("audit", "verify", "--head", str(tmp_path / "head.json"))
    assert done.exit_code == FAILED
    assert "signature" in str(done.exception)
    (tmp_path / "nothing").write_text("nothing")
    assert "no signed head" in str(quorum("audit", "verify", "--head", str(tmp_path / "nothing")).exception)


def test_an_export_is_checked_without_service_and_secret(
    store: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = tmp_path / "export.jsonl"
    assert quorum("audit", "export", "--output", str(exported)).exit_code == 0
    assert quorum("audit", "export").stdout.splitlines()[:-1] == exported.read_text().splitlines()[:-1]
    public = SigningKey(Secret(SECRET).key_for(USE)).public
    monkeypatch.delenv("QUORUM_SECRET")
    monkeypatch.setenv("QUORUM_DATA_DIR", str(tmp_path / "elsewhere"))
    file = ("--file", str(exported))

    assert quorum("audit", "verify", *file).exit_code == FAILED
    assert not (tmp_path / "elsewhere").exists()
    assert verified(*file, "--public-key", public)[0] == INTACT
    other = SigningKey(b"0" * 32).public
    code, [report] = verified(*file, "--public-key", other)
    assert (code, report["fault"]["kind"]) == (BROKEN, "unknown_key")

    lines = exported.read_text().splitlines(keepends=True)
    for changed, wanted in [
        (lines[:-1], "incomplete"),
        (lines[:3] + lines[4:], "missing"),
        (lines[1:], "missing"),
        (lines[:4] + lines[-1:], "truncated"),
        ([line.replace("one", "eve") for line in lines], "edited"),
        ([], "incomplete"),
    ]:
        exported.write_text("".join(changed))
        code, [report] = verified(*file, "--public-key", public)
        assert (code, report["fault"]["kind"]) == (BROKEN, wanted)


def test_a_chain_that_was_changed_is_exported_only_if_told_to(store: redis.Redis) -> None:
    store.xdel(RECORDS, "3-0")
    done = quorum("audit", "export")
    assert (done.exit_code, done.stdout) == (FAILED, "")
    lines = quorum("audit", "export", "--broken-too").stdout.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 4, 5, 6]


def test_a_time_and_another_tenant(store: redis.Redis) -> None:
    assert quorum("keys", "create", "--name", "x", "--tenant", "other").exit_code == 0
    assert quorum("audit", "export", "--from", "2100-01-01").exit_code == FAILED
    assert len(quorum("audit", "export", "--tenant", "other", "--to", "2100-01-01").stdout.splitlines()) == 3
    assert {report["tenant"] for report in verified()[1]} == {"default", "other"}
    assert [report["tenant"] for report in verified("--tenant", "other")[1]] == ["other"]
    assert verified("--tenant", "nobody")[1][0]["records"] == 0


def test_what_was_begun_and_never_ended_is_told(store: redis.Redis) -> None:
    rewrite(store, lines_of(store)[:3])
    done = quorum("audit", "verify")
    assert (done.exit_code, "1 begun without an outcome: 3" in done.stdout) == (INTACT, True)
