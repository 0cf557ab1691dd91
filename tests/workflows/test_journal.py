"""What is written down of a run, and what somebody who goes on with it finds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from app.config.workflows import WorkflowAction
from app.core.errors import ErrorReport, StateUnavailable
from app.core.run_json import json_bytes
from app.core.tool_runs import ToolRun
from app.workflows.effects import Effects
from app.workflows.journal import Journal, key_of

ACTION = WorkflowAction.model_validate({"transform": {"value": 1}})
KEY = key_of(ACTION)


class Store:
    """A store that is away as often as it is told."""

    def __init__(self, away: int = 0) -> None:
        self.lines: dict[str, Any] = {}
        self.away = away

    async def all(self) -> dict[str, Any]:
        return self.lines

    async def put(self, path: str, record: Any) -> None:
        if self.away:
            self.away -= 1
            raise StateUnavailable("away")
        self.lines[path] = dict(record)


async def test_a_result_is_found_by_who_goes_on_where_the_step_does_the_same():
    store = Store()
    await Journal(store, {}).finish("a", KEY, {"output": 1})
    other = Journal(store, store.lines)
    assert other.result("a", KEY) == {"output": 1}
    assert other.result("a", key_of(WorkflowAction.model_validate({"transform": {"value": 2}}))) is None
    assert other.result("b", KEY) is None


async def test_what_was_under_way_when_its_process_died_is_known():
    store = Store()
    first = Journal(store, {})
    await first.begin("a", 1)
    assert not first.cut("a", 1)
    other = Journal(store, store.lines)
    assert (other.cut("a", 1), other.cut("a", 2), other.cut("b", 1)) == (True, False, False)
    await other.finish("a", KEY, {"output": 1})
    assert not Journal(store, store.lines).cut("a", 1)


async def test_a_write_that_was_cut_is_doubted_unless_it_has_failed_waits_or_was_answered_for():
    store = Store()
    first = Journal(store, {})
    for path, try_ in (("cut", 1), ("each/3", 2), ("failed", 1), ("waits", 1), ("over", 1), ("over!retry", 2), ("b!undo", 1)):
        await first.begin(path, try_, "do")
    await first.begin("each", 2)
    await first.begin("inner/in", 1, "do")
    failure = ErrorReport("ToolExecutionError", "tool_failed", "it is shut")
    run = ToolRun("failed#1", 1, "do", "{}", status="failed", error=failure)
    await first.spent("failed", [], [orjson.loads(json_bytes(run))])
    await first.waits("waits", 1)
    await first.finish("over", KEY, {})
    await first.fail("inner/", failure, "inner/in")
    assert list(first.cut_writes()) == []

    effects = Effects()
    effects.take_over(Journal(store, store.lines), {"each/3#2": replace(run, id="each/3#2")})
    assert effects.step("") == "cut"
    assert [effects.step(path) for path in ("each", "failed", "waits", "over", "inner/", "b")] == [None] * 6
    doubted = effects.of(failure, "", last=True)
    assert (doubted.code, "'do' took effect is not known" in doubted.message) == ("effect_uncertain", True)


async def test_what_is_to_be_undone_comes_last_first_and_once():
    store = Store()
    journal = Journal(store, {})
    for path in ("a", "in/b", "c"):
        await journal.finish(path, KEY, {}, undo={"tool": {"name": path}})
    await journal.finish("d", KEY, {})
    await journal.fail("", ErrorReport("X", "tool_failed", "m"), "d")
    await journal.undone(next(journal.to_undo("")))
    other = Journal(store, store.lines)
    assert [done.path for done in other.to_undo("")] == ["in/b", "a"]
    assert [done.path for done in other.to_undo("in/")] == ["in/b"]
    assert (other.failure("") or {})["step"] == "d"
    assert other.result("c", KEY) is None


async def test_a_line_waits_for_a_store_that_is_away():
    store = Store(away=2)
    await Journal(store, {}).finish("a", KEY, {"output": 1})
    assert store.lines["a"]["result"] == {"output": 1}
