"""A workflow that is being run, as the run's first or inside of another: its values, and what has become of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from app.config.workflows import WorkflowConfig
from app.core.chat import JsonObject
from app.core.errors import ErrorReport
from app.reliability.purse import RunPurse
from app.workflows.references import NOTHING, Path, at


@dataclass(frozen=True, slots=True)
class Means:
    """What steps may use beside what the run may: `purse` where the budget of one around them bounds it. With `needs_prices` it
    does so in dollars."""

    purse: RunPurse | None = None
    needs_prices: bool = False


@dataclass(slots=True, eq=False)
class Level:
    """One workflow under way.

    Parameters:
        path: where it stands in the run: empty for the first, else the path of its step and a slash.
        depth: how many it is inside of.
        undoes: whether it takes a step back, rather than being one.
    """

    name: str
    version: int
    config: WorkflowConfig
    inputs: Mapping[str, Any]
    path: str = ""
    outer: Level | None = None
    means: Means = Means()
    undoes: bool = False
    results: dict[str, JsonObject] = field(default_factory=dict[str, JsonObject])
    standing: dict[str, str] = field(default_factory=dict[str, str])
    failure: ErrorReport | None = None
    failed_step: str = ""
    output: Any = None

    def __post_init__(self) -> None:
        self.standing = dict.fromkeys(self.config.steps, "waiting")
        self._pools = {name: asyncio.Semaphore(size) for name, size in self.config.pools.items()}
        self.over = {name: asyncio.Event() for name in self.config.steps}

    _pools: dict[str, asyncio.Semaphore] = field(default_factory=dict[str, asyncio.Semaphore])
    over: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])

    @property
    def first(self) -> bool:
        """Whether it is the run's own workflow."""
        return self.path == ""

    @property
    def undoing(self) -> bool:
        """Whether it stands in what takes a step back."""
        return self.undoes or (self.outer is not None and self.outer.undoing)

    @property
    def failing(self) -> bool:
        """Whether it has failed, or one around it: then nothing new begins."""
        return self.failure is not None or (self.outer is not None and self.outer.failing)

    @property
    def ended(self) -> bool:
        """Whether all of its steps are over, or wait."""
        return all(one.is_set() for one in self.over.values())

    def pool(self, name: str | None) -> asyncio.Semaphore | None:
        return None if name is None else self._pools[name]

    @property
    def depth(self) -> int:
        """How many workflows it is inside of."""
        return 0 if self.outer is None else self.outer.depth + 1

    def times(self, name: str) -> int:
        """How often the workflow `name` stands among this one and those around it."""
        return (self.name == name) + (0 if self.outer is None else self.outer.times(name))

    def told(self) -> JsonObject:
        """What `${workflow}` is."""
        outer = self.outer
        said: JsonObject = {"name": self.name, "version": self.version, "depth": self.depth, "steps": dict(self.standing)}
        said["outer"] = None if outer is None else {**outer.told(), "inputs": dict(outer.inputs)}
        return said


@dataclass(frozen=True, slots=True)
class Values:
    """What references lead to, where an action stands."""

    level: Level
    run: Callable[[], JsonObject]
    item: Any = NOTHING
    index: int = 0

    def find(self, path: Path) -> Any:
        """What `path` leads to; `NOTHING` where it leads nowhere."""
        root, rest = path[0], path[1:]
        match root:
            case "inputs":
                return at(self.level.inputs, rest)
            case "steps":
                return at(self.level.results, rest)
            case "run":
                return at(self.run(), rest)
            case "workflow":
                return at(self.level.told(), rest)
            case "index":
                return at(self.index, rest)
            case _:
                return at(self.item, rest)

    def leniently(self, path: Path) -> Any:
        """As `find`, with null for what is not there."""
        found = self.find(path)
        return None if found is NOTHING else found

    def of_item(self, item: Any, index: int) -> Values:
        return replace(self, item=item, index=index)

    def with_result(self, name: str, result: JsonObject) -> Values:
        """As they are once the step `name` is over with `result`."""
        shown = copy(self.level)
        shown.results = {**shown.results, name: result}
        shown.standing = {**shown.standing, name: result["status"]}
        return replace(self, level=shown)
