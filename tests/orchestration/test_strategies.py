"""The table of strategies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from app.core.errors import ConfigError, InvalidRequest, NotFound
from app.core.run_events import RunEvent, RunFinished
from app.core.runs import RunRequest
from app.orchestration import strategies as module
from app.orchestration.base import BaseOrchestrator
from app.orchestration.context import RunContext
from app.orchestration.simple import SimpleOrchestrator
from app.orchestration.strategies import Strategies, parse_options


class Mine(BaseOrchestrator):
    name = "mine"

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        yield RunFinished()


def test_the_built_in_ones_are_there() -> None:
    assert [strategy.name for strategy in Strategies(plugins=False).all()] == [
        "direct",
        "fallback",
        "simple",
        "consensus",
        "parallel",
        "adaptive",
        "tools",
        "reliable",
    ]


def test_one_that_is_registered_is_found_by_its_name() -> None:
    known, mine = Strategies(plugins=False), Mine()
    known.register(mine)
    assert known.get("mine") is mine


def test_a_name_is_given_once() -> None:
    known = Strategies(plugins=False)
    known.register(Mine())
    with pytest.raises(ConfigError, match="two strategies are named 'mine'"):
        known.register(Mine())


def test_one_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        NotFound, match="no strategy 'magic'; there are adaptive, consensus, direct, fallback, parallel, reliable, simple"
    ) as caught:
        Strategies(plugins=False).get("magic")
    assert caught.value.param == "strategy"


def installed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entry = EntryPoint("mine", value, module.ENTRY_POINT_GROUP)
    monkeypatch.setattr(module, "entry_points", lambda group: [entry] if group == "quorum.orchestrators" else [])


def test_an_installed_package_brings_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "tests.orchestration.test_strategies:Mine")
    assert Strategies().get("mine").name == "mine"
    with pytest.raises(NotFound):
        Strategies(plugins=False).get("mine")


@pytest.mark.parametrize("value", ["builtins:dict", "builtins:print"])
def test_an_entry_point_that_is_no_strategy_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    installed(monkeypatch, value)
    with pytest.raises(ConfigError, match=r"the entry point 'mine' of quorum.orchestrators is not a subclass"):
        Strategies()


@pytest.mark.parametrize(
    ("options", "param"), [({"nonsense": 1}, "options.nonsense"), ([], "options"), ({"analysis": 7}, "options.analysis")]
)
def test_wrong_options_are_named(options: Any, param: str) -> None:
    with pytest.raises(InvalidRequest, match="the options of 'simple' are ") as caught:
        parse_options(SimpleOrchestrator(), options)
    assert caught.value.param == param


def test_a_strategy_without_options_says_so() -> None:
    with pytest.raises(InvalidRequest, match="the options of 'mine' are none"):
        parse_options(Mine(), {"x": 1})
