from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from app.config.settings import Settings, default_data_dir, load_settings, unknown_variables
from app.core.errors import ConfigError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("QUORUM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def test_the_defaults_serve_this_machine_only() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8000, 1)
    assert settings.redis_url is None


def test_the_environment_sets_and_what_is_given_goes_before_it(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUORUM_PORT", "9000")
    environment.setenv("QUORUM_WORKERS", "4")
    environment.setenv("QUORUM_REDIS_URL", "")
    environment.setenv("QUORUM_ALLOWED_HOSTS", "quorum.internal, other")
    settings = load_settings(workers=2, host=None)
    assert (settings.port, settings.workers) == (9000, 2)
    assert settings.redis_url is None
    assert settings.allowed_hosts == ("quorum.internal", "other")


def test_wrong_settings_are_named_by_their_variable_without_their_value(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUORUM_PORT", "99999")
    environment.setenv("QUORUM_ADMIN_KEY", "short-secret")
    environment.setenv("QUORUM_GRACE_S", "soon")
    with pytest.raises(ConfigError) as raised:
        load_settings()
    assert raised.value.faults == (
        "QUORUM_PORT: must be at most 65535",
        "QUORUM_ADMIN_KEY: must have at least 16 characters",
        "QUORUM_GRACE_S: must be a number",
    )


def test_secrets_do_not_show(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUORUM_SECRET", "a-secret-of-some-length")
    assert "a-secret-of-some-length" not in repr(load_settings())


def test_a_configuration_beside_the_process_is_found(tmp_path: Path) -> None:
    assert Settings().config_path() is None
    (tmp_path / "quorum.yaml").write_text("")
    assert Settings().config_path() == Path("quorum.yaml")
    assert Settings(config=Path("other.yaml")).config_path() == Path("other.yaml")


def test_the_data_directory_is_the_user_s_own(tmp_path: Path) -> None:
    home, xdg = str(tmp_path / "home"), str(tmp_path / "xdg")
    assert default_data_dir({"HOME": home, "XDG_DATA_HOME": xdg}) == tmp_path / "xdg" / "quorum"
    assert default_data_dir({"HOME": home}) == tmp_path / "home" / ".local" / "share" / "quorum"


def test_a_user_without_a_home_gets_a_directory_of_its_own() -> None:
    expected = Path(tempfile.gettempdir(), f"quorum-{os.getuid()}")
    assert default_data_dir({}) == expected
    assert default_data_dir({"HOME": "/"}, usable=lambda _: False) == expected
    assert default_data_dir({"HOME": "relative"}) == expected


def test_a_misspelt_variable_is_noticed() -> None:
    environ = {"QUORUM_WORKER": "4", "QUORUM_PORT": "1", "OTHER": "x"}
    assert unknown_variables(environ) == ["QUORUM_WORKER is not a setting; did you mean 'QUORUM_WORKERS'?"]
