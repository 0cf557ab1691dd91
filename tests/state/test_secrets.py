from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app.core.errors import ConfigError
from app.state.secrets import Secret, load_secret


def test_what_is_sealed_opens_for_its_owner_only(secret: Secret) -> None:
    sealer = secret.sealer("provider")
    sealed = sealer.seal("sk-123", owner="openai")
    assert "sk-123" not in sealed
    assert sealer.seal("sk-123", owner="openai") != sealed
    assert sealer.open(sealed, owner="openai") == "sk-123"
    for other, owner in [
        (sealer, "azure"),
        (secret.sealer("webhook"), "openai"),
        (Secret("x" * 32).sealer("provider"), "openai"),
    ]:
        with pytest.raises(ConfigError, match="another QUORUM_SECRET"):
            other.open(sealed, owner=owner)


@pytest.mark.parametrize("broken", ["", "v1.", "v1.AAAA", "v1.not base64!", "garbage"])
def test_a_broken_seal_is_refused(secret: Secret, broken: str) -> None:
    with pytest.raises(ConfigError):
        secret.sealer("provider").open(broken, owner="openai")


def test_hashes_depend_on_the_use_and_the_secret(secret: Secret) -> None:
    hashes = {secret.hasher("a")("x"), secret.hasher("b")("x"), Secret("y" * 32).hasher("a")("x"), secret.hasher("a")("y")}
    assert len(hashes) == 4
    assert secret.hasher("a")("x") == secret.hasher("a")("x")


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least 16.*openssl rand"):
        Secret("short")


def test_processes_that_race_for_the_first_secret_agree_on_it(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from app.state.secrets import load_secret\n" + (
        "sys.stdin.read(); print(load_secret(None, Path(sys.argv[1])).hasher('a')('x'))"
    )
    data_dir = tmp_path / "new"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    hashes = {process.communicate()[0] for process in processes}
    assert hashes == {load_secret(None, data_dir).hasher("a")("x") + "\n"}
    assert stat.S_IMODE((data_dir / "secret").stat().st_mode) == 0o600
    assert [path.name for path in data_dir.iterdir()] == ["secret"]
