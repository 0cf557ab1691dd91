"""The definitions that a run has begun with: whoever goes on with it has the same, whatever was edited meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import ValidationError

from app.config.workflows import WorkflowConfig
from app.core.chat import JsonObject
from app.core.errors import OrchestratorError
from app.workflows.journal import Journal
from app.workflows.library import Found

PINNED: Final = "@workflow"
"""What the journal's lines begin with that hold definitions: that of the run, and with a name those of workflows inside."""


class Pins:
    """Those of one run.

    Parameters:
        journal: where they are noted.
        lines: what is noted there already, as `taken_from` gives it.
        find: the workflow that a reference means now.
    """

    def __init__(self, journal: Journal, lines: Mapping[str, JsonObject], find: Callable[[str], Found]) -> None:
        self._journal, self._find = journal, find
        self._found = {path: _read(line) for path, line in lines.items()}

    async def first(self, now: Callable[[], Found]) -> Found:
        """The workflow that the run has begun with, that of `now` where it begins."""
        return await self._pinned(PINNED, now)

    async def called(self, reference: str) -> tuple[WorkflowConfig, int]:
        """The workflow that `reference` has meant when it was called first, and its version.

        Raises:
            NotFound: there is none.
        """
        found = await self._pinned(f"{PINNED} {reference}", lambda: self._find(reference))
        return found.config, found.version

    async def _pinned(self, path: str, now: Callable[[], Found]) -> Found:
        if path not in self._found:
            found = self._found[path] = now()
            await self._journal.note(path, _line(found))
        return self._found[path]


def taken_from(lines: dict[str, JsonObject]) -> dict[str, JsonObject]:
    """Those of a journal's `lines` that hold definitions; they are taken out."""
    return {path: lines.pop(path) for path in tuple(lines) if path.startswith(PINNED)}


def _line(found: Found) -> JsonObject:
    definition = found.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"name": found.name, "version": found.version, "definition": definition}


def _read(line: JsonObject) -> Found:
    try:
        return Found(line["name"], line["version"], WorkflowConfig.model_validate(line["definition"]))
    except (KeyError, ValidationError) as error:
        raise OrchestratorError("the run has begun with a definition of another version of the service") from error
