"""What has been done in a run of a workflow: which steps are over and with what, what undoes them, and what has failed.

Each line is written down before anybody goes on because of it, where another process may go on with the run. A line names its
step by its path, `draft`, or `each/3` of a map's item, or `publish/send` of a workflow inside of it; from the second try on a
path says which try, `publish#2`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson
import structlog
from pydantic import TypeAdapter

from app.config.workflows import WorkflowAction
from app.core.chat import JsonObject
from app.core.errors import ErrorReport, StateUnavailable
from app.core.run_json import json_bytes
from app.core.runs import HelperCall
from app.core.step_records import StepStore
from app.core.tool_runs import ToolRun

AGAIN_S: Final = 0.25
"""How often a store that is away is asked again."""
UNDO: Final = "!undo"
"""After the path of a step: what takes it back."""
ITEMS: Final = "!items"
"""After the path of a map: what takes back the items that were done before something else took the place of its output."""
SPENT: Final = "!spent"
"""After the path of a step: what a failed try of it took."""
FAILED: Final = "!"
"""Before the path of a workflow that has failed: then its steps are undone, whoever goes on."""

_INSIDE: Final = re.compile(r"[/#!]")
_CALL: Final = TypeAdapter(HelperCall)
_TOOL: Final = TypeAdapter(ToolRun)
_log = structlog.get_logger("quorum.workflow")


@dataclass(frozen=True, slots=True)
class Done:
    """A step that has had an effect. `undo` is an action without references, which takes it back; `of_items` where that takes
    back the items of a map whose output is something else by now."""

    path: str
    number: int
    undo: JsonObject
    of_items: bool = False


def key_of(action: WorkflowAction, *more: Any) -> str:
    """The same for what does the same: what a recorded result is good for."""
    said = orjson.dumps([action.model_dump(mode="json", by_alias=True, exclude_unset=True), *more], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(said).hexdigest()[:24]


class Journal:
    """The journal of one run.

    Parameters:
        store: where it is written down; None where nobody could go on with the run.
        lines: what is there already.
    """

    def __init__(self, store: StepStore | None, lines: Mapping[str, JsonObject]) -> None:
        self._store = store
        self._lines = dict(lines)
        self._found = frozenset(lines)
        self._number = max((int(line.get("number", 0)) for line in lines.values()), default=0)
        self.steps_done = 0

    def begun(self, path: str) -> int:
        """Which try of a step was begun last; 0 where none was."""
        return int(self._lines.get(path, {}).get("try", 0))

    def result(self, path: str, key: str) -> JsonObject | None:
        """The result of a step that is over; None where it is not, or does something else by now, or was undone."""
        line = self._lines.get(path, {})
        if line.get("key") != key or line.get("undone"):
            return None
        return cast("JsonObject | None", line.get("result"))

    def told(self) -> tuple[list[HelperCall], list[ToolRun]]:
        """The calls of models and of tools, of steps that are over and of tries that failed, in their order."""
        lines = sorted(self._lines.values(), key=lambda one: int(one.get("number", 0)))
        calls = [_CALL.validate_python(call) for one in lines for call in one.get("calls", ())]
        return calls, [_TOOL.validate_python(tool) for one in lines for tool in one.get("tools", ())]

    def cut(self, path: str, try_: int) -> bool:
        """Whether another process had begun this try of a step, and nobody knows how far it came."""
        line = self._lines.get(path, {})
        return path in self._found and line.get("try") == try_ and "result" not in line and not line.get("waits")

    def cut_writes(self) -> Iterator[tuple[str, int, str]]:
        """The calls of tools that write, which another process had begun for steps that are not over: path, try, tool."""
        for path in self._found:
            line = self._lines[path]
            tool, try_ = line.get("tool"), self.begun(path)
            if tool is None or not self.cut(path, try_) or UNDO in path:
                continue
            around = [path[: sign.start()] for sign in _INSIDE.finditer(path)]
            if not any(self.is_over(one) or FAILED + one + "/" in self._lines for one in around):
                yield path, try_, tool

    def failure(self, path: str) -> JsonObject | None:
        """What the workflow at `path` has failed with."""
        return self._lines.get(FAILED + path)

    def until(self, path: str) -> float | None:
        """When the wait of a step is over, in Unix time; None where it has not begun."""
        return self._lines.get(path, {}).get("until")

    async def signal(self, name: str) -> JsonObject | None:
        """What was sent to the run under `name`, if need be once the store is back; None where nothing was."""
        while self._store is not None:
            try:
                return await self._store.signal(name)
            except StateUnavailable:
                await asyncio.sleep(AGAIN_S)
        return None

    def is_over(self, path: str) -> bool:
        """Whether a step is over."""
        return "result" in self._lines.get(path, {})

    async def note(self, path: str, line: JsonObject) -> None:
        """Write down what is no step's."""
        await self._write(path, line)

    async def begin(self, path: str, try_: int, tool: str | None = None) -> None:
        """A step is about to be done that may have an effect: by `tool`, or else by its parts."""
        await self._write(path, {"try": try_} if tool is None else {"try": try_, "tool": tool})
        self._found -= {path}

    async def waits(self, path: str, try_: int) -> None:
        """What was begun was not done: a person must agree first."""
        await self._write(path, {"try": try_, "waits": True})

    async def finish(
        self,
        path: str,
        key: str,
        result: JsonObject,
        *,
        undo: JsonObject | None = None,
        undo_items: JsonObject | None = None,
        calls: list[Any] | None = None,
        tools: list[Any] | None = None,
    ) -> None:
        """A step is over. `undo_items` takes back what a map did before something else took the place of its output."""
        self._number += 1
        self.steps_done += 1
        more = {"undo": undo, "undo_items": undo_items, "calls": calls, "tools": tools}
        line: JsonObject = {"key": key, "number": self._number, "result": result}
        await self._write(path, {**line, **{name: one for name, one in more.items() if one}})

    async def fail(self, path: str, error: ErrorReport, step: str) -> None:
        """The workflow at `path` has failed; what was done in it is to be undone."""
        await self._write(FAILED + path, {"error": orjson.loads(json_bytes(error)), "step": step})

    async def undone(self, done: Done, calls: Sequence[Any] = (), tools: Sequence[Any] = ()) -> None:
        """A step is undone, or cannot be; that took these calls."""
        line = self._lines[done.path]
        took = {"calls": [*line.get("calls", ()), *calls], "tools": [*line.get("tools", ()), *tools]}
        noted = "items_undone" if done.of_items else "undone"
        await self._write(done.path, {**line, **{name: some for name, some in took.items() if some}, noted: True})

    async def spent(self, path: str, calls: Sequence[Any], tools: Sequence[Any]) -> None:
        """A try of a step has failed, which took these calls."""
        if calls or tools:
            self._number += 1
            line = {"number": self._number, "calls": list(calls), "tools": list(tools)}
            await self._write(f"{path}{SPENT}{self._number}", line)

    def items(self, path: str) -> dict[int, Any]:
        """The outputs of those items of the map at `path` that succeeded, by their places."""
        found: dict[int, Any] = {}
        for name, line in self._lines.items():
            above, _, place = name.rpartition("/")
            if above == path and place.isdecimal() and line.get("result", {}).get("status") == "succeeded":
                found[int(place)] = line["result"]["output"]
        return found

    async def partly(self, path: str, undo: JsonObject) -> None:
        """The map at `path` was not done to its end, and this takes back what was."""
        self._number += 1
        await self._write(path, {**self._lines.get(path, {}), "number": self._number, "undo": undo})

    def to_undo(self, prefix: str) -> Iterator[Done]:
        """The steps under `prefix` that are over and not undone, the last one first. What has taken others back stays."""
        found: list[Done] = []
        for path, line in self._lines.items():
            if not path.startswith(prefix) or UNDO in path[len(prefix) :]:
                continue
            if line.get("undo") and not line.get("undone"):
                found.append(Done(path, int(line["number"]), line["undo"]))
            if line.get("undo_items") and not line.get("items_undone"):
                found.append(Done(path, int(line["number"]), line["undo_items"], of_items=True))
        return iter(sorted(found, key=lambda one: (-one.number, one.of_items)))

    async def _write(self, path: str, line: JsonObject) -> None:
        if self._store is not None:
            await self._put(self._store, path, line)
        self._lines[path] = line

    async def _put(self, store: StepStore, path: str, line: JsonObject) -> None:
        """Write a line down, if need be once the store is back: what was done and is not written would be neither known to who
        goes on with the run nor taken back, and nobody else can have the run before the store is back."""
        warned = False
        while True:
            try:
                return await store.put(path, line)
            except StateUnavailable as error:
                if not warned:
                    _log.warning("a run waits for the store to note a step", step=path, reason=error.message)
                warned = True
                await asyncio.sleep(AGAIN_S)


async def lines_of(store: StepStore) -> Mapping[str, JsonObject]:
    """What is written down of a run that somebody else has begun, if need be once the store is back."""
    while True:
        try:
            return await store.all()
        except StateUnavailable:
            await asyncio.sleep(AGAIN_S)
