"""Panels whose members act with tools: what they are offered, who they are, what they may take, and what the winner does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from app.core.chat import Generation, NamedTool
from app.core.errors import InvalidRequest
from app.core.messages import Message, ToolCallPart
from app.core.models import Model
from app.core.run_events import RunEvent, Warning
from app.core.runs import RunRequest, RunStatus
from app.orchestration.calls import Member
from app.orchestration.context import RunContext
from app.orchestration.tools.asking import Seat
from app.orchestration.tools.calling import STEP_RESULT_BYTES
from app.orchestration.tools.member import ToolMember
from app.orchestration.tools.offering import Offer, caller_of, permitted, wanted
from app.orchestration.tools.options import PanelOptions
from app.orchestration.tools.pausing import may_wait
from app.orchestration.tools.resuming import Chosen
from app.orchestration.tools.turns import Turn, conversation, transcript
from app.reliability.forecast import PlannedCall

_SHOWN: Final = 200
"""Characters of arguments that a warning shows."""


def check_tools(request: RunRequest, context: RunContext) -> None:
    """Refuse what cannot be offered, before anything is called.

    Raises:
        InvalidRequest: naming the member at fault.
    """
    offer = _offer(context)
    if offer is None:
        return
    choice = request.tool_choice
    if request.generation.n > 1:
        message = f"n is {request.generation.n}, but whoever acts with tools makes one answer; leave n or options.tools out"
        raise InvalidRequest(message, param="n")
    if isinstance(choice, NamedTool) and choice.name not in offer.names:
        raise InvalidRequest(f"tool_choice names {choice.name!r}, which is not among the tools", param="tool_choice")
    if not any(model.profile.capabilities.tools for model in context.models):
        raise InvalidRequest("none of the models can call tools; choose others, or leave options.tools out", param="models")


@dataclass(frozen=True, slots=True)
class Seating:
    """Seats the members of a run: they are asked once, or act with what is offered. `notes` are to be told."""

    context: RunContext
    offer: Offer | None = None
    turns: tuple[Turn, ...] = ()
    notes: tuple[str, ...] = ()

    def member(
        self,
        model: Model,
        messages: tuple[Message, ...] | None = None,
        *,
        replicate: int = 0,
        layer: int = 1,
        generation: Generation | None = None,
        output: bool = False,
    ) -> Member:
        """A member who is asked the run's question, or `messages` in its place. One whose model cannot call tools answers
        without."""
        context, offer = self.context, self.offer
        if offer is None or not model.profile.capabilities.tools:
            return context.ask(
                model,
                messages,
                replicate=replicate,
                layer=layer,
                generation=generation,
                tools=None if offer is None else (),
                output=output,
                trims=True,
            )
        seat = Seat(context.book.next_id(), replicate, generation)
        return ToolMember(context, offer, model, self._turns(messages), seat, output=output)

    def winner(
        self, choice: Chosen, messages: tuple[Message, ...] | None = None, *, generation: Generation | None = None
    ) -> ToolMember:
        """Who had won before the run was paused, asked as it was asked then.

        Raises:
            InvalidRequest: the tools are not there any more.
        """
        if self.offer is None:
            raise InvalidRequest("the run had tools, which are not offered any more", param="options.tools")
        seat = Seat(choice.seat, choice.replicate, generation)
        return ToolMember(self.context, self.offer, choice.model, self._turns(messages), seat, output=True)

    def _turns(self, messages: tuple[Message, ...] | None) -> Sequence[Turn]:
        return self.turns if messages is None else [Turn(message) for message in messages]


async def seating(context: RunContext) -> Seating:
    """Who sits in this run's panel, as its options say."""
    offer = _offer(context)
    if offer is None:
        return Seating(context)
    offer = await permitted(offer, context.toolbox, caller_of(context))
    turns, notes = await conversation(context)
    if context.conversation is not None:
        context.conversation.new = transcript(turns[context.request.history :], {})
    without = [model.profile.name for model in context.models if not model.profile.capabilities.tools]
    lacking = (f"{', '.join(map(repr, without))} cannot call tools, and answers without",) if without else ()
    return Seating(context, offer, tuple(turns), (*offer.notes, *notes, *lacking))


def worst_steps(context: RunContext, model: Model, *, prompt: str = "") -> list[PlannedCall]:
    """A member's calls at their worst: one, or one a step, each with what was said before it and all results of tools."""
    offer = _offer(context)
    if offer is None or not model.profile.capabilities.tools:
        return [context.planned(model, prompt=prompt)]
    tools = offer.definitions(context, model.profile)
    return [
        context.planned(model, stage=step + 1, quoting=step, prompt=prompt, tools=tools, results=step * STEP_RESULT_BYTES)
        for step in range(most_steps(context))
    ]


def most_steps(context: RunContext) -> int:
    """How many stages a panel's members may take."""
    options: PanelOptions = context.options
    return options.max_steps if options.offers_tools else 1


async def concluded(
    winner: Member, members: Sequence[Member], unwanted: str | None = None, status: RunStatus = "succeeded"
) -> AsyncGenerator[RunEvent]:
    """The way of the winner, who wants calls made, to its answer, which is the output, and the end of the run; or to its pause.

    Parameters:
        members: all of the panel; the models of the others go on where the winner's fails.
        unwanted: why a person is to look first at what it writes.
        status: that of the run.
    """
    assert isinstance(winner, ToolMember)  # noqa: S101 - nobody else wants anything
    others = {member.profile_name: member.model for member in members if isinstance(member, ToolMember)}
    others.pop(winner.profile_name, None)
    async with aclosing(winner.go_on(tuple(others.values()), unwanted)) as events:
        async for event in events:
            yield event
    yield winner.end(status)


def waits(context: RunContext, *, unsettled: bool = False) -> bool:
    """Whether a panel may have to wait for a person. `unsettled`: it may leave open whether something is to be written."""
    return may_wait(context, _offer(context), unsettled=unsettled)


def passed_over(members: Sequence[Member], winner: Member | None) -> list[Warning]:
    """What members wanted that is not made, since the panel has chosen otherwise."""
    chosen = winner.wants.label if winner is not None and winner.wants is not None else None
    return [
        Warning(f"{member.profile_name!r} wanted {told(member.wants.calls)}, which is not made: another was chosen")
        for member in members
        if member.wants is not None and member.wants.label != chosen
    ]


def told(calls: Sequence[ToolCallPart]) -> str:
    """Calls, for people to read."""
    return ", ".join(f"{call.name}({call.arguments[:_SHOWN]})" for call in calls)


def _offer(context: RunContext) -> Offer | None:
    options: PanelOptions = context.options
    if not options.offers_tools:
        return None
    return wanted(context.toolbox, options.tools, context.request.tools, context.inside)
