"""Writes of which nobody knows whether they took effect: their answer did not come, or could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from app.core.errors import ConflictError, ErrorReport, report
from app.core.tool_runs import ToolRun
from app.workflows.failing import UNCERTAIN
from app.workflows.journal import Journal

UNKNOWN: Final = frozenset({"tool_timeout", "tool_output_invalid", UNCERTAIN})
"""Codes of calls that may have taken effect. So may one whose connection broke (`failure` is `incomplete`)."""


@dataclass(frozen=True, slots=True)
class _Write:
    """A call under way, or one that ended so. `again`: it may be made again. `doubted`: so did the try before."""

    tool: str
    again: bool
    doubted: bool


class Effects:
    """Those of one run, by the paths of their steps."""

    def __init__(self) -> None:
        self._open: dict[str, _Write] = {}

    def take_over(self, journal: Journal, returned: Mapping[str, ToolRun]) -> None:
        """Doubt what another process was about to do when it died, unless it is known to have failed.

        Parameters:
            returned: calls of tools that are over by the run's log, by their ids.
        """
        known = {**returned, **{tool.id: tool for tool in journal.told()[1]}}
        for path, try_, tool in journal.cut_writes():
            call = known.get(call_id(path, try_))
            if call is None or call.error is None or _unknown(call.error):
                self.begin(path, tool, again=False, doubted=True)

    def begin(self, path: str, tool: str, *, again: bool, doubted: bool) -> None:
        """A call of `tool` is about to be made."""
        self._open[path] = _Write(tool, again, doubted or path in self._open)

    def end(self, path: str, error: ErrorReport | None, *, made: bool = True) -> None:
        """It is over, or was not `made`. A success says what became of the tries before as well."""
        write = self._open.get(path)
        if write is None:
            return
        if not (error is not None and _unknown(error)) and (not write.doubted or (made and error is None)):
            del self._open[path]

    def answered(self, path: str) -> None:
        """The step at `path` is over in a way that answers for whatever its tries have done."""
        for one in [one for one in self._open if _is_within(one, path)]:
            del self._open[one]

    def step(self, path: str) -> str | None:
        """The path of a step within `path` of whose effect nobody knows."""
        return next((one for one in self._open if _is_within(one, path)), None)

    def of(self, error: ErrorReport, path: str, *, last: bool) -> ErrorReport:
        """The failure `error` of what stands at `path`, as one of unknown effect where it left such a one.

        Parameters:
            last: whether it will not be tried again; before that what may be made again is not asked after.
        """
        if error.code == UNCERTAIN:
            return error
        for one, write in self._open.items():
            if _is_within(one, path) and (last or not write.again):
                message = (
                    f"whether the tool {write.tool!r} took effect is not known, and it is not called again: {error.message}"
                )
                return report(ConflictError(message, code=UNCERTAIN))
        return error


def call_id(path: str, try_: int) -> str:
    """The id of the call that a try of the step or item at `path` makes."""
    return f"{path}#{try_}"


def _unknown(error: ErrorReport) -> bool:
    return error.code in UNKNOWN or error.failure == "incomplete"


def _is_within(one: str, path: str) -> bool:
    """Whether the path `one` is `path`, or stands in it; of a workflow that ends in a slash, and of the first it is empty."""
    if not one.startswith(path):
        return False
    return not path or path.endswith("/") or one == path or one[len(path)] in "/#!"
