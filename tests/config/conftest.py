from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

from app.config.loading import NO_CHECKS, Checks, Loaded, load
from app.core.errors import ConfigError

Load = Callable[..., Loaded]
Faults = Callable[..., list[str]]


@pytest.fixture
def load_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a configuration from its text, as `quorum.yaml`."""
    monkeypatch.chdir(tmp_path)

    def loaded(text: str, environ: Mapping[str, str] | None = None, checks: Checks = NO_CHECKS) -> Loaded:
        path = Path("quorum.yaml")
        path.write_text(dedent(text), encoding="utf-8")
        return load(path, environ or {}, checks=checks)

    return loaded


@pytest.fixture
def faults_of(load_text: Load) -> Faults:
    """The faults of a configuration that must have some."""

    def faults(text: str, environ: Mapping[str, str] | None = None, checks: Checks = NO_CHECKS) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            load_text(text, environ, checks)
        return list(raised.value.faults)

    return faults
