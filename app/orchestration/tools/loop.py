"""The loop of a model and its tools.

A step is one call of a model, and the calls of tools that it asks for:

1. The model is asked, with all that was said so far. Where it fails, the run's next model goes on in its place.
2. Its calls are sorted: those of tools of the service are made here, at once; those of the client's own end the run, and are
   handed to the client after the others were made.
   Where some of them need a person first, the run pauses then: the others were made, and who goes on with it makes these.
3. What the tools said goes back to the model, in the order of its calls, and the next step begins.

An answer without calls ends the loop. In the last step, and where a model goes round in circles, no tool may be called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import chain, count
from typing import Final

from app.core.approvals import Approval
from app.core.chat import ToolChoice
from app.core.errors import BudgetExceeded, InvalidRequest, OrchestratorError
from app.core.messages import Message, ToolCallPart
from app.core.models import Model
from app.core.run_events import OutputDelta, OutputReset, RunEvent, RunFinished, RunPaused, Warning
from app.core.run_fold import output_deltas
from app.core.streams import merge
from app.orchestration.calls import CandidateCall
from app.orchestration.context import RunContext
from app.orchestration.tools.asking import Asking, Seat
from app.orchestration.tools.calling import LEAST_RESULT_BYTES, STEP_RESULT_BYTES, ServedCall, Terms, key_of, result_part
from app.orchestration.tools.offering import Offer, caller_of
from app.orchestration.tools.options import LoopOptions
from app.orchestration.tools.pausing import own_ids, paused_by
from app.orchestration.tools.turns import Kept, Turn, handed_over, keep, said, speaker_of, transcript
from app.tools.execution import arguments_of, checked

MOST_CALLS: Final = 32
"""Calls of one step that are made; what a model asks for beyond them is left out."""
REPAIRS: Final = 2
"""How often in a run arguments that do not fit are only told to the model, where tools that fail are to fail the run."""
SHORT_ANSWER: Final = 256
"""Tokens of the answer that is asked for where the budget holds no more."""
CIRCLES: Final = 2
"""Steps in a row that only repeat the calls before them, after which the model must answer."""


class ToolLoop:
    """The steps of `models` with tools. When `events` is over, `ending` is there (its end, or that it
    waits for a person), or `held` are calls that wait to be chosen.

    Parameters:
        turns: the conversation.
        models: the first is asked; where it fails, the next goes on.
        seat: where the loop is a member's of a panel. It stops at calls that are made for the winner alone.
        output: whether what is said is the run's answer.
    """

    ending: RunFinished | RunPaused
    said: tuple[Message, ...] = ()
    """Once it is over: all that was said in it, as a stored conversation has it."""
    held: tuple[ToolCallPart, ...] = ()
    waiting: tuple[ToolCallPart, ...] = ()
    """Those of `held` that are not to be made for whoever asks."""

    def __init__(
        self,
        context: RunContext,
        offer: Offer,
        turns: Sequence[Turn],
        *,
        models: Sequence[Model],
        options: LoopOptions,
        seat: Seat | None = None,
        output: bool = True,
    ) -> None:
        self._context, self._offer, self._options = context, offer, options
        self.asking = Asking(context, offer, models, seat, output=output)
        self._waits = seat is not None
        self._call_ids = None if seat is None else own_ids(context.run_id, models[0].profile.name, seat.replicate)
        self._unwanted: str | None = None
        self._step = 0
        self._before = tuple(turns)
        self._remembers = len(turns) > len(context.request.messages)  # which the plan did not know of
        self._turns: list[Turn] = []
        self._terms = Terms(context, caller_of(context), options.approval, offer.names)
        self._ids = context.book.tool_call_ids
        if context.conversation is not None:
            self._ids |= _ids_of(turns)
        self._done: frozenset[tuple[str, str]] = frozenset()
        self._made: Counter[str] = Counter()
        self._circles = 0
        self._lack: BudgetExceeded | None = None
        self._repairs = 0
        self._spoken: CandidateCall | None = None
        self._wrote = False
        self._pending: tuple[Approval, ...] = ()

    async def events(self) -> AsyncGenerator[RunEvent]:
        """Ask and act, until there is an answer; after `go_on`, from where it has stopped.

        Raises:
            QuorumError: no model answers, or a tool has failed and is to fail the run.
        """
        while True:
            calls, self.held = self.held, ()
            if not calls:
                try:
                    async with aclosing(self._asked()) as events:
                        async for event in events:
                            yield event
                except BudgetExceeded as lack:
                    if not self._turns or self.ends_run:
                        raise
                    self._lack = lack
                if self._lack is not None:
                    async with aclosing(self._with_what_is_left(self._lack)) as events:
                        async for event in events:
                            yield event
                    return
                calls = self._calls(self.asking.answer)
                if not calls:
                    self._end(self.asking.answer)
                    return
                if self._waits:
                    self.waiting = tuple([call for call in calls if await self._waits_for(call)])
                    if self.waiting:
                        self.held = calls
                        return
            async with aclosing(self._acted(self.asking.answer, calls)) as events:
                async for event in events:
                    yield event
            if self._pending:
                self.ending = paused_by(self._pending)
                return
            if self._handed:
                async with aclosing(self._hand_over(self.asking.answer)) as events:
                    async for event in events:
                        yield event
                return

    def go_on(self, others: Sequence[Model], unwanted: str | None) -> None:
        """The panel has chosen this member: what it says from now on is the output, and it may write; or it may not, for the
        reason `unwanted`. `others` go on where its model fails."""
        self._waits, self._unwanted = False, unwanted
        self.asking.output = True
        self.asking.followed_by(others)

    async def _waits_for(self, call: ToolCallPart) -> bool:
        """Whether `call` is to be made for a winner alone: it writes, or a person must agree to it, or it is the client's."""
        served = self._offer.served.get(call.name)
        if served is None:
            return any(tool.name == call.name for tool in self._offer.client)
        toolbox = self._context.toolbox
        assert toolbox is not None  # noqa: S101 - what is served is served by it
        try:
            valid = checked(served, arguments_of(call.arguments), toolbox.config.max_arguments_bytes)
        except InvalidRequest:  # which the model is told of at once
            return False
        if served.spec.side_effect == "write" or self._options.approval == "all":
            return True
        return (await toolbox.decide(served, self._terms.caller, valid)).effect == "approve"

    async def _asked(self) -> AsyncGenerator[RunEvent]:
        """The next step's call of the model."""
        self._step += 1
        if self._forced and self._turns:
            yield Warning(self._why_forced())
        unplanned = self._step > 1 or self._remembers
        turns = [*self._before, *self._turns]
        async with aclosing(self.asking.events(turns, self._step, self._choice(), unplanned=unplanned)) as events:
            async for event in events:
                yield event

    @property
    def _forced(self) -> bool:
        """Whether the model must answer in this step."""
        return self._step == self._options.max_steps or self._circles >= CIRCLES

    def _choice(self) -> ToolChoice:
        """What a step may do with tools: a choice that demands one holds for the first step, or there would be no answer."""
        if self._forced:
            return "none"
        choice = self._context.request.tool_choice
        return choice if self._step == 1 or choice == "none" else "auto"

    def _why_forced(self) -> str:
        if self._circles >= CIRCLES:
            return f"the model asked for the same calls {CIRCLES + 1} times in a row; it must answer without tools"
        return f"after {self._step - 1} steps with tools the model must answer without them (max_steps)"

    def _calls(self, asked: CandidateCall) -> tuple[ToolCallPart, ...]:
        """The calls that the model asks for and may make, each with an id that no other has in the run."""
        if self._forced:
            return ()
        calls: list[ToolCallPart] = []
        for number, call in enumerate(asked.choice.tool_calls[:MOST_CALLS], 1):
            own = self._call_ids is None and call.id and call.id not in self._ids
            unique = call if own else replace(call, id=self._unused(f"{self._step}_{number}"))
            self._ids.add(unique.id)
            calls.append(unique)
        return tuple(calls)

    def _unused(self, number: str) -> str:
        """An id that no call has; always the same, so that one who takes the run over finds it again."""
        longer = f"call_{self._context.run_id.removeprefix('run_')}_{number}"
        names = chain([f"{self._call_ids or 'call'}_{number}", longer], (f"{longer}_{again}" for again in count(2)))
        return next(name for name in names if name not in self._ids)

    # ---- acting

    async def _acted(self, asked: CandidateCall, calls: Sequence[ToolCallPart]) -> AsyncGenerator[RunEvent]:
        """Make the calls of tools of the service, all at once; what is the client's is left in `_handed`.

        Raises:
            ToolExecutionError: one has failed, and is to fail the run.
        """
        left_out = len(asked.choice.tool_calls) - len(calls)
        if left_out:
            yield Warning(f"{left_out} calls of step {self._step} are left out: {MOST_CALLS} may be made in one step")
        own = {tool.name for tool in self._offer.client}
        self._handed = tuple(call for call in calls if call.name in own)
        made = self._made.copy()
        served = [self._served(call, asked, made) for call in calls if call.name not in own]
        if self.asking.shown and not self._handed:
            yield OutputReset("tools are called", aside=True)
        for call in served:
            yield call.called()
        if served:
            limit = self._context.max_concurrent_calls
            async with aclosing(merge([call.events() for call in served], limit=limit)) as events:
                async for event in events:
                    yield event
            self._check(served)
            self._pending = tuple(call.waits_for for call in served if call.waits_for is not None)
        self._note(asked, calls, served)

    def _served(self, call: ToolCallPart, asked: CandidateCall, made: Counter[str]) -> ServedCall:
        """A call, after those `made` before it."""
        registered, repeated = self._offer.served.get(call.name), key_of(call) in self._done
        most = registered.spec.max_calls if registered else None
        made[call.name] += not repeated
        return ServedCall(
            self._terms,
            call,
            self._step,
            registered,
            repeated=repeated,
            too_many=most is not None and made[call.name] > most,
            candidate_id=asked.candidate.id,
            unwanted=self._unwanted,
            asks=not self._waits,
        )

    def _check(self, served: Sequence[ServedCall]) -> None:
        if self._options.on_tool_error != "fail":
            return
        for call in served:
            if call.run.status == "invalid" and self._repairs < REPAIRS:
                self._repairs += 1
            elif call.failure is not None:
                raise call.failure

    def _note(self, asked: CandidateCall, calls: Sequence[ToolCallPart], served: Sequence[ServedCall]) -> None:
        """What was said and done in a step, for the steps after it."""
        choice, profile = asked.choice, asked.model.profile
        self._spoken = asked if choice.text.strip() else self._spoken
        self._turns.append(Turn(said(choice.text, choice.reasoning_parts, calls), speaker_of(profile)))
        if not served:
            return
        room = max(LEAST_RESULT_BYTES, STEP_RESULT_BYTES // len(served))
        self._turns.append(Turn(Message("tool", tuple(result_part(call.run, room) for call in served))))
        self._circles = self._circles + 1 if all(call.run.status == "repeated" for call in served) else 0
        self._done = frozenset(key_of(call.part) for call in served if call.done)
        self._made.update(call.run.name for call in served if call.run.started_at)
        self._wrote = self._wrote or any(call.run.started_at and call.run.side_effect == "write" for call in served)

    # ---- ending

    @property
    def ends_run(self) -> bool:
        """Whether a call that the budget does not hold ends the run with that failure, whatever was said before it."""
        purse = self._context.spending.purse
        return purse is None or purse.ends_run

    async def _with_what_is_left(self, lack: BudgetExceeded) -> AsyncGenerator[RunEvent]:
        """The budget holds no further step: a short answer where it holds that, else what was said last.

        Raises:
            BudgetExceeded: `lack`, where nothing was said.
        """
        yield Warning(f"the budget holds no further step ({lack.message}); a short answer is asked for, without tools")
        try:
            turns = [*self._before, *self._turns]
            short = self.asking.events(turns, self._step, "none", unplanned=True, at_most=SHORT_ANSWER)
            async with aclosing(short) as events:
                async for event in events:
                    yield event
        except BudgetExceeded:
            spoken = self._spoken
            if spoken is None or self._waits:
                raise lack from None
            yield Warning(f"the budget holds no answer; the output is what {spoken.profile_name!r} said last, before its tools")
            yield OutputDelta(0, "text", spoken.choice.text)
            self._keep(spoken)
            self.ending = _cut(spoken.ending())
        else:
            self._end(self.asking.answer)

    async def _hand_over(self, asked: CandidateCall) -> AsyncGenerator[RunEvent]:
        """Give the client its calls. Where tools of the service were called, too, that is kept until it comes back."""
        calls, ids = self._handed, dict[str, str]()
        if any(turn.speaker is None for turn in self._turns):
            ids = handed_over(self._context.run_id, calls)
            if self._context.conversation is None:
                note = await keep(self._context, Kept(tuple(self._turns), ids), wrote=self._wrote)
                if note is not None:
                    yield Warning(note)
            calls = tuple(replace(call, id=handed) for call, handed in zip(calls, ids, strict=True))
        self.said = transcript(self._turns, ids)
        for event in output_deltas(
            replace(asked.choice, text="", reasoning="", reasoning_parts=(), refusal="", tool_calls=calls)
        ):
            yield event
        self.ending = asked.ending()

    def _end(self, asked: CandidateCall) -> None:
        """The answer stands.

        Raises:
            OrchestratorError: it is none: the model still asks for tools where it may not.
        """
        ending = asked.ending()
        if asked.choice.tool_calls:
            if not asked.choice.text.strip():
                message = f"{asked.profile_name!r} gave no answer in {self._options.max_steps} steps; it only asks for tools"
                raise OrchestratorError(message)
            ending = replace(ending, endings=tuple(replace(one, finish_reason="stop") for one in ending.endings))
        self._keep(asked)
        self.ending = ending

    def _keep(self, asked: CandidateCall) -> None:
        """What `asked` said is the answer, and ends the conversation."""
        choice = asked.choice
        last = said(choice.text or choice.refusal, choice.reasoning_parts, ())
        self.said = transcript([*self._turns, Turn(last, speaker_of(asked.model.profile))], {})


def _cut(ending: RunFinished) -> RunFinished:
    return replace(ending, endings=tuple(replace(one, finish_reason="length") for one in ending.endings))


def _ids_of(turns: Sequence[Turn]) -> set[str]:
    return {part.id for turn in turns for part in turn.message.parts if isinstance(part, ToolCallPart)}
