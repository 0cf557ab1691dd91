"""tools: a model that acts, until it can answer.

A run goes through these phases:

    offer (`wanted`, `permitted`)   which tools the models are told of
    remember (`conversation`)       what earlier runs of the conversation had said with tools of the service
    loop (`ToolLoop`)               the model asks, tools answer, step by step
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import ClassVar

from app.core.chat import NamedTool, ToolDefinition
from app.core.errors import InvalidRequest
from app.core.models import Model
from app.core.run_events import HelperFinished, PlanMade, RunEvent, Warning
from app.core.runs import PlanDecision, RunRequest
from app.orchestration.base import BaseOrchestrator, StrategyOptions
from app.orchestration.context import RunContext
from app.orchestration.tools.calling import STEP_RESULT_BYTES
from app.orchestration.tools.loop import ToolLoop
from app.orchestration.tools.offering import Offer, caller_of, permitted, wanted
from app.orchestration.tools.options import ToolOptions
from app.orchestration.tools.pausing import may_wait
from app.orchestration.tools.turns import conversation, transcript
from app.reliability.forecast import PlannedCall


class ToolOrchestrator(BaseOrchestrator):
    """Lets a model call tools of the service, and of the client, until it answers."""

    name: ClassVar[str] = "tools"
    summary: ClassVar[str] = "A model and tools: it asks for them, they are run where permitted, until it can answer."
    Options: ClassVar[type[StrategyOptions]] = ToolOptions
    brings_tools: ClassVar[bool] = True
    loops: ClassVar[bool] = True

    def check(self, request: RunRequest, context: RunContext) -> None:
        if request.generation.n > 1:
            message = f"n is {request.generation.n}, but 'tools' makes one answer; leave n out, or use 'direct'"
            raise InvalidRequest(message, param="n")
        offer = _wanted(request, context)
        choice = request.tool_choice
        if choice == "required" and not offer.names:
            raise InvalidRequest("tool_choice 'required' needs tools", param="tool_choice")
        if isinstance(choice, NamedTool) and choice.name not in offer.names:
            raise InvalidRequest(f"tool_choice names {choice.name!r}, which is not among the tools", param="tool_choice")
        context.settled = offer

    def may_pause(self, context: RunContext) -> bool:
        return may_wait(context, context.settled)

    def plan(self, request: RunRequest, context: RunContext) -> PlanDecision:
        options: ToolOptions = context.options
        offer: Offer = context.settled
        first, *others = (model.profile.name for model in context.models)
        then = f"; {', '.join(repr(name) for name in others)} would go on in its place" if others else ""
        many = "1 tool" if len(offer.names) == 1 else f"{len(offer.names)} tools"
        reason = f"{first!r} answers with {many} at hand, in {options.max_steps} steps at most{then}"
        return PlanDecision("tools", (first,), fallbacks=tuple(others), reason=reason)

    def worst_case(self, request: RunRequest, context: RunContext) -> Sequence[PlannedCall]:
        """`max_steps` calls of the costliest model, each with what was said before it and all results of tools."""
        options: ToolOptions = context.options
        offer: Offer = context.settled
        calls: list[PlannedCall] = []
        for step in range(1, options.max_steps + 1):
            asked = [self._step(context, model, offer.definitions(context, model.profile), step) for model in context.models]
            calls.append(max(asked, key=lambda call: (call.nano_usd or 0, call.tokens)))
        return calls

    def _step(self, context: RunContext, model: Model, tools: tuple[ToolDefinition, ...], step: int) -> PlannedCall:
        before = step - 1
        return context.planned(model, stage=step, quoting=before, tools=tools, results=before * STEP_RESULT_BYTES)

    async def run(self, request: RunRequest, context: RunContext) -> AsyncIterator[RunEvent]:
        offer = await permitted(context.settled, context.toolbox, caller_of(context))
        yield PlanMade(self.plan(request, context))
        before = context.past.before
        for call in before.calls if before else ():  # of tools that asked models, which are not run again
            yield HelperFinished(call)
        turns, notes = await conversation(context)
        for note in (*offer.notes, *notes):
            yield Warning(note)
        loop = ToolLoop(context, offer, turns, models=context.models, options=context.options)
        async with aclosing(loop.events()) as events:
            async for event in events:
                yield event
        if context.conversation is not None:
            context.conversation.new = transcript(turns[request.history :], {})
            context.conversation.said = loop.said
        yield loop.ending


def _wanted(request: RunRequest, context: RunContext) -> Offer:
    options: ToolOptions = context.options
    return wanted(context.toolbox, options.tools, request.tools, context.inside)
