from __future__ import annotations

from pathlib import Path

import pytest

from app.config.loading import load
from app.config.reload import Configuration
from app.config.spec import QuorumSpec
from app.core.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "quorum.yaml"
    path.write_text("limits: {max_models: 5}\n")
    return path


def test_a_changed_file_takes_the_place_of_the_old_one(path: Path) -> None:
    configuration = Configuration(lambda: load(path, {}))
    told: list[QuorumSpec] = []
    configuration.subscribe(told.append)
    path.write_text("limits: {max_models: 6}\n")

    configuration.reload()

    assert configuration.spec.limits.max_models == 6
    assert [spec.limits.max_models for spec in told] == [6]
    assert configuration.version == 2


def test_a_bad_file_changes_nothing(path: Path) -> None:
    configuration = Configuration(lambda: load(path, {}))
    told: list[QuorumSpec] = []
    configuration.subscribe(told.append)
    path.write_text("limits: {max_models: 0}\n")

    with pytest.raises(ConfigError) as raised:
        configuration.reload()

    assert raised.value.faults == (f"{path}:1:10: limits.max_models: must be at least 1",)
    assert configuration.spec.limits.max_models == 5
    assert told == []
    assert configuration.version == 1


def test_a_subscriber_that_refuses_has_the_others_go_back(path: Path) -> None:
    configuration = Configuration(lambda: load(path, {}))
    told: list[int] = []

    def refuse(_: QuorumSpec) -> None:
        raise ConfigError("not with me")

    configuration.subscribe(lambda spec: told.append(spec.limits.max_models))
    configuration.subscribe(refuse)
    path.write_text("limits: {max_models: 6}\n")

    with pytest.raises(ConfigError, match="not with me"):
        configuration.reload()

    assert told == [6, 5]
    assert configuration.spec.limits.max_models == 5
