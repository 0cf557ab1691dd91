"""Stored definitions, opened where they are needed: held packed, and as what they say only while they are in use."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import structlog
from pydantic import ValidationError

from app.config.workflows import WorkflowConfig
from app.state.workflows import StoredVersion

OPEN_BYTES: Final = 4_000_000
"""Definitions that are held open, as JSON. Open, a definition takes about ten times as much."""

_log = structlog.get_logger("quorum.workflow")


class Opened:
    """Those that were used last, up to `OPEN_BYTES`."""

    def __init__(self, most_bytes: int = OPEN_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._open: OrderedDict[StoredVersion, tuple[WorkflowConfig | None, int]] = OrderedDict()

    @property
    def size(self) -> int:
        """Bytes of those that are open, as JSON."""
        return self._bytes

    def open(self, stored: StoredVersion) -> WorkflowConfig | None:
        """What a version says; None where another version of the service stored it, with a shape that is not known here."""
        found = self._open.get(stored)
        if found is not None:
            self._open.move_to_end(stored)
            return found[0]
        try:
            config = WorkflowConfig.model_validate(stored.definition())
        except ValidationError:
            _log.error("a stored workflow is left out: another version of the service stored it", workflow=stored.name)
            config = None
        self._open[stored] = config, stored.size
        self._bytes += stored.size
        while self._bytes > self._most and len(self._open) > 1:
            _, (_, size) = self._open.popitem(last=False)
            self._bytes -= size
        return config

    def forget(self) -> None:
        """Close all."""
        self._open.clear()
        self._bytes = 0


class Newest(Mapping[str, WorkflowConfig]):
    """The newest definitions by name, and those of versions as `name@2`, each opened where it is asked for.

    Parameters:
        over: stands before all others.
        names: of all.
        find: the version and the definition of a reference; 0 and None where there is none.
    """

    def __init__(
        self,
        over: Mapping[str, WorkflowConfig],
        names: Callable[[], list[str]],
        find: Callable[[str], tuple[int, WorkflowConfig | None]],
    ) -> None:
        self._over, self._names, self._find = over, names, find
        self.asked: dict[str, int] = {}
        """The versions of those that were looked up, by their references."""
        self.all_asked = False
        """Whether somebody wanted to know all names."""

    def __getitem__(self, reference: str) -> WorkflowConfig:
        if reference in self._over:
            return self._over[reference]
        self.asked[reference], config = self._find(reference)
        if config is None:
            raise KeyError(reference)
        return config

    def __iter__(self) -> Iterator[str]:
        self.all_asked = True
        return iter(dict.fromkeys((*self._over, *self._names())))

    def __len__(self) -> int:
        return sum(1 for _ in self)
