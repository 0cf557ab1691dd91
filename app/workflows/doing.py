"""Doing actions: one of a step, of a case, of an item, or of what takes a step back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from app.config.workflows import MAX_DEPTH, WorkflowAction, WorkflowMap
from app.core.chat import JsonObject
from app.core.conditions import Condition, Expression
from app.core.errors import OrchestratorError
from app.core.run_events import RunEvent, StepFinished, StepStarted
from app.core.streams import merge
from app.workflows.binding import bound_condition, bound_expression
from app.workflows.checking import inputs_fault, with_defaults
from app.workflows.failing import UNANSWERABLE, StepFailed, StepWaits
from app.workflows.journal import key_of
from app.workflows.levels import Level, Means, Values
from app.workflows.outcome import Outcome
from app.workflows.references import NOTHING, filled
from app.workflows.running import Mark, Running

WAITING: Final = object()
"""In the place of the output of an item that waits for a person."""
RunLevel = Callable[[Level], AsyncGenerator[RunEvent]]
"""Runs a workflow to its end; raises StepFailed where it has failed, StepWaits where a person must agree
first."""


@dataclass(frozen=True, slots=True)
class Doing:
    """Where an action is done, and for how long.

    Parameters:
        path: of the step or item in the run, by which it is recorded.
        try_: which try of it, from 1.
        until: when it must be over, on the monotonic clock; None where nothing bounds it.
        means: what it may use.
        level: the workflow that it is a part of; None of what takes a step back.
        mark: of the step or item, where it must not be cut.
    """

    path: str
    try_: int
    until: float | None
    means: Means = Means()
    level: Level | None = None
    mark: Mark | None = None

    def parted(self) -> AbstractContextManager[None]:
        """While items, or steps of a workflow, are done, which write down by themselves what comes of them."""
        return nullcontext() if self.mark is None else self.mark()

    @property
    def undoing(self) -> bool:
        """Whether it takes a step back."""
        return self.level is None or self.level.undoing


class Actions:
    """The actions of one run. Each method tells what happens, and leaves what came of it in an `Outcome`."""

    def __init__(self, running: Running, run_level: RunLevel) -> None:
        self._running, self._run_level = running, run_level

    async def do(self, action: WorkflowAction, doing: Doing, values: Values, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        """Do `action`.

        Raises:
            StepFailed, QuorumError, Unfound, Unanswerable: it has failed.
            StepWaits: a person must agree first.
        """
        if action.transform is not None:
            outcome.output = await _transformed(action, values)
            return
        if action.switch is not None:
            case = await chosen(action, values, outcome)
            source = nothing() if case is None else self.do(case, doing, values, outcome)
        elif action.map is not None:
            source = self._map(action.map, doing, values, outcome)
        else:
            source = self.ready(ready_of(action, values), doing, outcome)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def ready(self, ready: JsonObject, doing: Doing, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        """Do an action without references, as `ready_of` gives it."""
        running = self._running
        if "wait" in ready:
            async with aclosing(running.halting.wait(ready["wait"], doing.path, outcome, undoing=doing.undoing)) as events:
                async for event in events:
                    yield event
            return
        leaf = "workflow" not in ready
        if "orchestration" in ready:
            source = running.acting.orchestration(
                ready["orchestration"], outcome, doing.until, doing.means, undoing=doing.undoing
            )
        elif "tool" in ready:
            source = self._tool(ready["tool"], doing, outcome)
        else:
            source = self._workflow(ready["workflow"], doing, outcome)
        async with aclosing(source) as events:
            async for event in events:
                if leaf:
                    running.took.add(event)
                yield event

    async def _tool(self, call: JsonObject, doing: Doing, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        with self._running.writing({"tool": call}):
            async with aclosing(self._called(call, doing, outcome)) as events:
                async for event in events:
                    yield event

    def _called(self, call: JsonObject, doing: Doing, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        return self._running.acting.tool(call, doing.path, doing.try_, outcome, doing.until, doing.means, undoing=doing.undoing)

    async def _workflow(self, call: JsonObject, doing: Doing, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        config, version = await self._running.find(call["name"])
        name, outer = call["name"].partition("@")[0], doing.level
        if outer is not None and outer.depth + 1 >= MAX_DEPTH:
            raise OrchestratorError(f"workflows stand more than {MAX_DEPTH} deep inside of one another")
        most = call.get("max_depth")
        if most is not None and outer is not None and outer.times(name) >= most:
            raise OrchestratorError(f"the workflow {name!r} stands {most} times inside of itself, its max_depth")
        fault = inputs_fault(config, call["inputs"])
        if fault is not None:
            where = ".".join(("inputs", *map(str, fault[0])))
            raise OrchestratorError(f"{where} of the workflow {name!r}: {fault[1]}")
        inside = await self._inside(doing)
        inputs = with_defaults(config, call["inputs"])
        inner = Level(name, version, config, inputs, f"{inside}/", outer, doing.means, undoes=outer is None)
        with doing.parted():
            async with aclosing(self._run_level(inner)) as events:
                async for event in events:
                    yield event
        outcome.output = inner.output

    async def _inside(self, doing: Doing) -> str:
        """The path under which parts of an action are recorded: those of each try by themselves."""
        if doing.try_ == 1:
            return doing.path
        await self._running.journal.begin(doing.path, doing.try_)
        return f"{doing.path}#{doing.try_}"

    async def _map(self, mapped: WorkflowMap, doing: Doing, values: Values, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        items = filled(mapped.over, values.find)
        if not isinstance(items, list | tuple):
            raise OrchestratorError(f"map.over is no list but {type(items).__name__}")
        found: list[Any] = list(items)  # pyright: ignore[reportUnknownArgumentType]
        if len(found) > mapped.max_items:
            raise OrchestratorError(f"map.over has {len(found)} items; max_items is {mapped.max_items}")
        outputs: list[Any] = [WAITING] * len(found)
        if doing.try_ > 1:  # what a try before has done stays done
            await self._running.journal.begin(doing.path, doing.try_)
        one = partial(self._item, mapped, doing, outputs)
        if found:
            sources = [one(values.of_item(item, index)) for index, item in enumerate(found)]
            with doing.parted():
                async with aclosing(merge(sources, limit=mapped.concurrency)) as events:
                    async for event in events:
                        yield event
        if any(one is WAITING for one in outputs):
            raise StepWaits
        outcome.output = outputs

    async def _item(self, mapped: WorkflowMap, doing: Doing, outputs: list[Any], values: Values) -> AsyncGenerator[RunEvent]:
        running = self._running
        path, key = f"{doing.path}/{values.index}", key_of(mapped.do, values.item)
        recorded = running.journal.result(path, key)
        if recorded is not None:
            outputs[values.index] = recorded["output"]
            return
        running.count()
        yield StepStarted(path)
        outcome, began = Outcome(), running.now()
        try:
            with running.noting_cuts(path, lambda: outcome.own), running.writing(mapped.do) as mark:
                source = self.do(mapped.do, replace(doing, path=path, mark=mark), values, outcome)
                async with aclosing(running.in_time(source, None)) as events:
                    async for event in events:
                        outcome.took.add(event)
                        yield event
                outcome.output = running.bounded(outcome.output)
                result = await self._item_over(path, key, outcome, "succeeded", began)
        except StepWaits:
            return
        except StepFailed as failed:
            goes_on = mapped.on_error == "continue"
            error = running.acting.effects.of(failed.error, path, last=goes_on)
            if not goes_on or error.code in UNANSWERABLE:
                await running.journal.spent(path, *outcome.recorded())
                await running.writes_over()
                raise StepFailed(error) from None
            outcome.output = None
            outcome.facts["error"] = {"code": error.code, "message": error.message}
            result = await self._item_over(path, key, outcome, "failed", began)
        outputs[values.index] = outcome.output
        yield StepFinished(path, result)

    async def _item_over(self, path: str, key: str, outcome: Outcome, status: str, began: float) -> JsonObject:
        result = outcome.result(status, (self._running.now() - began) * 1000, 1)
        calls, tools = outcome.recorded()
        await self._running.journal.finish(path, key, result, calls=calls, tools=tools)
        return result


async def nothing() -> AsyncGenerator[RunEvent]:
    """No events."""
    return
    yield


async def _transformed(action: WorkflowAction, values: Values) -> Any:
    transform = action.transform
    assert transform is not None  # noqa: S101
    if transform.expression is None:
        return filled(transform.value, values.find)
    bound = bound_expression(transform.expression)
    assert isinstance(bound.compiled, Expression)  # noqa: S101
    return await bound.compiled.value(bound.values(values.find))


async def chosen(action: WorkflowAction, values: Values, outcome: Outcome) -> WorkflowAction | None:
    """The case of a switch that is done; None where none is."""
    switch = action.switch
    assert switch is not None  # noqa: S101
    for number, case in enumerate(switch.cases):
        bound = bound_condition(case.when)
        assert isinstance(bound.compiled, Condition)  # noqa: S101
        if await bound.compiled.holds(bound.values(values.find)):
            outcome.facts["case"] = number
            return case
    outcome.facts["case"] = None if switch.default is None else "default"
    return switch.default


def ready_of(action: WorkflowAction, values: Values, *, missing: Any = NOTHING) -> JsonObject:
    """An action with its references replaced by what they stand for, by `missing` where one leads to nothing.

    Raises:
        Unfound: one leads to nothing, and nothing was given for that.
    """
    said: dict[str, Any] = {}
    for kind in ("orchestration", "tool", "workflow", "wait"):
        member = getattr(action, kind)
        if member is None:
            continue
        plain = member.model_dump(mode="json", by_alias=True, exclude_none=True)
        schema = plain.pop("schema", None)  # whose texts are its own
        found = filled(plain, values.find, missing=missing)
        said[kind] = found if schema is None else {**found, "schema": schema}
    return said
