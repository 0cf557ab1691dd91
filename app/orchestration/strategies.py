"""The table of strategies: the built-in ones, and those that installed packages bring by the entry-point group."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from app.config.faults import deepest
from app.core.errors import ConfigError, InvalidRequest, NotFound
from app.orchestration.adaptive.orchestrator import AdaptiveOrchestrator
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.consensus.orchestrator import ConsensusOrchestrator
from app.orchestration.direct import DirectOrchestrator
from app.orchestration.fallback.orchestrator import FallbackOrchestrator
from app.orchestration.parallel.orchestrator import ParallelOrchestrator
from app.orchestration.reliable.orchestrator import ReliableOrchestrator
from app.orchestration.simple import SimpleOrchestrator
from app.orchestration.tools.orchestrator import ToolOrchestrator

ENTRY_POINT_GROUP = "quorum.orchestrators"
_WORDS = {"extra_forbidden": "is no option", "missing": "is missing"}
BUILT_IN: tuple[type[BaseOrchestrator], ...] = (
    DirectOrchestrator,
    FallbackOrchestrator,
    SimpleOrchestrator,
    ConsensusOrchestrator,
    ParallelOrchestrator,
    AdaptiveOrchestrator,
    ToolOrchestrator,
    ReliableOrchestrator,
)


class Strategies:
    """Strategies by name.

    Parameters:
        plugins: also load what installed packages register under `quorum.orchestrators`.
    """

    def __init__(self, *, plugins: bool = True) -> None:
        self._by_name: dict[str, BaseOrchestrator] = {}
        for strategy in BUILT_IN:
            self.register(strategy())
        if plugins:
            for entry in entry_points(group=ENTRY_POINT_GROUP):
                self.register(_loaded(entry.name, entry.load()))

    def register(self, strategy: BaseOrchestrator) -> None:
        """Add a strategy under its name.

        Raises:
            ConfigError: the name is taken.
        """
        if strategy.name in self._by_name:
            raise ConfigError(f"two strategies are named {strategy.name!r}; give one of them another `name`")
        self._by_name[strategy.name] = strategy

    def get(self, name: str) -> BaseOrchestrator:
        """The strategy `name`.

        Raises:
            NotFound: there is none.
        """
        strategy = self._by_name.get(name)
        if strategy is None:
            raise NotFound(f"there is no strategy {name!r}; there are {', '.join(sorted(self._by_name))}", param="strategy")
        return strategy

    def all(self) -> tuple[BaseOrchestrator, ...]:
        return tuple(self._by_name.values())


def parse_options(strategy: BaseOrchestrator, options: Any) -> StrategyOptions:
    """`options` as the strategy's own type.

    Raises:
        InvalidRequest: unknown or wrong ones, each named.
    """
    try:
        return strategy.Options.model_validate(options)
    except ValidationError as error:
        told = deepest(error.errors(include_url=False, include_input=False, include_context=False), options, words=_WORDS)
        path = f"options.{told.member}" if told.member else "options"
        known = ", ".join(strategy.Options.model_fields) or "none"
        raise InvalidRequest(f"{path}: {told.what}; the options of {strategy.name!r} are {known}", param=path) from None


def _loaded(name: str, strategy: Any) -> BaseOrchestrator:
    if not (isinstance(strategy, type) and issubclass(strategy, BaseOrchestrator)):
        raise ConfigError(f"the entry point {name!r} of {ENTRY_POINT_GROUP} is not a subclass of BaseOrchestrator")
    return strategy()
