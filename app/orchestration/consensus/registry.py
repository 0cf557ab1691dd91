"""The table of aggregators: the built-in ones, and those that installed packages bring."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, Final

from app.core.errors import ConfigError
from app.orchestration.consensus.aggregator import Aggregator
from app.orchestration.consensus.aggregators import Fields, Numeric, Vote
from app.orchestration.consensus.judge import Judged
from app.orchestration.consensus.texts import Texts

ENTRY_POINT_GROUP: Final = "quorum.aggregators"
BUILT_IN: Final[tuple[type[Aggregator], ...]] = (Vote, Numeric, Texts, Fields, Judged)
_registered: dict[str, type[Aggregator]] = {kind.name: kind for kind in BUILT_IN}


def register(kind: type[Aggregator]) -> None:
    """Make `kind` known under its name, in place of another of that name."""
    _registered[kind.name] = kind


def aggregators() -> dict[str, type[Aggregator]]:
    """All by name.

    Raises:
        ConfigError: a package brings what is no aggregator.
    """
    return {**_plugins(), **_registered}


@lru_cache(maxsize=1)
def _plugins() -> dict[str, type[Aggregator]]:
    found: dict[str, type[Aggregator]] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        kind: Any = entry.load()
        if not (isinstance(kind, type) and issubclass(kind, Aggregator)):
            raise ConfigError(f"the entry point {entry.name!r} of {ENTRY_POINT_GROUP} is not a subclass of Aggregator")
        found[entry.name] = kind
    return found
