"""The composition root with a real Valkey: everything starts, follows the configuration, and is closed again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.config.settings import Settings
from app.config.spec import LLMProvider
from app.container import Container
from app.core.errors import ConfigError, NotFound
from app.core.messages import user
from app.core.runs import OrchestrationConfig, RunRequest
from app.state.embedded import EmbeddedValkey
from app.tools.audit.reading import Filter
from tests.support.valkey import running_valkey

SPEC = """
providers:
  mock: {kind: %s}
models:
  %s: {provider: mock, model: %s}
"""


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "quorum.yaml"
    write(path, "fast")
    return path


def write(path: Path, alias: str, kind: str = "mock") -> None:
    path.write_text(SPEC % (kind, alias, "mock-swift"))


def settings(valkey: EmbeddedValkey, config: Path) -> Settings:
    given: dict[str, Any] = {"redis_url": valkey.url, "config": config, "data_dir": config.parent}
    return Settings(**given)


def vendor(base_url: str) -> LLMProvider:
    return LLMProvider.model_validate({"kind": "openai_compatible", "base_url": base_url})


async def test_a_started_container_answers_and_leaves_nothing_running(valkey: EmbeddedValkey, config: Path) -> None:
    before = asyncio.all_tasks()
    container = Container(settings(valkey, config))
    async with container.run() as services:
        request = RunRequest(OrchestrationConfig("direct", ("fast",)), (user("What is 2 + 2?"),))
        result = await services.engine.begin(request).result()
        assert (result.status, result.output.source_model) == ("succeeded", "fast")
        assert await services.state.ping()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_the_summary_names_the_models(valkey: EmbeddedValkey, config: Path) -> None:
    assert "Models: fast" in Container(settings(valkey, config)).summary()


async def test_a_reload_reaches_every_part_and_a_bad_file_changes_nothing(valkey: EmbeddedValkey, config: Path) -> None:
    container = Container(settings(valkey, config))
    async with container.run() as services:
        write(config, "swift")
        await services.reload()
        assert services.registry.resolve("swift").profile.provider == "mock"
        with pytest.raises(NotFound):
            services.registry.resolve("fast")
        assert "swift" in services.engine.spec.models
        write(config, "swift", kind="nonsense")
        with pytest.raises(ConfigError):
            await services.reload()
        assert services.registry.resolve("swift")
        assert "swift" in services.engine.spec.models


async def test_a_reload_by_signal_is_recorded(valkey: EmbeddedValkey, config: Path) -> None:
    again = Container(settings(valkey, config))
    container = Container(settings(valkey, config))
    async with container.run() as services:
        begun = (await services.trail.head("default"))["seq"]
        await container.reload_on_signal()
        write(config, "swift", kind="nonsense")
        with pytest.raises(ConfigError):
            await container.reload_on_signal()
    async with again.run() as services:  # what it told without waiting is there after its end
        page = await services.trail.page("default", Filter(action="config.reload"), cursor=None, limit=10)
        found = [record for record in map(orjson.loads, page.records) if record["seq"] > begun]
    assert [(record["decision"], record["actor"]["kind"]) for record in found] == [("failed", "service"), ("done", "service")]


async def test_stored_providers_are_added_changed_and_removed(valkey: EmbeddedValkey, config: Path) -> None:
    container = Container(settings(valkey, config))
    async with container.run() as services:
        await services.dynamic_providers.add("added", vendor("http://one.example/v1"))
        await services.sync_providers()
        assert services.registry.provider("added").dynamic
        await services.dynamic_providers.add("added", vendor("http://two.example/v1"), replace=True)
        await services.sync_providers()
        assert services.registry.provider("added").config == vendor("http://two.example/v1")
        await services.dynamic_providers.remove("added")
        await services.sync_providers()
        with pytest.raises(NotFound):
            services.registry.provider("added")
        assert services.registry.provider("mock")


async def test_without_redis_it_says_how_to_get_one(config: Path) -> None:
    with pytest.raises(ConfigError, match="QUORUM_REDIS_URL"):
        Container(Settings(config=config, data_dir=config.parent))
