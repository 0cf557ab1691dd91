"""How the targets of a planner stand for one run: who can be asked or called now, what that takes, and how good it will be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from app.config.planning import PlanTarget
from app.core.budgets import NANO, nano_usd
from app.core.chat import NamedTool
from app.core.errors import InvalidRequest, NotFound, QuorumError
from app.core.runs import PlanRequest
from app.core.templates import filled_value
from app.core.tools import ToolSpec
from app.observability.paces import usual_tool_seconds
from app.orchestration.adaptive.prospects import Prospect
from app.orchestration.adaptive.ways import pooled
from app.orchestration.charging import foreseen
from app.orchestration.context import RunContext
from app.orchestration.delegating import Delegates
from app.orchestration.estimating import expected
from app.orchestration.learning.hashing import asked_text
from app.orchestration.learning.history import ENOUGH_JUDGED
from app.orchestration.outlook import outlook
from app.orchestration.planning.planner import OrchestrationWay, Promise, Surveyed, ToolWay, label_of
from app.orchestration.tools.offering import caller_of
from app.reliability.forecast import Forecast
from app.tools.execution import checked
from app.tools.registry import Registered
from app.tools.toolbox import Toolbox

_PANELS: Final = frozenset({"consensus", "simple"})
"""Strategies that make one answer of several, which is right more often than each of them."""


@dataclass(frozen=True, slots=True)
class RunSurvey:
    """The survey of one run.

    Parameters:
        request: what is planned.
        context: the surroundings of the run.
        delegates: who prepares strategies for it.
    """

    request: PlanRequest
    context: RunContext
    delegates: Delegates

    def of(self, target: PlanTarget) -> Surveyed:
        """How `target` stands."""
        try:
            return self._tool(target) if target.tool is not None else self._orchestration(target)
        except QuorumError as error:
            return Surveyed(target, label_of(target), obstacle=error.message, error=error)

    # ---- tools

    def _tool(self, target: PlanTarget) -> Surveyed:
        """Raises QuorumError: there is no such tool, or its arguments do not fit."""
        toolbox = self.context.toolbox
        if toolbox is None:
            raise InvalidRequest("this runtime has no tools of its own", param="options.tool_name")
        self._check_asked()
        registered = _found(toolbox, target.tool or "")
        spec = registered.spec
        self._check_inside(spec)
        arguments = {**filled_value(target.arguments, self._values()), **self.request.arguments}
        way = ToolWay(registered, _checked(registered, arguments, toolbox))
        label = f"tool {spec.reference}"
        seconds = usual_tool_seconds(spec.name)
        return Surveyed(target, label, way, self._tool_obstacle(registered, toolbox, seconds), None, spec.cost_usd, seconds)

    def _check_asked(self) -> None:
        """Raises InvalidRequest: something is asked for that no tool does."""
        run = self.context.request
        form = run.generation.response_format
        if run.generation.n > 1:
            raise InvalidRequest(f"n is {run.generation.n}, and a tool that is run directly gives one result", param="n")
        if form is not None and form.type != "text":
            message = f"response_format asks for {form.type}, and a tool that is run directly gives what it gives"
            raise InvalidRequest(message, param="response_format")
        if run.tool_choice == "required" or isinstance(run.tool_choice, NamedTool):
            message = "tool_choice asks for a call by a model, and a tool that is run directly asks none"
            raise InvalidRequest(message, param="tool_choice")

    def _check_inside(self, spec: ToolSpec) -> None:
        """Raises InvalidRequest: this run is a part of a tool, which reads, and must not call itself."""
        inside = self.context.inside
        if inside is None:
            return
        if spec.name in inside.within:
            raise InvalidRequest(f"this is a part of the tool {spec.name!r} itself ({' -> '.join(inside.within)})")
        if spec.side_effect == "write":
            raise InvalidRequest(f"the tool {spec.name!r} writes, and this is a part of a tool, which only reads")

    def _values(self) -> dict[str, Any]:
        """What the arguments of a rule may be made of."""
        request = self.request
        return {
            "text": request.facts["text"],
            "attributes": request.attributes,
            "metadata": request.metadata,
            "tenant": request.tenant,
            "type": request.type,
        }

    def _tool_obstacle(self, registered: Registered, toolbox: Toolbox, seconds: float | None) -> str | None:
        spec, request = registered.spec, self.request
        decision = toolbox.beforehand(registered, caller_of(self.context))
        if decision.effect == "deny" and not decision.depends:
            return f"it is not permitted: {decision.reason}"
        if registered.tool.unavailable is not None:
            return f"the tool {spec.name!r} is not available: {registered.tool.unavailable}"
        most = request.budget.cost_usd
        if most is not None and spec.cost_usd > most:
            return f"a call costs ${spec.cost_usd:g}, and budget.cost_usd is {most:g}"
        return _too_slow(seconds, request.seconds_left)

    # ---- orchestrations

    def _orchestration(self, target: PlanTarget) -> Surveyed:
        """Raises QuorumError: it cannot do what is asked, or its options or models are wrong."""
        strategy, inner = self.delegates.prepared(target, self.context)
        found, stated = foreseen(strategy, inner.request, inner)
        told = expected(found)
        reserved = found.first_stage if strategy.loops_in(inner) else found
        obstacle = (
            self._all_open(inner)
            or self._too_dear(reserved)
            or _too_slow(expected(reserved).seconds, self.request.seconds_left)
        )
        way = OrchestrationWay(strategy, inner, found, stated)
        return Surveyed(target, label_of(target), way, obstacle, None, told.cost_usd, told.seconds)

    def _all_open(self, inner: RunContext) -> str | None:
        """Whether the circuit breakers of all its models refuse calls."""
        if inner.standings is None or not inner.models:
            return None
        waits = [inner.standings.of(model.profile).open_s for model in inner.models]
        if not all(wait > 0 for wait in waits):
            return None
        names = ", ".join(repr(model.profile.name) for model in inner.models)
        whose = "of all its models" if len(waits) > 1 else "of its model"
        return f"the circuit breaker {whose} is open for {min(waits):.1f} s more ({names})"

    def _too_dear(self, reserved: Forecast) -> str | None:
        """Whether the budget of the request does not hold its worst case."""
        budget = self.request.budget
        if self.context.spending.needs_prices and reserved.unpriced:
            return f"the price of {', '.join(map(repr, reserved.unpriced))} is not known, and dollars are counted"
        need = reserved.least if budget.on_budget == "best_so_far" else reserved.amount
        if budget.tokens is not None and need.tokens > budget.tokens:
            return f"it may use {need.tokens:,} tokens, and budget.tokens is {budget.tokens:,}"
        if budget.cost_usd is not None and need.nano_usd > nano_usd(budget.cost_usd):
            return f"it may cost ${need.nano_usd / NANO:.6f}, and budget.cost_usd is {budget.cost_usd:g}"
        return None

    # ---- what is expected of answers

    def promise(self, surveyed: Surveyed) -> Promise | None:
        """How good its answer will be, by what is known of its models for such tasks."""
        way = surveyed.way
        if not isinstance(way, OrchestrationWay) or not way.context.models:
            return None
        learned = self.context.lessons.success(asked_text(self.context.request.messages), (self.context.category,))
        members = [Prospect(model, outlook(self.context, model.profile, learned), None, None) for model in way.context.models]
        known = any(one.name in learned or one.outlook.judged >= ENOUGH_JUDGED for one in members)
        return Promise(self._quality(way.strategy.name, members), known)

    def _quality(self, strategy: str, members: list[Prospect]) -> float:
        first, fails = members[0], math.prod(1 - one.outlook.success for one in members)
        if strategy in _PANELS and len(members) > 1:
            weights = self.context.lessons.weights([one.model.profile for one in members])
            return (1 - fails) * pooled(members, weights)
        if strategy == "fallback":
            quality, reached = 0.0, 1.0
            for one in members:
                quality += reached * one.good
                reached *= 1 - one.outlook.success
            return quality
        if strategy == "parallel":
            return (1 - fails) * sum(one.outlook.quality for one in members) / len(members)
        return max(one.good for one in members) if strategy == "adaptive" else first.good


def _found(toolbox: Toolbox, reference: str) -> Registered:
    try:
        return toolbox.find(reference)
    except NotFound as error:
        raise InvalidRequest(error.message, param="options.tool_name") from None


def _checked(registered: Registered, arguments: dict[str, Any], toolbox: Toolbox) -> dict[str, Any]:
    try:
        return checked(registered, arguments, toolbox.config.max_arguments_bytes)
    except InvalidRequest as error:
        path = (error.param or "arguments").replace("arguments", "options.tool_options", 1)
        message = error.message.replace(error.param or "arguments", path, 1)
        raise InvalidRequest(message, param=path) from None


def _too_slow(seconds: float | None, left: float | None) -> str | None:
    if seconds is None or left is None or seconds <= left:
        return None
    return f"it takes {seconds:.1f} s as a rule, and {max(left, 0.0):.1f} s are left"
