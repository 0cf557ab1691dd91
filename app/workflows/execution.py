"""One run of a workflow.

A workflow's steps are all at hand at once, and each begins when those are over that it needs:

1. What the journal shows done is not done again.
2. A step whose needs were skipped, or whose condition does not hold, is skipped.
3. It is tried, again where it failed and may pass, and then answered for as its `compensate` says.
4. Its result is written down before anybody goes on because of it.

Where a step fails for good, or the run is asked to end, nothing new begins in its workflow; what writes is let end, the rest is
cut. That is written down, and what was done is undone, the last first. Then the workflow has failed, as a step of the one
around it may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from pydantic import TypeAdapter

from app.core.approvals import Approval
from app.core.errors import ErrorReport, OrchestratorError, report
from app.core.run_events import ApprovalDecided, HelperFinished, RunEvent, StepCompensated, ToolReturned, Warning
from app.core.streams import merge
from app.orchestration.stopping import Stop
from app.workflows.doing import Actions, Doing
from app.workflows.failing import CANCELLED, UNCERTAIN, LevelFailed, StepFailed, StepWaits, named
from app.workflows.graph import default_returns
from app.workflows.journal import ITEMS, UNDO, Done
from app.workflows.levels import Level, Values
from app.workflows.middleware import Hooks
from app.workflows.outcome import Outcome, Tally
from app.workflows.references import filled
from app.workflows.running import Running
from app.workflows.stepping import StepRun
from app.workflows.undoing import undo_of_items

UNDO_S: Final = 60.0
"""How long an undo may take whose step says nothing: the run's own time may be over by then."""
UNDOING_S: Final = 900.0
"""How long all undos of a run may take together."""
NOT_MADE: Final = ("running", "needs_approval")
"""How a call of a tool stands that was not made."""
_ERROR: Final = TypeAdapter(ErrorReport)


class Execution:
    """A run of a workflow, and of those inside of it."""

    def __init__(self, running: Running) -> None:
        self.unsettled = Tally()
        """What was done before and is not settled: it is told again, and not booked yet."""
        self._running = running
        self._actions = Actions(running, self.level)

    async def told_again(self) -> AsyncGenerator[RunEvent]:
        """What was done before, which is this run's: what had come of it when it was last paused, and the calls of steps that
        have ended since."""
        context, took = self._running.context, self._running.took
        before = context.past.before
        settled = before.calls if before is not None else ()
        paid = {tool.id for tool in before.tool_calls if tool.status not in NOT_MADE} if before is not None else set[str]()
        if before is not None:
            notes = Counter(context.conversation.notes if context.conversation else ())  # which are told already
            for message in (Counter(before.warnings) - notes).elements():
                yield Warning(message)
            for decided in await self._decided(before.approvals):
                yield ApprovalDecided(decided)
        calls, tools = self._running.journal.told()
        later = [call for call in calls if call not in settled]
        for call in (*settled, *later):
            event = HelperFinished(call)
            took.add(event)
            yield event
        self.unsettled.calls.extend(later)
        for tool in tools:
            event = ToolReturned(tool)
            took.add(event)
            if tool.id not in paid:
                self.unsettled.add(event)
            yield event

    async def _decided(self, approvals: Sequence[Approval]) -> list[Approval]:
        """Those of steps that are over, and so ask for them no more."""
        context, found = self._running.context, list[Approval]()
        for one in approvals:
            path = one.call_id.rpartition("#")[0] or one.call_id
            if one.status != "pending":
                found.append(one)
            elif context.approvals is not None and self._running.journal.is_over(path):
                found += await context.approvals.became(context.request.tenant, one.call_id)
        return found

    async def level(self, level: Level) -> AsyncGenerator[RunEvent]:
        """Run a workflow; its `output` is there when this is over.

        Raises:
            StepFailed: it has failed, and what was done in it is undone.
            StepWaits: something must come first.
        """
        known = self._running.journal.failure(level.path)
        if known is None:
            hooks = Hooks(level.config.middleware)
            sources = [StepRun(self._running, self._actions, level, name, hooks).events() for name in level.config.steps]
            stop = self._running.context.hosting.stop
            if stop is not None and level.first:
                sources.insert(0, self._stopped(level, stop))
            try:
                async with aclosing(merge(sources)) as events:
                    async for event in events:
                        yield event
            except LevelFailed:
                pass
            else:
                self._return(level)
            await self._running.note_cuts()
            self._doubt(level)
            if level.failure is not None and level.failure.code != UNCERTAIN:
                for warning in await self._partly_done(level):
                    yield warning
                await self._running.journal.fail(level.path, level.failure, level.failed_step)
        else:
            level.failure = _ERROR.validate_python(known["error"])
        if level.failure is not None:
            if level.failure.code != UNCERTAIN:
                async with aclosing(self._undo_all(level.path)) as events:
                    async for event in events:
                        yield event
            raise StepFailed(level.failure)
        if len(level.results) < len(level.config.steps):
            raise StepWaits

    def _doubt(self, level: Level) -> None:
        """Where nobody knows of a write in it whether it took effect, that is what a workflow has failed with."""
        effects = self._running.acting.effects
        step = effects.step(level.path)
        if level.failure is None or level.failure.code == UNCERTAIN or step is None:
            return
        level.failure, level.failed_step = named(effects.of(level.failure, level.path, last=True), step), step

    async def _partly_done(self, level: Level) -> list[Warning]:
        """Write down what takes back the items that were done of maps that were not. Of what is too large a warning tells."""
        journal, told = self._running.journal, list[Warning]()
        values = Values(level, self._running.facts)
        for name, step in level.config.steps.items():
            if name in level.results:
                continue
            try:
                undo = undo_of_items(step, name, values, journal)
            except StepFailed as failed:
                told.append(Warning(f"the items of {level.path + name!r} could not be undone: {failed.error.message}"))
            else:
                if undo is not None:
                    await journal.partly(level.path + name, undo)
        return told

    def _return(self, level: Level) -> None:
        """Make the output of a workflow whose steps are all over; one that is too large is its failure."""
        if len(level.results) < len(level.config.steps):
            return
        returns = default_returns(level.config) if level.config.returns is None else level.config.returns
        try:
            level.output = filled(returns, Values(level, self._running.facts).leniently, missing=None)
        except OrchestratorError as error:
            level.failure = replace(report(error), message=f"returns: {error.message}")

    async def _stopped(self, level: Level, stop: Stop) -> AsyncGenerator[RunEvent]:
        """No events: where the run is asked to end before its steps are over, it fails.

        Raises:
            LevelFailed: it is.
        """
        await stop.wait()
        if stop.asked and not level.ended:
            level.failure = stop.why or report(OrchestratorError("the run was cancelled", code=CANCELLED))
            await self._running.writes_over()
            raise LevelFailed
        return
        yield

    # ---- undoing

    async def _undo_all(self, prefix: str) -> AsyncGenerator[RunEvent]:
        """Take back what was done under `prefix`, the last first. What cannot be taken back is told, and the rest goes on."""
        last = self._running.now() + UNDOING_S
        for done in self._running.journal.to_undo(prefix):
            outcome = Outcome()
            try:
                async with aclosing(self._undo(done, last, outcome)) as events:
                    async for event in events:
                        yield event
            except StepFailed as failed:
                yield Warning(f"the step {done.path!r} could not be undone: {failed.error.message}")
                yield StepCompensated(done.path, "undo_failed")
            else:
                yield StepCompensated(done.path, "undo")
            await self._running.journal.undone(done, *outcome.recorded())

    async def _undo(self, done: Done, last: float, outcome: Outcome) -> AsyncGenerator[RunEvent]:
        """Take one back by the time `last`.

        Raises:
            StepFailed: it cannot be.
        """
        now = self._running.now()
        if now >= last:
            message = f"there was no time left to undo it: all undos together may take {UNDOING_S:g} s"
            raise StepFailed(OrchestratorError(message, code="step_timeout"))
        until = min(last, now + (done.undo.get("timeout_s") or UNDO_S))
        path = f"{done.path}{ITEMS if done.of_items else ''}{UNDO}"
        source = self._actions.ready(done.undo, Doing(path, 1, until), outcome)
        async with aclosing(self._running.in_time(source, until)) as events:
            async for event in events:
                yield event
