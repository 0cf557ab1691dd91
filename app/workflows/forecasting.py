"""What a run of a workflow may use at most, before anything is called: every step is done, as often as it may be.

A map counts as often as it may have items, a recursion as deep as it may go, a step as often as it may be tried, a switch as
its largest case. What steps write into prompts is bounded by what they may write: an answer by its tokens, a result of a tool
by its bytes. Steps whose strategy or models others decide are not foreseen; they are named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, cast

import orjson

from app.config.workflows import MAX_DEPTH, WorkflowAction, WorkflowCall, WorkflowConfig, WorkflowsConfig, WorkflowStep
from app.core.chat import JsonObject
from app.core.errors import InvalidRequest, QuorumError
from app.core.tools import ToolSpec
from app.orchestration.base import Foreseen
from app.reliability.forecast import BYTES_PER_TOKEN, EXPECTED_OUTPUT_TOKENS, QUOTED_GROWTH, PlannedCall, with_more_input
from app.workflows.graph import default_returns, needs, order
from app.workflows.references import Reference, in_value, whole

MOST_LEVELS: Final = 2_000
"""Workflows inside of one another that are looked at: one that calls itself twice, 16 deep, has 65,536."""
SMALL: Final = 1_000
"""More than what a run or a workflow says of itself takes in a prompt."""


class Size(NamedTuple):
    """A text in a prompt: tokens at `most`, and as it is `usual`."""

    most: int
    usual: int

    def __add__(self, other: Any) -> Size:
        return Size(self.most + other.most, self.usual + other.usual)

    def times(self, count: int) -> Size:
        return Size(self.most * count, self.usual * count)


NONE: Final = Size(0, 0)

Ask = Callable[[JsonObject], tuple[tuple[PlannedCall, ...], bool]]
"""The calls of an orchestration with an empty prompt, and whether its answer is JSON. Raises InvalidRequest."""
Find = Callable[[str], WorkflowConfig]


@dataclass(slots=True, eq=False)
class _Scope:
    """A workflow that is looked at: how large its values are. Of `inputs` that are known, `known` has the values."""

    config: WorkflowConfig
    inputs: Mapping[str, Size]
    known: Mapping[str, Any]
    stack: tuple[str, ...]
    times: int
    stage: int
    steps: dict[str, Size] = field(default_factory=dict[str, Size])
    ends: dict[str, int] = field(default_factory=dict[str, int])


class Forecasting:
    """Looks through a workflow.

    Parameters:
        ask: what an orchestration calls.
        find: the workflow that a reference means.
        tool: what is known of a tool; None where there is none now.
        limits: the bounds of all runs.
    """

    def __init__(self, ask: Ask, find: Find, tool: Callable[[str], ToolSpec | None], limits: WorkflowsConfig) -> None:
        self._ask, self._find, self._tool, self._limits = ask, find, tool, limits
        self._calls: list[PlannedCall] = []
        self._unknown: dict[str, None] = {}
        self._tools_usd = 0.0
        self._levels = 0

    def of(self, name: str, config: WorkflowConfig, inputs: Mapping[str, Any]) -> Foreseen:
        """All that a run with `inputs` may call."""
        sizes = {member: _literal(value) for member, value in inputs.items()}
        self._level(_Scope(config, sizes, inputs, (name,), 1, 0))
        return Foreseen(tuple(self._calls), self._tools_usd, tuple(self._unknown))

    def _level(self, scope: _Scope) -> tuple[Size, int]:
        """The size of what a workflow returns, and its last stage."""
        self._levels += 1
        config = scope.config
        needed = {name: needs(step) for name, step in config.steps.items()}
        for name in order(needed) or ():
            stage = max((scope.ends[one] for one in needed[name]), default=scope.stage)
            scope.steps[name], scope.ends[name] = self._step(name, config.steps[name], scope, stage)
        returns = default_returns(config) if config.returns is None else config.returns
        return self._size(returns, scope), max(scope.ends.values(), default=scope.stage)

    def _step(self, name: str, step: WorkflowStep, scope: _Scope, stage: int) -> tuple[Size, int]:
        place = "/".join((*scope.stack[1:], name))
        compensation = step.compensate
        again = compensation.times if compensation is not None and compensation.do == "retry" else 0
        tries = 1 + (step.retry.times if step.retry is not None else 0) + again
        size, end = self._action(step, scope, scope.times * tries, stage, place)
        if compensation is not None and compensation.action is not None:
            other, end = self._action(compensation.action, scope, scope.times * max(1, again), end, place)
            size = max(size, other)
        if compensation is not None and compensation.value is not None:
            size = max(size, self._size(compensation.value, scope))
        if step.undo is not None:
            scope.steps[name] = size  # which it may read
            self._action(step.undo, scope, scope.times, end + 1, place)
        return size, end

    def _action(
        self, action: WorkflowAction, scope: _Scope, times: int, stage: int, place: str, item: Size = NONE
    ) -> tuple[Size, int]:
        """What an action that is done so many `times` comes to: the size of its output, and its last stage."""
        whole_result = Size(self._limits.max_result_bytes, EXPECTED_OUTPUT_TOKENS)
        if action.orchestration is not None:
            plain = action.orchestration.model_dump(mode="json", by_alias=True, exclude_none=True)
            return self._asked(plain, self._size(plain.pop("input"), scope, item), times, stage, place)
        if action.tool is not None:
            spec = self._tool(action.tool.name)
            if spec is None or spec.source == "orchestration":
                self._unknown[place] = None
                return whole_result, stage
            self._tools_usd += spec.cost_usd * times
            return Size(spec.max_result_bytes, EXPECTED_OUTPUT_TOKENS), stage
        if action.workflow is not None:
            return self._called(action.workflow, scope, times, stage, place, item)
        if action.switch is not None:
            cases = [*action.switch.cases, *([action.switch.default] if action.switch.default is not None else [])]
            return self._largest(cases, scope, times, stage, place, item)
        if action.map is not None:
            over = self._items(action.map.over, action.map.max_items, scope)
            size, end = self._action(action.map.do, scope, times * over, stage, place, self._size(action.map.over, scope, item))
            return size.times(over), end
        if action.transform is not None and action.transform.expression is None:
            return self._size(action.transform.value, scope, item), stage
        return whole_result, stage

    def _asked(self, asked: JsonObject, prompt: Size, times: int, stage: int, place: str) -> tuple[Size, int]:
        try:
            if any(True for _ in in_value({name: value for name, value in asked.items() if name != "schema"})):
                raise InvalidRequest("others decide what is asked")
            calls, json = self._ask(asked)
        except QuorumError:
            self._unknown[place] = None
            return Size(self._limits.max_result_bytes, EXPECTED_OUTPUT_TOKENS), stage
        for call in calls:
            more = with_more_input(call, prompt.most, prompt.usual, quoted=json)
            self._calls.append(replace(more, times=times, stage=stage + call.stage))
        written = max((call.output_tokens for call in calls), default=0)
        answer = Size(written * QUOTED_GROWTH, min(written, EXPECTED_OUTPUT_TOKENS))
        return answer, stage + max((call.stage for call in calls), default=0)

    def _called(self, call: WorkflowCall, scope: _Scope, times: int, stage: int, place: str, item: Size) -> tuple[Size, int]:
        name, most = call.name.partition("@")[0], call.max_depth or MAX_DEPTH
        unknown = Size(self._limits.max_result_bytes, EXPECTED_OUTPUT_TOKENS)
        if scope.stack.count(name) >= most or len(scope.stack) >= MAX_DEPTH:
            return NONE, stage  # which fails there
        if self._levels >= MOST_LEVELS:
            self._unknown[place] = None
            return unknown, stage
        config = self._find(call.name)
        sizes = {member: self._size(value, scope, item) for member, value in call.inputs.items()}
        known = {member: value for member, value in call.inputs.items() if not any(True for _ in in_value(value))}
        for member, schema in config.inputs.items():
            if "default" in schema and member not in sizes:
                sizes[member], known[member] = _literal(schema["default"]), schema["default"]
        size, end = self._level(_Scope(config, sizes, known, (*scope.stack, name), times, stage))
        return min(size, Size(self._limits.max_result_bytes, size.usual)), end

    def _largest(
        self, cases: list[WorkflowAction], scope: _Scope, times: int, stage: int, place: str, item: Size
    ) -> tuple[Size, int]:
        """The case of a switch that takes the most tokens; its output is as large as that of any."""
        before, usd = self._calls, self._tools_usd
        largest: list[PlannedCall] = []
        size, end, dearest = NONE, stage, usd
        for case in cases:
            self._calls, self._tools_usd = [], usd
            other, last = self._action(case, scope, times, stage, place, item)
            size, end, dearest = max(size, other), max(end, last), max(dearest, self._tools_usd)
            if sum(call.tokens for call in self._calls) > sum(call.tokens for call in largest):
                largest = self._calls
        self._calls, self._tools_usd = [*before, *largest], dearest
        return size, end

    # ---- sizes

    def _items(self, over: Any, most: int, scope: _Scope) -> int:
        """How many items a map has at most."""
        if isinstance(over, list | tuple):
            return min(most, len(cast("list[Any]", over)))
        reference = whole(over) if isinstance(over, str) else None
        path = reference.plain if reference is not None else None
        found = scope.known.get(str(path[1])) if path is not None and len(path) == 2 and path[0] == "inputs" else None
        return min(most, len(cast("list[Any]", found))) if isinstance(found, list) else most

    def _size(self, value: Any, scope: _Scope, item: Size = NONE) -> Size:
        """The size of a value with references."""
        size = _literal(value)
        for _, reference in in_value(value):
            size += self._referred(reference, scope, item)
        return size

    def _referred(self, reference: Reference, scope: _Scope, item: Size) -> Size:
        found = NONE
        for path in reference.paths:
            root, name = path[0], str(path[1]) if len(path) > 1 else None
            if root == "steps" and name is not None:
                found = max(found, scope.steps.get(name, NONE) + Size(SMALL, 0))
            elif root == "inputs":
                named = [*scope.inputs.values()] if name is None else [scope.inputs.get(name, NONE)]
                found = max(found, sum(named, NONE))
            elif root == "item":
                found = max(found, item)
            else:
                found = max(found, Size(SMALL, SMALL // BYTES_PER_TOKEN))
        return found


def _literal(value: Any) -> Size:
    """A value that is known: a token stands for at least one byte."""
    size = len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value))
    return Size(size, size // BYTES_PER_TOKEN)
